//! A connection to a remote's `civm remote serve`: the probe, the push, the greeting, and then messages.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::keeper::reason::{Kind, Reason};
use super::push::{self, Binaries, Probe, Program};
use super::ssh::Access;
use super::ssh::child::{Cut, STACK, Ssh};
use super::wire::{FromRemote, PROTOCOL, ToRemote};
use crate::edge::environment::Environment;
use crate::edge::{frame, hex};
use crate::host::spec::Arch;
use crate::instance::deadline::scaled;
use crate::instance::plan::{self, Staged};

mod provide;
mod reader;

pub use reader::Waker;
use reader::{Heard, Reader};

/// How long a login and the probe may take together.
const REACH: Duration = Duration::from_secs(45);
/// How long a pushed civm may take for its first line.
const GREET: Duration = Duration::from_secs(60);
/// How long something that is sent may lie before the other side takes it.
const TAKEN: Duration = Duration::from_secs(30);
/// How long an ssh may take to end once its connection is down.
const END: Duration = Duration::from_secs(3);
/// Lines of noise that are shown in a message.
const QUOTED: usize = 5;
/// Messages that may wait to be heard; who sends more is made to wait.
const QUEUE_MAX: usize = 16;

/// What is needed to reach a remote's civm.
pub struct Target<'a> {
    /// The way there.
    pub access: &'a Access,
    /// The machine that will run there: a remote is mostly of the same kind.
    pub arch: Arch,
    /// Whether one of another kind may run there, for which a civm goes along.
    pub emulates: bool,
    /// Words that go before the remote's command.
    pub run_with: &'a [String],
    /// What can be pushed.
    pub binaries: &'a Binaries,
    /// The variables of this run.
    pub environment: &'a Environment,
    /// What cuts the connection.
    pub cut: &'a Cut,
}

/// A connection.
pub struct Link {
    access: Access,
    ssh: Ssh,
    socket: UnixStream,
    heard: Receiver<Heard>,
    waker: Waker,
    noise: Vec<String>,
    /// What was wrong with the last bytes.
    wrong: Option<String>,
    /// How far it has come.
    reached: Reached,
    /// The civm that runs there.
    program: Option<Program>,
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// Nothing of ours has run there yet.
    Nothing,
    /// A shell has run the probe.
    Shell,
    /// A civm has greeted.
    Civm,
}

impl Link {
    /// Logs in, looks at the remote, gives it a civm where it has none, and waits for its greeting.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn open(target: &Target<'_>, tell: &mut dyn FnMut(String)) -> Result<Self, Reason> {
        let native = Arch::native().into_iter();
        let wanted = native.chain((Arch::native() != Some(target.arch)).then_some(target.arch));
        let known = wanted.filter_map(|arch| target.binaries.get(arch, target.environment).ok());
        let known: Vec<_> = known.collect();
        target.access.prepare()?;
        let mut link = Self::start(target, &push::probe(&known))?;
        let probe = link.probe(scaled(REACH, target.environment))?;
        let arch = probe.arch(&link.access.remote)?;
        let program = link.program(arch, &probe, target, tell)?;
        let guest =
            if target.emulates && arch != target.arch { link.guest(&probe, target, tell)? } else { None };
        let line = push::serve(&program, guest.as_deref(), target.run_with);
        link.program = Some(program);
        io::Write::write_all(&mut link.socket, line.as_bytes()).map_err(|_| link.broken())?;
        link.greeting(scaled(GREET, target.environment))?;
        Ok(link)
    }

    fn start(target: &Target<'_>, command: &str) -> Result<Self, Reason> {
        let local = |error: io::Error| Reason::new(Kind::Local, format!("no connection to ssh: {error}"));
        let (socket, theirs) = UnixStream::pair().map_err(local)?;
        socket.set_write_timeout(Some(TAKEN)).map_err(local)?;
        let stdin: OwnedFd = theirs.try_clone().map_err(local)?.into();
        let stdout: OwnedFd = theirs.into();
        let arguments = target.access.master(command);
        let (stdin, stdout) = (Stdio::from(stdin), Stdio::from(stdout));
        let ssh = Ssh::start(&arguments, stdin, stdout, target.environment, target.cut)?;
        let (sender, heard) = sync_channel(QUEUE_MAX);
        let waker = Waker::new(sender.clone());
        let reader = Reader::new(sender);
        let from = socket.try_clone().map_err(local)?;
        thread::Builder::new()
            .name("remote".into())
            .stack_size(STACK)
            .spawn(move || reader.run(from))
            .map_err(local)?;
        let access = target.access.clone();
        Ok(Self {
            access,
            ssh,
            socket,
            heard,
            waker,
            noise: Vec::new(),
            wrong: None,
            reached: Reached::Nothing,
            program: None,
        })
    }

    fn probe(&mut self, within: Duration) -> Result<Probe, Reason> {
        let until = Instant::now() + within;
        let mut lines: Option<Vec<String>> = None;
        loop {
            match (self.next(until)?, &mut lines) {
                (Heard::Line(line), None) if line == push::PROBE => {
                    self.reached = Reached::Shell;
                    lines = Some(Vec::new());
                }
                (Heard::Line(line), Some(lines)) if line == push::END => return Ok(Probe::read(lines)),
                (Heard::Line(line), Some(lines)) => lines.push(line),
                (Heard::Line(line), None) => self.add_noise(line),
                (Heard::Woken, _) => {}
                _ => return Err(self.broken()),
            }
        }
    }

    fn greeting(&mut self, within: Duration) -> Result<(), Reason> {
        let until = Instant::now() + within;
        loop {
            match self.next(until)? {
                Heard::Line(line) => self.add_noise(line),
                Heard::Greeting(protocol) if protocol.parse() == Ok(PROTOCOL) => {
                    self.reached = Reached::Civm;
                    return Ok(());
                }
                Heard::Greeting(protocol) => {
                    let message = format!(
                        "the civm on {} speaks protocol {protocol}, this one {PROTOCOL}",
                        self.access.remote
                    );
                    return Err(Reason::new(Kind::Remote(super::wire::Kind::Protocol), message)
                        .hint("use the same version of civm on both sides"));
                }
                Heard::Woken => {}
                Heard::Message(_) | Heard::Closed(_) => return Err(self.broken()),
            }
        }
    }

    fn next(&mut self, until: Instant) -> Result<Heard, Reason> {
        match self.receive(until) {
            Ok(Heard::Closed(wrong)) => {
                self.wrong = wrong;
                Err(self.broken())
            }
            Ok(heard) => Ok(heard),
            Err(RecvTimeoutError::Disconnected) => Err(self.broken()),
            Err(RecvTimeoutError::Timeout) => {
                let message =
                    format!("{} does not answer in time{}", self.access.remote, self.quoted_noise());
                Err(Reason::new(Kind::Late, message))
            }
        }
    }

    fn receive(&self, until: Instant) -> Result<Heard, RecvTimeoutError> {
        self.heard.recv_timeout(until.saturating_duration_since(Instant::now()))
    }

    /// Waits for a message; `None` where none came in time.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn hear(&mut self, until: Instant) -> Result<Option<FromRemote>, Reason> {
        match self.receive(until) {
            Ok(Heard::Message(message)) => Ok(Some(*message)),
            Ok(Heard::Line(_) | Heard::Greeting(_) | Heard::Woken) | Err(RecvTimeoutError::Timeout) => {
                Ok(None)
            }
            Ok(Heard::Closed(wrong)) => {
                self.wrong = wrong;
                Err(self.broken())
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.broken()),
        }
    }

    /// What ends a [`Self::hear`] that waits.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Whether the remote's sshd forwards no connections. Those who ask for one are only told that there is none.
    #[must_use]
    pub fn forwards_nothing(&self) -> bool {
        self.ssh.has_said("administratively prohibited")
    }

    /// The arguments of an ssh that leads to a builder through a session of its own.
    #[must_use]
    pub fn dial(&self, keeper: &str, builder: &str) -> Vec<OsString> {
        let program = self.program.clone().unwrap_or_else(|| Program::Theirs("civm".to_owned()));
        self.access.session(&push::dial(&program, keeper, builder))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The other side takes nothing any more.
    pub fn say(&mut self, message: &ToRemote) -> Result<(), Reason> {
        frame::send(&mut self.socket, message).map_err(|_| self.broken())
    }

    /// Sends the files of a share.
    ///
    /// # Errors
    /// One cannot be read, or the other side takes nothing any more.
    pub fn say_files(&mut self, files: &[Staged]) -> Result<(), Reason> {
        plan::send_files(&mut self.socket, files)
            .map_err(|error| Reason::new(Kind::Network, format!("{}: {error}", self.access.remote)))
    }

    /// Sends a file of an image.
    ///
    /// # Errors
    /// It cannot be read, or the other side takes nothing any more.
    pub fn say_image_file(&mut self, name: &str, path: &Path) -> Result<(), Reason> {
        let local =
            |error: io::Error| Reason::new(Kind::Local, format!("cannot read {}: {error}", path.display()));
        let mut file = File::open(path).map_err(local)?;
        let mut hash = Sha256::new();
        let size =
            io::copy(&mut file, &mut hash).and_then(|size| file.rewind().map(|()| size)).map_err(local)?;
        let sha256 = hex::encode(&hash.finalize());
        self.say(&ToRemote::ImageFile { name: name.to_owned(), size, sha256 })?;
        let sent = io::copy(&mut file.take(size), &mut self.socket).map_err(|_| self.broken())?;
        if sent == size { Ok(()) } else { Err(local(io::Error::other("it shrank while it was sent"))) }
    }

    /// Why the connection has ended.
    fn broken(&mut self) -> Reason {
        let status = self.ssh.wait(Instant::now() + END);
        let stderr = self.ssh.said();
        let remote = &self.access.remote;
        if let Some(wrong) = self.wrong.take() {
            let message =
                format!("what {remote} sends is not civm's protocol: {wrong}{}", self.quoted_noise());
            return Reason::new(Kind::Binary, message);
        }
        let code = status.and_then(|status| status.code());
        let own = code.filter(|code| *code != 255);
        if let (Some(code), Reached::Civm) = (own, self.reached) {
            let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let message = format!("the civm on {remote} ended unexpectedly (exit code {code}) {last}");
            return Reason::new(Kind::Remote(super::wire::Kind::Ended), message.trim_end());
        }
        if own.is_some() && self.reached == Reached::Nothing && stderr.trim().is_empty() {
            let message = format!("the login shell on {remote} did not run civm{}", self.quoted_noise());
            return Reason::new(Kind::Auth, message)
                .hint(format!("see that `{} sh -c true` works", remote.ssh()));
        }
        let mut reason = self.access.reason(code, &stderr);
        reason.message.push_str(&self.quoted_noise());
        reason
    }

    fn add_noise(&mut self, line: String) {
        if self.noise.len() < QUOTED && !line.trim().is_empty() {
            self.noise.push(line.trim().to_owned());
        }
    }

    fn quoted_noise(&self) -> String {
        if self.noise.is_empty() {
            return String::new();
        }
        format!("; before that it said: {}", self.noise.join(" / "))
    }

    /// Ends the connection, and waits until nothing of it is left here.
    pub fn close(self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
        self.ssh.wait(Instant::now() + END);
        self.access.forget();
    }
}

//! QEMU as the supervisor's child.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::edge::environment::Environment;
use crate::instance::stage::lines::Lines;
use crate::instance::stage::{Mode, child};
use crate::vm::agent;
use crate::vm::argv;
use crate::vm::ports::Forward;
use crate::vm::qmp::{self, Client};
use crate::vm::spec::{Accel, Channel, Spec};

/// How QEMU's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    Signal(Signal),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "QEMU exited with status {code}"),
            Self::Signal(signal) => write!(f, "QEMU was ended by {signal}"),
        }
    }
}

/// A running QEMU and our ends of its channels.
#[derive(Debug)]
pub(super) struct Qemu {
    pid: Pid,
    exit: Option<Exit>,
    pub(super) qmp: Lines,
    pub(super) agent: Lines,
    /// What it says executes the guest.
    pub(super) accel: Accel,
    /// What listens.
    pub(super) forwards: Vec<Forward>,
}

/// The sockets that QEMU will inherit, and our ends.
pub(super) struct Channels {
    qmp: (UnixStream, UnixStream),
    agent: (UnixStream, UnixStream),
}

impl Channels {
    pub(super) fn open() -> io::Result<Self> {
        let channels = Self { qmp: UnixStream::pair()?, agent: UnixStream::pair()? };
        for theirs in [&channels.qmp.1, &channels.agent.1] {
            fcntl(theirs, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(channels)
    }

    pub(super) fn qmp(&self) -> Channel {
        Channel::Descriptor(self.qmp.1.as_raw_fd())
    }

    pub(super) fn agent(&self) -> Channel {
        Channel::Descriptor(self.agent.1.as_raw_fd())
    }
}

/// Starts QEMU and waits until it answers. Its messages go to `log`.
pub(super) fn start(
    program: &Path,
    spec: &Spec,
    channels: Channels,
    mode: Mode,
    log: &File,
    patience: Duration,
) -> Result<Qemu, String> {
    let mut command = match mode {
        // The kernel ends it with the first process of its PID namespace.
        Mode::Namespaces => Command::new(program),
        Mode::Memory => child::command(program, &Environment::of_process()),
    };
    let logs = log.try_clone().and_then(|out| log.try_clone().map(|err| (out, err)));
    let (out, err) = logs.map_err(|error| error.to_string())?;
    command.args(argv::render(spec)).env_clear().stdin(Stdio::null()).stdout(out).stderr(err);
    let spawned = command.spawn().map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    let pid = i32::try_from(spawned.id()).map(Pid::from_raw).map_err(|error| error.to_string())?;
    let Channels { qmp: (qmp, theirs), agent: (agent, theirs_too) } = channels;
    // With them closed here, QEMU's end is seen as the end of its channels.
    drop((theirs, theirs_too));
    let mut exit = None;
    match greet(qmp, agent, patience) {
        Ok((qmp, agent, accel, forwards)) => Ok(Qemu { pid, exit, qmp, agent, accel, forwards }),
        Err(error) => {
            // A QEMU that refuses its arguments closes its channels a moment before it exits.
            let exit = wait_for(pid, &mut exit, Duration::from_secs(2)).or_else(|| {
                let _ = kill(pid, Signal::SIGKILL);
                wait_for(pid, &mut exit, Duration::from_secs(2));
                None
            });
            Err(exit.map_or_else(|| error.to_string(), |exit| exit.to_string()))
        }
    }
}

type Greeted = (Lines, Lines, Accel, Vec<Forward>);

fn greet(qmp: UnixStream, agent: UnixStream, patience: Duration) -> Result<Greeted, qmp::Error> {
    qmp.set_read_timeout(Some(patience))?;
    let mut client = Client::connect(BufReader::new(qmp.try_clone()?), qmp.try_clone()?)?;
    let accel = if client.query_kvm()?.enabled { Accel::Kvm } else { Accel::Tcg };
    let forwards = client.forwards()?;
    let (reader, _, _) = client.into_parts();
    let lines = Lines::new(qmp, reader.buffer())?;
    Ok((lines, Lines::new(agent, b"")?, accel, forwards))
}

fn wait_for(pid: Pid, exit: &mut Option<Exit>, patience: Duration) -> Option<Exit> {
    let step = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    while exit.is_none() && waited < patience {
        reap(pid, exit);
        if exit.is_none() {
            std::thread::sleep(step);
            waited += step;
        }
    }
    *exit
}

/// Reaps whatever has ended: the first process of a PID namespace inherits orphans.
fn reap(pid: Pid, exit: &mut Option<Exit>) {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(who, code)) if who == pid => *exit = Some(Exit::Code(code)),
            Ok(WaitStatus::Signaled(who, signal, _)) if who == pid => *exit = Some(Exit::Signal(signal)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

impl Qemu {
    /// How it ended, once it has.
    pub(super) fn exit(&mut self) -> Option<Exit> {
        if self.exit.is_none() {
            reap(self.pid, &mut self.exit);
        }
        self.exit
    }

    /// Waits for its end, for a while.
    pub(super) fn wait(&mut self, patience: Duration) -> Option<Exit> {
        wait_for(self.pid, &mut self.exit, patience)
    }

    /// Presses the power button and tells the guest's agent; neither waits for an answer.
    pub(super) fn power_off(&mut self) {
        if let Ok(line) = serde_json::to_string(&agent::Command::PowerOff) {
            let _ = self.agent.socket.write_all(format!("{line}\n").as_bytes());
        }
        self.command(qmp::Command::SystemPowerdown);
    }

    /// Asks QEMU to end at once.
    pub(super) fn quit(&mut self) {
        self.command(qmp::Command::Quit);
    }

    fn command(&mut self, command: qmp::Command) {
        // Answers are not awaited: what counts is that QEMU ends.
        let _ = self.qmp.socket.write_all(command.render(0).as_bytes());
    }

    /// Ends it without asking.
    pub(super) fn kill(&self) {
        if self.exit.is_none() {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

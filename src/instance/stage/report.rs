//! Reports what happens: to the caller, to the log of events and to those who asked the instance to stop.

use std::fs::{File, OpenOptions};
use std::io::{self, Stdout, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::instance::event::Event;
use crate::instance::stage::outlet::Outlet;

/// Events of one run that are logged at most. A guest has a share of its own: it must neither fill the host's disk
/// nor keep the host's own events out of the log.
const LOGGED_MAX: usize = 5000;
const LOGGED_OF_GUEST_MAX: usize = 1000;
/// Bytes that wait for a listener that is slow. The host's own events have room where the guest's have none left.
const WAITING_MAX: usize = 1 << 20;
const WAITING_OF_GUEST_MAX: usize = 64 << 10;
/// How long the last events may take on their way out.
const LAST: Duration = Duration::from_secs(2);

/// Whose event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Host,
    Guest,
}

/// The listeners of an instance.
#[derive(Debug)]
pub(super) struct Report {
    /// The caller reads our standard output until it goes away.
    caller: Option<Outlet>,
    stdout: Stdout,
    log: Option<File>,
    logged: usize,
    logged_of_guest: usize,
    listeners: Vec<(UnixStream, Outlet)>,
    /// Those who get one answer and nothing else.
    answered: Vec<(UnixStream, Outlet)>,
}

impl Report {
    /// To the caller alone.
    pub(super) fn to_caller() -> Self {
        // A caller that does not read must not hold up a machine.
        let nonblocking = fcntl(io::stdout(), FcntlArg::F_GETFL)
            .map(|flags| OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK)
            .and_then(|flags| fcntl(io::stdout(), FcntlArg::F_SETFL(flags)));
        let caller = nonblocking.is_ok().then(Outlet::default);
        let (listeners, answered) = (Vec::new(), Vec::new());
        Self { caller, stdout: io::stdout(), log: None, logged: 0, logged_of_guest: 0, listeners, answered }
    }

    /// To the log as well; `fresh` begins a new one.
    pub(super) fn log_to(&mut self, path: &Path, fresh: bool) {
        let mut options = OpenOptions::new();
        options.create(true).mode(0o600);
        if fresh {
            options.write(true).truncate(true);
        } else {
            options.append(true);
        }
        self.log = options.open(path).ok();
    }

    /// Tells one more listener from now on; `first` is for that one alone.
    pub(super) fn listen(&mut self, socket: UnixStream, first: &Event) {
        let mut outlet = Outlet::default();
        outlet.push(&line(first), WAITING_MAX);
        self.listeners.push((socket, outlet));
        self.flush();
    }

    /// Answers a question. The socket is closed once the answer is out: a machine that runs for weeks is asked so
    /// often that its supervisor would have no descriptor left.
    pub(super) fn answer(&mut self, socket: UnixStream, event: &Event) {
        let mut outlet = Outlet::default();
        outlet.push(&line(event), WAITING_MAX);
        self.answered.push((socket, outlet));
        self.flush();
    }

    /// Forgets the caller.
    pub(super) fn caller_left(&mut self) {
        self.caller = None;
    }

    /// Tells an event of the host's.
    pub(super) fn send(&mut self, event: &Event) {
        self.tell(event, Source::Host);
    }

    /// Tells an event that the guest caused.
    pub(super) fn send_of_guest(&mut self, event: &Event) {
        self.tell(event, Source::Guest);
    }

    fn tell(&mut self, event: &Event, source: Source) {
        let line = line(event);
        let (waiting, logged, logged_max) = match source {
            Source::Host => (WAITING_MAX, &mut self.logged, LOGGED_MAX),
            Source::Guest => (WAITING_OF_GUEST_MAX, &mut self.logged_of_guest, LOGGED_OF_GUEST_MAX),
        };
        if *logged < logged_max {
            *logged += 1;
            if let Some(log) = &mut self.log {
                let _ = log.write_all(&line);
            }
        }
        for outlet in self.caller.iter_mut().chain(self.listeners.iter_mut().map(|(_, outlet)| outlet)) {
            outlet.push(&line, waiting);
        }
        self.flush();
    }

    /// Writes what the listeners take now.
    pub(super) fn flush(&mut self) {
        let stdout = &self.stdout;
        self.caller
            .take_if(|caller| !caller.flush(|bytes| nix::unistd::write(stdout, bytes).map_err(Into::into)));
        self.listeners.retain_mut(|(socket, outlet)| {
            let mut socket = &*socket;
            outlet.flush(|bytes| socket.write(bytes))
        });
        self.answered.retain_mut(|(socket, outlet)| {
            let mut socket = &*socket;
            outlet.flush(|bytes| socket.write(bytes)) && outlet.len() > 0
        });
    }

    /// What to wait for: listeners that were slow.
    pub(super) fn watched(&self) -> Vec<PollFd<'_>> {
        let caller = self.caller.iter().map(|caller| (self.stdout.as_fd(), caller));
        let listeners =
            self.listeners.iter().chain(&self.answered).map(|(socket, outlet)| (socket.as_fd(), outlet));
        caller
            .chain(listeners)
            .filter(|(_, outlet)| outlet.len() > 0)
            .map(|(fd, _)| PollFd::new(fd, PollFlags::POLLOUT))
            .collect()
    }

    /// Waits for a while until everybody has heard the last event.
    pub(super) fn finish(&mut self) {
        let until = Instant::now() + LAST;
        loop {
            self.flush();
            let left = until.saturating_duration_since(Instant::now());
            let mut watched = self.watched();
            if watched.is_empty() || left.is_zero() {
                return;
            }
            let _ = poll(&mut watched, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        }
    }
}

fn line(event: &Event) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line
}

//! Reports what happens: to the caller, to the log of events and to those who asked for events.

use std::io::{self, Stdout};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use crate::instance::event::Event;
use crate::instance::stage::control::{Asker, Control};
use crate::instance::stage::journal::{Journal, Source};
use crate::instance::stage::outlet::Outlet;
use crate::instance::wire::{self, Code, Failure};

/// Bytes that wait for a listener that is slow. The host's own events have room where the guest's have none left.
const WAITING_MAX: usize = 1 << 20;
const WAITING_OF_GUEST_MAX: usize = 64 << 10;
/// How long the last events may take on their way out.
const LAST: Duration = Duration::from_secs(2);

/// The listeners of an instance.
pub(super) struct Report {
    /// The caller reads our standard output until it goes away.
    caller: Option<Outlet>,
    stdout: Stdout,
    journal: Option<Journal>,
    /// Those who ask and listen over the control socket.
    pub(super) control: Option<Control>,
}

impl Report {
    /// To the caller alone.
    pub(super) fn to_caller() -> Self {
        // A caller that does not read must not hold up a machine.
        let nonblocking = fcntl(io::stdout(), FcntlArg::F_GETFL)
            .map(|flags| OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK)
            .and_then(|flags| fcntl(io::stdout(), FcntlArg::F_SETFL(flags)));
        let caller = nonblocking.is_ok().then(Outlet::default);
        Self { caller, stdout: io::stdout(), journal: None, control: None }
    }

    /// To the log as well; where a run `begins`, to a new one.
    pub(super) fn log_to(&mut self, path: &Path, begins: bool) {
        self.journal = Journal::open(path.to_owned(), begins);
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

    /// Answers a request.
    pub(super) fn answer(&mut self, who: Asker, answer: Result<impl Serialize, Failure>) {
        if let Some(control) = &mut self.control {
            control.answer(who, answer);
        }
    }

    /// Refuses a request.
    pub(super) fn refuse(&mut self, who: Asker, code: Code, reason: impl Into<String>) {
        self.answer(who, Err::<(), _>(Failure::new(code, reason)));
    }

    /// Refuses a request, and ends its connection.
    pub(super) fn answer_last(&mut self, who: Asker, failure: Failure) {
        if let Some(control) = &mut self.control {
            control.answer_last(who, failure);
        }
    }

    fn tell(&mut self, event: &Event, source: Source) {
        let waiting = match source {
            Source::Host => WAITING_MAX,
            Source::Guest => WAITING_OF_GUEST_MAX,
        };
        if let Some(journal) = &mut self.journal {
            journal.add(event, source);
        }
        let line = wire::event_line(event);
        if let Some(caller) = &mut self.caller {
            caller.push(&line, waiting);
        }
        if let Some(control) = &mut self.control {
            control.tell(&line, waiting);
        }
        self.flush();
    }

    /// Writes what the listeners take now.
    pub(super) fn flush(&mut self) {
        let stdout = &self.stdout;
        self.caller
            .take_if(|caller| !caller.flush(|bytes| nix::unistd::write(stdout, bytes).map_err(Into::into)));
        if let Some(control) = &mut self.control {
            control.flush();
        }
    }

    /// What to wait for: everybody who asks, and a caller that was slow.
    pub(super) fn watched(&self, now: Instant) -> Vec<PollFd<'_>> {
        let mut watched: Vec<PollFd<'_>> = self.slow_caller().into_iter().collect();
        watched.extend(self.control.iter().flat_map(|control| control.watched(now)));
        watched
    }

    fn slow_caller(&self) -> Option<PollFd<'_>> {
        let caller = self.caller.as_ref().filter(|caller| caller.len() > 0);
        caller.map(|_| PollFd::new(self.stdout.as_fd(), PollFlags::POLLOUT))
    }

    /// Waits for a while until everybody has heard the last event.
    pub(super) fn finish(&mut self) {
        let until = Instant::now() + LAST;
        loop {
            self.flush();
            let left = until.saturating_duration_since(Instant::now());
            let mut watched: Vec<PollFd<'_>> = self.slow_caller().into_iter().collect();
            watched.extend(self.control.iter().flat_map(Control::unflushed));
            if watched.is_empty() || left.is_zero() {
                return;
            }
            let _ = poll(&mut watched, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        }
    }
}

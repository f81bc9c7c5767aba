//! The parts of the session with QEMU in which each answer is waited for: how the machine came up, how it is frozen.

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::poll::{PollTimeout, poll};

use crate::instance::stage::lines::{LINE_MAX, Lines};
use crate::vm::ports::Forward;
use crate::vm::qmp::{self, Answer, Message, Session};
use crate::vm::spec::Accel;

/// Events that are kept while the first answers are awaited.
const EVENTS_MAX: usize = 64;
/// Between two looks at a machine whose state is read or written; that takes some tens of milliseconds.
const POLL: Duration = Duration::from_millis(2);
/// What is said of a QEMU that is not there any more.
pub(super) const CLOSED: &str = "QEMU closed its control connection";

/// What QEMU says of itself when it has come up.
pub(super) struct Greeting {
    pub(super) qmp: Lines,
    pub(super) session: Session,
    pub(super) accel: Accel,
    pub(super) forwards: Vec<Forward>,
    pub(super) version: Option<String>,
    pub(super) events: Vec<Message>,
}

/// The first part of the session. A machine whose state is to be read from the descriptor `state` is resumed.
pub(super) fn greet(qmp: UnixStream, patience: Duration, state: Option<RawFd>) -> Result<Greeting, String> {
    let mut qmp = Lines::new(qmp, LINE_MAX).map_err(|error| error.to_string())?;
    let (mut session, mut events) = (Session::default(), Vec::new());
    let mut asking = Asking::new(&mut qmp, &mut session, &mut events, patience);
    match asking.next()? {
        Message::Greeting => {}
        _ => return Err(qmp::Error::NoGreeting.to_string()),
    }
    asking.ask(qmp::Command::Capabilities)?;
    let accel = match asking.ask(qmp::Command::QueryKvm)? {
        Answer::Kvm(kvm) if kvm.enabled => Accel::Kvm,
        _ => Accel::Tcg,
    };
    let forwards = match asking.ask(qmp::Command::InfoUsernet)? {
        Answer::Forwards(forwards) => forwards,
        _ => Vec::new(),
    };
    // Only told to those who want to know.
    let version = match asking.ask(qmp::Command::QueryVersion) {
        Ok(Answer::Version(version)) => Some(version),
        _ => None,
    };
    if let Some(state) = state {
        asking.resume(state)?;
    }
    asking.finish();
    Ok(Greeting { qmp, session, accel, forwards, version, events })
}

/// A part of a session in which each answer is waited for.
pub(super) struct Asking<'a> {
    qmp: &'a mut Lines,
    session: &'a mut Session,
    heard: VecDeque<Message>,
    /// What is for those who listen later.
    later: &'a mut Vec<Message>,
    until: Instant,
}

impl<'a> Asking<'a> {
    pub(super) fn new(
        qmp: &'a mut Lines,
        session: &'a mut Session,
        later: &'a mut Vec<Message>,
        patience: Duration,
    ) -> Self {
        Self { qmp, session, heard: VecDeque::new(), later, until: Instant::now() + patience }
    }

    /// Leaves the rest to those who listen later.
    fn finish(self) {
        self.later.extend(self.heard);
    }

    /// Reads the machine's state from a descriptor of QEMU's, and lets it run.
    fn resume(&mut self, state: RawFd) -> Result<(), String> {
        self.ask(qmp::Command::IgnoreShared)?;
        self.ask(qmp::Command::MigrateIncoming(state))?;
        loop {
            match self.ask(qmp::Command::QueryStatus)? {
                Answer::Status(status) if status == "inmigrate" => std::thread::sleep(POLL),
                Answer::Status(status) if status == "paused" => break,
                other => return Err(format!("QEMU has read the template, and says {other:?}")),
            }
        }
        self.ask(qmp::Command::Continue).map(drop)
    }

    /// Stops the machine, and writes its state to a file.
    pub(super) fn freeze(mut self, state: BorrowedFd<'_>) -> Result<(), String> {
        self.ask(qmp::Command::Stop)?;
        self.ask(qmp::Command::IgnoreShared)?;
        let (wanted, line) = self.session.ask(qmp::Command::GetState);
        self.qmp.send_with_file(line.as_bytes(), state).map_err(|error| error.to_string())?;
        self.answer(wanted)?;
        self.ask(qmp::Command::Migrate)?;
        loop {
            let Answer::Migration { status, error } = self.ask(qmp::Command::QueryMigrate)? else {
                return Err("QEMU does not say how far it is".to_owned());
            };
            match status.as_str() {
                "completed" => break,
                "failed" | "cancelled" => {
                    return Err(error.unwrap_or_else(|| "QEMU cannot write the machine's state".to_owned()));
                }
                _ => std::thread::sleep(POLL),
            }
        }
        self.finish();
        Ok(())
    }

    fn ask(&mut self, command: qmp::Command) -> Result<Answer, String> {
        let (wanted, line) = self.session.ask(command);
        self.qmp.send(line.as_bytes());
        self.answer(wanted)
    }

    fn answer(&mut self, wanted: u64) -> Result<Answer, String> {
        loop {
            match self.next()? {
                Message::Answer { id, answer } if id == wanted => {
                    return answer.map_err(|error| error.to_string());
                }
                // A machine that is just starting has only a few.
                event @ Message::Event(_) if self.later.len() < EVENTS_MAX => self.later.push(event),
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<Message, String> {
        loop {
            if let Some(message) = self.heard.pop_front() {
                return Ok(message);
            }
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("QEMU stopped answering on its control connection".to_owned());
            }
            let mut watched = [self.qmp.watched()];
            let _ = poll(&mut watched, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
            self.qmp.flush();
            for line in self.qmp.receive().ok_or(CLOSED)? {
                self.heard.push_back(self.session.hear(&line).map_err(|error| error.to_string())?);
            }
        }
    }
}

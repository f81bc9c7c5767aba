//! The beginning of the session with QEMU, in which each answer is waited for: how the machine came up.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::poll::{PollTimeout, poll};

use crate::instance::stage::lines::{LINE_MAX, Lines};
use crate::vm::ports::Forward;
use crate::vm::qmp::{self, Answer, Message, Session};
use crate::vm::spec::Accel;

/// Events that are kept while the first answers are awaited.
const EVENTS_MAX: usize = 64;
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

/// The first part of the session, in which each answer is waited for.
pub(super) fn greet(qmp: UnixStream, patience: Duration) -> Result<Greeting, String> {
    let qmp = Lines::new(qmp, LINE_MAX).map_err(|error| error.to_string())?;
    let until = Instant::now() + patience;
    let mut start =
        Start { qmp, session: Session::default(), heard: VecDeque::new(), events: Vec::new(), until };
    match start.next()? {
        Message::Greeting => {}
        _ => return Err(qmp::Error::NoGreeting.to_string()),
    }
    start.ask(qmp::Command::Capabilities)?;
    let accel = match start.ask(qmp::Command::QueryKvm)? {
        Answer::Kvm(kvm) if kvm.enabled => Accel::Kvm,
        _ => Accel::Tcg,
    };
    let forwards = match start.ask(qmp::Command::InfoUsernet)? {
        Answer::Forwards(forwards) => forwards,
        _ => Vec::new(),
    };
    // Only told to those who want to know.
    let version = match start.ask(qmp::Command::QueryVersion) {
        Ok(Answer::Version(version)) => Some(version),
        _ => None,
    };
    let Start { qmp, session, mut events, heard, .. } = start;
    events.extend(heard);
    Ok(Greeting { qmp, session, accel, forwards, version, events })
}

/// A session whose answers are waited for.
struct Start {
    qmp: Lines,
    session: Session,
    heard: VecDeque<Message>,
    events: Vec<Message>,
    until: Instant,
}

impl Start {
    fn ask(&mut self, command: qmp::Command) -> Result<Answer, String> {
        let (wanted, line) = self.session.ask(command);
        self.qmp.send(line.as_bytes());
        loop {
            match self.next()? {
                Message::Answer { id, answer } if id == wanted => {
                    return answer.map_err(|error| error.to_string());
                }
                // A machine that is just starting has only a few.
                event @ Message::Event(_) if self.events.len() < EVENTS_MAX => self.events.push(event),
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

//! A conversation with the supervisor of a running instance; what is said is [`wire`]'s.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::instance::event::Event;
use crate::instance::plan::{self, Staged};
use crate::instance::state::Record;
use crate::instance::wire::{
    self, Failure, Hello, MachineFacts, Numbered, Outcome, Reply, Request, Seat, StagedFiles, Status, Typing,
};
use crate::vm::agent::{Answer, Question};

mod unnumbered;

/// Events that are kept while an answer is awaited.
const EVENTS_MAX: usize = 1024;
/// How long a supervisor may let a request lie before it takes it.
const TAKEN: Duration = Duration::from_secs(20);
/// How much later than the guest's deadline its supervisor says that it has passed.
const LATER: Duration = Duration::from_secs(5);

/// Why something that was asked has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no supervisor, or no more.
    #[error("its supervisor is gone")]
    Gone,
    /// Nothing came in time.
    #[error("its supervisor does not respond")]
    Silent,
    /// It was refused.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// What came is not an answer to it.
    #[error("its supervisor answered something that this civm does not understand")]
    Strange,
    /// Files could not be sent.
    #[error("{0}")]
    Files(String),
}

/// A connection to a supervisor.
#[derive(Debug)]
pub struct Session {
    lines: BufReader<UnixStream>,
    /// The beginning of a line whose rest is still on its way.
    begun: Vec<u8>,
    /// Whether the supervisor's civm knows numbers.
    numbered: bool,
    last: u64,
    events: VecDeque<Event>,
}

impl Session {
    /// Connects to the supervisor of a running instance.
    ///
    /// # Errors
    /// There is none, or it does not respond.
    pub fn open(record: &Record, patience: Duration) -> Result<Self, Error> {
        let path = record.control().ok_or(Error::Gone)?;
        let socket = UnixStream::connect(path).map_err(|_| Error::Gone)?;
        socket.set_write_timeout(Some(TAKEN)).map_err(|_| Error::Gone)?;
        let (lines, numbered) = (BufReader::new(socket), record.protocol != 0);
        let mut session = Self { lines, begun: Vec::new(), numbered, last: 0, events: VecDeque::new() };
        if numbered {
            session.request::<Hello>(&Request::Hello(Hello::own()), patience)?;
        }
        Ok(session)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// It was refused, or none came in time.
    pub fn request<T: DeserializeOwned>(
        &mut self,
        request: &Request,
        patience: Duration,
    ) -> Result<T, Error> {
        let until = Instant::now() + patience;
        let result = if self.numbered {
            let id = self.send(request)?;
            match self.outcome(id, until)? {
                Outcome::Result(result) => result,
                Outcome::Error(failure) => return Err(Error::Refused(failure)),
                Outcome::Continue(_) => return Err(Error::Strange),
            }
        } else {
            self.request_unnumbered(request, until)?
        };
        serde_json::from_value(result).map_err(|_| Error::Strange)
    }

    /// How the machine is.
    ///
    /// # Errors
    /// As with [`Session::request`].
    pub fn status(&mut self, patience: Duration) -> Result<Status, Error> {
        self.request(&Request::Status, patience)
    }

    /// What QEMU runs.
    ///
    /// # Errors
    /// As with [`Session::request`].
    pub fn machine(&mut self, patience: Duration) -> Result<MachineFacts, Error> {
        self.request(&Request::Machine, patience)
    }

    /// Asks to be sent events from now on.
    ///
    /// # Errors
    /// As with [`Session::request`].
    pub fn subscribe(&mut self, patience: Duration) -> Result<(), Error> {
        self.request(&Request::Subscribe, patience)
    }

    /// Asks the guest's agent, and waits for its answer.
    ///
    /// # Errors
    /// As with [`Session::request`]; among them that the guest did not answer within this time.
    pub fn ask_guest(&mut self, question: Question, within: Duration) -> Result<Answer, Error> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.request(&Request::Guest { question, within_ms }, within.saturating_add(LATER))
    }

    /// Replaces files of the share: what they have at its top takes the place of what was there. Their key lies there
    /// until the guest has taken it, has answered an `apply`, or this session ends.
    ///
    /// # Errors
    /// They could not be sent or staged; then the share is as it was.
    pub fn stage(&mut self, files: &[Staged], patience: Duration) -> Result<StagedFiles, Error> {
        self.send_files(files, false, patience)
    }

    /// The same until the guest has answered a question, or this session ends; without their secrets. A supervisor of
    /// an older civm keeps them.
    ///
    /// # Errors
    /// As with [`Session::stage`].
    pub fn stage_for_trial(&mut self, files: &[Staged], patience: Duration) -> Result<StagedFiles, Error> {
        self.send_files(files, true, patience)
    }

    fn send_files(
        &mut self,
        files: &[Staged],
        trial: bool,
        patience: Duration,
    ) -> Result<StagedFiles, Error> {
        let until = Instant::now() + patience;
        if !self.numbered {
            return Err(unnumbered::unknown());
        }
        let id = self.send(&Request::Stage { trial })?;
        match self.outcome(id, until)? {
            Outcome::Continue(true) => {}
            Outcome::Error(failure) => return Err(Error::Refused(failure)),
            Outcome::Result(_) | Outcome::Continue(false) => return Err(Error::Strange),
        }
        let sent = plan::send_files(self.lines.get_ref(), files);
        if let Err(error) = &sent {
            // Half of them would be waited for without end.
            let _ = self.lines.get_ref().shutdown(std::net::Shutdown::Write);
            let failed = Error::Files(error.to_string());
            return Err(match self.outcome(id, Instant::now() + LATER) {
                Ok(Outcome::Error(failure)) => Error::Refused(failure),
                _ => failed,
            });
        }
        match self.outcome(id, until)? {
            Outcome::Result(result) => serde_json::from_value(result).map_err(|_| Error::Strange),
            Outcome::Error(failure) => Err(Error::Refused(failure)),
            Outcome::Continue(_) => Err(Error::Strange),
        }
    }

    /// The next event, of those that were asked for.
    ///
    /// # Errors
    /// None came in time, or none will come any more.
    pub fn next_event(&mut self, patience: Duration) -> Result<Event, Error> {
        let until = Instant::now() + patience;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let line = self.line(until)?;
            // An event that this civm does not know is none.
            self.events.extend(wire::event(&line));
        }
    }

    /// Makes this connection one with the console: the socket, what has been read of it already, and whose place it is.
    ///
    /// # Errors
    /// As with [`Session::request`].
    pub(crate) fn into_console(
        mut self,
        record: &Record,
        typing: Typing,
        patience: Duration,
    ) -> Result<(UnixStream, Vec<u8>, Seat), Error> {
        if !self.numbered {
            return unnumbered::console(record, typing);
        }
        let seat = self.request(&Request::Console { typing }, patience)?;
        let shown = self.lines.buffer().to_vec();
        Ok((self.lines.into_inner(), shown, seat))
    }

    fn send(&mut self, request: &Request) -> Result<u64, Error> {
        self.last += 1;
        let line = wire::line(&Numbered { id: self.last, request: request.clone() });
        self.write(&line)?;
        Ok(self.last)
    }

    fn write(&mut self, line: &[u8]) -> Result<(), Error> {
        self.lines.get_mut().write_all(line).map_err(|error| lost(&error))
    }

    /// What came of the request with this number.
    fn outcome(&mut self, id: u64, until: Instant) -> Result<Outcome, Error> {
        loop {
            let line = self.line(until)?;
            match serde_json::from_slice(&line) {
                Ok(Reply { id: Some(of), outcome }) if of == id => return Ok(outcome),
                // It did not even find the number.
                Ok(Reply { id: None, outcome: Outcome::Error(failure) }) => {
                    return Err(Error::Refused(failure));
                }
                // Of a request whose answer is not awaited any more.
                Ok(_) => {}
                Err(_) => {
                    if self.events.len() < EVENTS_MAX {
                        self.events.extend(wire::event(&line));
                    }
                }
            }
        }
    }

    fn line(&mut self, until: Instant) -> Result<Vec<u8>, Error> {
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.lines.get_ref().set_read_timeout(Some(left)).map_err(|error| lost(&error))?;
            // What was read before an error stays in `begun`.
            match self.lines.read_until(b'\n', &mut self.begun) {
                Ok(0) => return Err(Error::Gone),
                Ok(_) => return Ok(std::mem::take(&mut self.begun)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(&error)),
            }
        }
    }
}

fn lost(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Silent,
        _ => Error::Gone,
    }
}

#[cfg(test)]
mod tests;

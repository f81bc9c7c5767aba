//! The lines of the civms before the protocol had a number: one question, answered by events.
//!
//! Their instances outlive an update of civm. They can be asked how they are, be stopped and be looked at.

use std::os::unix::net::UnixStream;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Error, Session};
use crate::instance::event::{Event, Health};
use crate::instance::state::Record;
use crate::instance::wire::{self, Code, Failure, Request, Seat, Status, Typing, Within};

/// What they can be asked.
#[derive(Serialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
enum Ask {
    Stop { patience_ms: u64, quit_ms: u64, hurry: bool },
    Kill,
    Status,
    ConsoleSize { rows: u16, columns: u16 },
}

/// The one event that they have and that is not an event any more.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Told {
    Status { health: Health },
}

impl Session {
    pub(super) fn request_unnumbered(&mut self, request: &Request, until: Instant) -> Result<Value, Error> {
        let answer = match *request {
            Request::Stop { patience_ms, quit_ms, hurry } => {
                self.ask(&Ask::Stop { patience_ms, quit_ms, hurry })?;
                serde_json::to_value(self.within(until)?)
            }
            Request::Kill => {
                self.ask(&Ask::Kill)?;
                serde_json::to_value(self.within(until)?)
            }
            Request::Status => {
                self.ask(&Ask::Status)?;
                let health = self.health(until)?;
                serde_json::to_value(Status { health, phase: None, run_state: None })
            }
            Request::ConsoleSize { rows, columns } => {
                self.ask(&Ask::ConsoleSize { rows, columns })?;
                Ok(Value::Null)
            }
            // Who asks one to stop is sent events, and nobody else.
            Request::Subscribe => Ok(Value::Null),
            Request::Hello(_)
            | Request::Machine
            | Request::Console { .. }
            | Request::Guest { .. }
            | Request::Stage { .. } => return Err(unknown()),
        };
        answer.map_err(|_| Error::Strange)
    }

    fn ask(&mut self, ask: &Ask) -> Result<(), Error> {
        self.write(&wire::line(ask))
    }

    fn within(&mut self, until: Instant) -> Result<Within, Error> {
        loop {
            let line = self.line(until)?;
            match wire::event(&line) {
                Some(Event::Stopping { within_ms, .. }) => return Ok(Within { within_ms }),
                event => self.events.extend(event),
            }
        }
    }

    fn health(&mut self, until: Instant) -> Result<Health, Error> {
        loop {
            if let Ok(Told::Status { health }) = serde_json::from_slice(&self.line(until)?) {
                return Ok(health);
            }
        }
    }
}

/// Attaches to a console on which everybody types.
pub(super) fn console(record: &Record, typing: Typing) -> Result<(UnixStream, Vec<u8>, Seat), Error> {
    let path = record.console().ok_or(Error::Gone)?;
    let socket = UnixStream::connect(path).map_err(|_| Error::Gone)?;
    Ok((socket, Vec::new(), Seat { types: typing != Typing::No, another: false }))
}

/// Something that they do not know.
pub(super) fn unknown() -> Error {
    let message = "an older civm started it, which cannot do that: stop it and start it again";
    Error::Refused(Failure { protocol: 0, ..Failure::new(Code::UnknownRequest, message) })
}

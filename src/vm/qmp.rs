//! QEMU's control protocol as one session: what is sent has a number, and an answer finds what it answers by it.
//!
//! The session takes and gives lines and does no I/O, so that one type serves the start, which waits for each answer,
//! and the supervisor's loop, which waits for nothing. Commands, answers and events are those that civm has a use for;
//! anything else of a newer QEMU passes by as [`Event::Other`].
//!
//! Why not the `qapi` crate: its synchronous client owns the stream and blocks on it, an answer at a time; the
//! correlated one is made of futures and tokio. Its types are all of QEMU's schema, of one version of it, and a value
//! that another version adds to an enumeration, as QEMU does in most releases, is an error there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::vm::ports::{Forward, parse_usernet};

/// Questions that may be open: a QEMU that stands still is not remembered without end.
const OPEN_MAX: usize = 64;

/// QEMU's name for the descriptor that it writes the machine's state to.
const STATE: &str = "state";

/// A command to QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Leaves capability negotiation; must come first.
    Capabilities,
    /// Whether the machine runs.
    QueryStatus,
    /// Whether KVM is in use.
    QueryKvm,
    /// Which QEMU it is.
    QueryVersion,
    /// The drives.
    QueryBlock,
    /// The ACPI power button.
    SystemPowerdown,
    /// Lets a machine that was stopped run again.
    Continue,
    /// Ends QEMU at once, as a power cut for the guest.
    Quit,
    /// The forwards that are listening.
    InfoUsernet,
    /// Stops the machine.
    Stop,
    /// To leave out memory that lies in a file when the machine's state is written or read.
    IgnoreShared,
    /// Takes the descriptor that is sent along, for [`Self::Migrate`].
    GetState,
    /// Writes the machine's state to it.
    Migrate,
    /// How far that has come.
    QueryMigrate,
    /// Reads the machine's state from a descriptor that QEMU has inherited.
    MigrateIncoming(i32),
}

impl Command {
    /// Its name, as QEMU has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Capabilities => "qmp_capabilities",
            Self::QueryStatus => "query-status",
            Self::QueryKvm => "query-kvm",
            Self::QueryVersion => "query-version",
            Self::QueryBlock => "query-block",
            Self::SystemPowerdown => "system_powerdown",
            Self::Continue => "cont",
            Self::Quit => "quit",
            Self::InfoUsernet => "human-monitor-command",
            Self::Stop => "stop",
            Self::IgnoreShared => "migrate-set-capabilities",
            Self::GetState => "getfd",
            Self::Migrate => "migrate",
            Self::QueryMigrate => "query-migrate",
            Self::MigrateIncoming(_) => "migrate-incoming",
        }
    }

    /// The command as one line, with its final line feed.
    fn render(self, id: u64) -> String {
        let mut message = json!({"execute": self.name(), "id": id});
        let arguments = match self {
            Self::InfoUsernet => json!({"command-line": "info usernet"}),
            Self::IgnoreShared => json!({"capabilities": [{"capability": "x-ignore-shared", "state": true}]}),
            Self::GetState => json!({"fdname": STATE}),
            Self::Migrate => json!({"uri": format!("fd:{STATE}")}),
            Self::MigrateIncoming(number) => json!({"uri": format!("fd:{number}")}),
            _ => Value::Null,
        };
        if let (Some(object), false) = (message.as_object_mut(), arguments.is_null()) {
            object.insert("arguments".to_owned(), arguments);
        }
        format!("{message}\n")
    }

    /// What the returned value means.
    fn read(self, value: &Value) -> Option<Answer> {
        Some(match self {
            Self::QueryStatus => Answer::Status(text(value, "status")?),
            Self::QueryKvm => {
                let fact = |name| value.get(name).and_then(Value::as_bool);
                Answer::Kvm(Kvm { enabled: fact("enabled")?, present: fact("present")? })
            }
            Self::QueryVersion => {
                let number = |name| value.pointer(name).and_then(Value::as_u64);
                let (major, minor) = (number("/qemu/major")?, number("/qemu/minor")?);
                Answer::Version(format!("{major}.{minor}.{}", number("/qemu/micro")?))
            }
            Self::QueryBlock => Answer::Blocks(value.as_array()?.iter().filter_map(Block::read).collect()),
            Self::InfoUsernet => Answer::Forwards(parse_usernet(value.as_str()?)),
            Self::QueryMigrate => {
                let status = text(value, "status").unwrap_or_default();
                Answer::Migration { status, error: text(value, "error-desc") }
            }
            Self::Capabilities
            | Self::SystemPowerdown
            | Self::Continue
            | Self::Quit
            | Self::Stop
            | Self::IgnoreShared
            | Self::GetState
            | Self::Migrate
            | Self::MigrateIncoming(_) => Answer::Done,
        })
    }
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// Answer of `query-kvm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kvm {
    /// Whether the machine runs under KVM.
    pub enabled: bool,
    /// Whether this QEMU could use KVM at all.
    pub present: bool,
}

/// A drive with something in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// What the guest's device is attached to.
    pub device: String,
    /// The file; a descriptor's name where QEMU was given it open.
    pub file: String,
    /// Its format (`qcow2`, `raw`).
    pub format: String,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// How large the guest sees it, in bytes.
    pub size: Option<u64>,
    /// What has gone wrong with it (`ok`, `failed`, `nospace`), where QEMU says so.
    pub io_status: Option<String>,
}

impl Block {
    fn read(value: &Value) -> Option<Self> {
        let inserted = value.get("inserted")?;
        let names = [text(value, "device"), text(value, "qdev"), text(inserted, "node-name")];
        Some(Self {
            device: names.into_iter().flatten().find(|name| !name.is_empty())?,
            file: file(inserted)?,
            format: text(inserted, "drv")?,
            read_only: inserted.get("ro").and_then(Value::as_bool)?,
            size: inserted.pointer("/image/virtual-size").and_then(Value::as_u64),
            io_status: text(value, "io-status"),
        })
    }
}

/// A drive's file. QEMU writes one that is more than a path as `json:` and all of its options.
fn file(inserted: &Value) -> Option<String> {
    let file = text(inserted, "file")?;
    let options = file.strip_prefix("json:").and_then(|json| serde_json::from_str::<Value>(json).ok());
    let name = options.as_ref().and_then(|options| options.pointer("/file/filename")).and_then(Value::as_str);
    Some(name.map_or_else(|| file.clone(), str::to_owned))
}

/// What QEMU answered to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// The run state.
    Status(String),
    /// Whether KVM is in use.
    Kvm(Kvm),
    /// QEMU's version.
    Version(String),
    /// The drives.
    Blocks(Vec<Block>),
    /// What listens.
    Forwards(Vec<Forward>),
    /// How far the machine's state is written.
    Migration {
        /// QEMU's `MigrationStatus`.
        status: String,
        /// Why it failed, where it did.
        error: Option<String>,
    },
}

/// Something that QEMU says happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The machine goes down.
    Shutdown {
        /// QEMU's `ShutdownCause`.
        reason: String,
    },
    /// The machine was reset.
    Reset {
        /// Whether the guest did it.
        by_guest: bool,
    },
    /// A machine that was stopped runs on.
    Resume,
    /// The guest's kernel says that it panicked.
    GuestPanicked,
    /// Something that civm has no use for.
    Other,
}

impl Event {
    fn read(name: &str, data: &Value) -> Self {
        match name {
            "SHUTDOWN" => {
                Self::Shutdown { reason: text(data, "reason").unwrap_or_else(|| "unknown".to_owned()) }
            }
            "RESET" => Self::Reset { by_guest: data.get("guest").and_then(Value::as_bool) == Some(true) },
            "RESUME" => Self::Resume,
            "GUEST_PANICKED" => Self::GuestPanicked,
            _ => Self::Other,
        }
    }
}

/// A message from QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The first message on a connection.
    Greeting,
    /// What came of a command of this session.
    Answer {
        /// The command's number.
        id: u64,
        /// What was returned, or why not.
        answer: Result<Answer, Error>,
    },
    /// Something happened.
    Event(Event),
    /// An answer to nothing that was asked.
    Stray,
}

/// Why a conversation with QEMU failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a message.
    #[error("QEMU sent something that is not a QMP message")]
    Malformed,
    /// No greeting came first.
    #[error("QEMU sent no QMP greeting")]
    NoGreeting,
    /// A command failed.
    #[error("QEMU refused `{command}`: {description}")]
    Refused {
        /// The command.
        command: &'static str,
        /// QEMU's description.
        description: String,
    },
}

/// A conversation with QEMU.
#[derive(Debug, Default)]
pub struct Session {
    last: u64,
    open: BTreeMap<u64, Command>,
}

impl Session {
    /// The number of a command and the line to send.
    pub fn ask(&mut self, command: Command) -> (u64, String) {
        self.last += 1;
        if self.open.len() >= OPEN_MAX {
            self.open.pop_first();
        }
        self.open.insert(self.last, command);
        (self.last, command.render(self.last))
    }

    /// Takes a line of QEMU's.
    ///
    /// # Errors
    /// A line that is not a QMP message.
    pub fn hear(&mut self, line: &str) -> Result<Message, Error> {
        let value: Value = serde_json::from_str(line).map_err(|_| Error::Malformed)?;
        if value.get("QMP").is_some() {
            return Ok(Message::Greeting);
        }
        if let Some(name) = value.get("event").and_then(Value::as_str) {
            return Ok(Message::Event(Event::read(name, value.get("data").unwrap_or(&Value::Null))));
        }
        let (returned, error) = (value.get("return"), value.get("error"));
        if returned.is_none() && error.is_none() {
            return Err(Error::Malformed);
        }
        let id = value.get("id").and_then(Value::as_u64);
        let Some((id, command)) = id.and_then(|id| Some((id, self.open.remove(&id)?))) else {
            return Ok(Message::Stray);
        };
        let answer = match returned {
            Some(value) => command.read(value).ok_or(Error::Malformed),
            None => {
                let description = error.and_then(|error| text(error, "desc"));
                let description = description.unwrap_or_else(|| "unknown error".to_owned());
                Err(Error::Refused { command: command.name(), description })
            }
        };
        Ok(Message::Answer { id, answer })
    }
}

#[cfg(test)]
mod tests;

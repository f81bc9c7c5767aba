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
        }
    }

    /// The command as one line, with its final line feed.
    fn render(self, id: u64) -> String {
        let mut message = json!({"execute": self.name(), "id": id});
        if let (Some(object), Self::InfoUsernet) = (message.as_object_mut(), self) {
            object.insert("arguments".to_owned(), json!({"command-line": "info usernet"}));
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
            Self::Capabilities | Self::SystemPowerdown | Self::Continue | Self::Quit => Answer::Done,
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
mod tests {
    use super::{Answer, Command, Error, Event, Kvm, Message, OPEN_MAX, Session};
    use crate::vm::ports::Forward;

    fn answer(command: Command, line: &str) -> Result<Answer, Error> {
        let mut session = Session::default();
        let (id, _) = session.ask(command);
        match session.hear(&line.replace("ID", &id.to_string())).unwrap() {
            Message::Answer { id: found, answer } if found == id => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_find_their_commands_in_any_order() {
        let mut session = Session::default();
        let (first, line) = session.ask(Command::QueryStatus);
        assert_eq!(line, "{\"execute\":\"query-status\",\"id\":1}\n");
        let (second, _) = session.ask(Command::QueryKvm);
        let heard = session.hear(r#"{"return": {"enabled": false, "present": true}, "id": 2}"#).unwrap();
        let kvm = Ok(Answer::Kvm(Kvm { enabled: false, present: true }));
        assert_eq!(heard, Message::Answer { id: second, answer: kvm });
        let heard = session.hear(r#"{"return": {"status": "running"}, "id": 1}"#).unwrap();
        assert_eq!(heard, Message::Answer { id: first, answer: Ok(Answer::Status("running".to_owned())) });
        // Nobody asked, or has been answered.
        for stray in [r#"{"return": {}, "id": 1}"#, r#"{"return": {}}"#, r#"{"error": {}, "id": 9}"#] {
            assert_eq!(session.hear(stray).unwrap(), Message::Stray);
        }
    }

    #[test]
    fn answers_are_read_as_their_commands_have_them() {
        assert_eq!(answer(Command::Quit, r#"{"return": {}, "id": ID}"#), Ok(Answer::Done));
        // QEMU 7.2's, shortened.
        let version =
            r#"{"return": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "id": ID}"#;
        assert_eq!(answer(Command::QueryVersion, version), Ok(Answer::Version("7.2.22".to_owned())));
        let blocks = r#"{"return": [{"io-status": "ok", "device": "", "qdev": "/machine/peripheral/disk0/virtio-backend",
            "inserted": {"ro": false, "drv": "qcow2", "node-name": "root",
            "file": "json:{\"driver\": \"qcow2\", \"file\": {\"driver\": \"file\", \"filename\": \"/dev/fdset/1\"}}",
            "image": {"virtual-size": 1073741824, "filename": "/dev/fdset/1"}}}, {"device": "empty"}], "id": ID}"#;
        let Ok(Answer::Blocks(blocks)) = answer(Command::QueryBlock, blocks) else { panic!("no drives") };
        assert_eq!(blocks.len(), 1, "an empty drive is none");
        assert_eq!((blocks[0].format.as_str(), blocks[0].size), ("qcow2", Some(1 << 30)));
        assert_eq!(blocks[0].file, "/dev/fdset/1");
        assert_eq!(blocks[0].device, "/machine/peripheral/disk0/virtio-backend");
        let usernet = "{\"return\": \"Hub -1 (net0):\\r\\n  TCP[HOST_FORWARD]  13  127.0.0.1 40123  10.0.2.15  22  0  0\\r\\n\", \"id\": ID}";
        let forwards = Answer::Forwards(vec![Forward::loopback(40123, 22)]);
        assert_eq!(answer(Command::InfoUsernet, usernet), Ok(forwards));
        assert_eq!(answer(Command::QueryKvm, r#"{"return": {}, "id": ID}"#), Err(Error::Malformed));
    }

    #[test]
    fn a_refusal_names_the_command() {
        let refused =
            answer(Command::QueryKvm, r#"{"error": {"class": "GenericError", "desc": "no"}, "id": ID}"#);
        assert_eq!(refused.unwrap_err().to_string(), "QEMU refused `query-kvm`: no");
    }

    #[test]
    fn events_are_told_apart_and_unknown_ones_pass_by() {
        let mut session = Session::default();
        let mut hear = |line: &str| session.hear(line).unwrap();
        assert_eq!(hear(r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#), Message::Greeting);
        assert_eq!(
            hear(r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#),
            Message::Event(Event::Shutdown { reason: "guest-shutdown".to_owned() })
        );
        assert_eq!(
            hear(r#"{"event": "RESET", "data": {"guest": true, "reason": "guest-reset"}}"#),
            Message::Event(Event::Reset { by_guest: true })
        );
        assert_eq!(hear(r#"{"timestamp": {}, "event": "RESUME"}"#), Message::Event(Event::Resume));
        assert_eq!(hear(r#"{"event": "NIC_RX_FILTER_CHANGED"}"#), Message::Event(Event::Other));
        for nonsense in ["SSH-2.0", "{}", r#"{"event": 1}"#] {
            assert_eq!(session.hear(nonsense), Err(Error::Malformed));
        }
    }

    #[test]
    fn a_qemu_that_never_answers_takes_no_memory_without_end() {
        let mut session = Session::default();
        for _ in 0..10 * OPEN_MAX {
            session.ask(Command::QueryStatus);
        }
        assert_eq!(session.open.len(), OPEN_MAX);
    }

    #[test]
    fn usernet_goes_through_the_human_monitor() {
        assert_eq!(
            Command::InfoUsernet.render(7),
            "{\"execute\":\"human-monitor-command\",\"id\":7,\"arguments\":{\"command-line\":\"info usernet\"}}\n"
        );
    }
}

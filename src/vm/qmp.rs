//! QEMU's control protocol: its messages, and a client over any reader and writer.

use std::io::{BufRead, Write};

use serde_json::{Value, json};

use crate::vm::ports::{Forward, parse_usernet};

/// Longest message taken from QEMU, in bytes: its longest known ones are some tens of KiB.
const MESSAGE_MAX: usize = 1 << 20;

/// A command to QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Leaves capability negotiation; must come first.
    Capabilities,
    /// Whether the machine runs.
    QueryStatus,
    /// Whether KVM is in use.
    QueryKvm,
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
    /// The command as one line, with its final line feed.
    #[must_use]
    pub fn render(self, id: u64) -> String {
        let (name, arguments) = match self {
            Self::Capabilities => ("qmp_capabilities", None),
            Self::QueryStatus => ("query-status", None),
            Self::QueryKvm => ("query-kvm", None),
            Self::SystemPowerdown => ("system_powerdown", None),
            Self::Continue => ("cont", None),
            Self::Quit => ("quit", None),
            Self::InfoUsernet => ("human-monitor-command", Some(json!({"command-line": "info usernet"}))),
        };
        let mut message = json!({"execute": name, "id": id});
        if let (Some(object), Some(arguments)) = (message.as_object_mut(), arguments) {
            object.insert("arguments".to_owned(), arguments);
        }
        format!("{message}\n")
    }
}

/// A message from QEMU.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The first message on a connection.
    Greeting,
    /// A command's answer.
    Return {
        /// The command's number.
        id: Option<u64>,
        /// What it returned.
        value: Value,
    },
    /// A command's failure.
    Failure {
        /// The command's number.
        id: Option<u64>,
        /// QEMU's description.
        description: String,
    },
    /// Something happened.
    Event {
        /// Name of the event (`SHUTDOWN`, `GUEST_PANICKED`, ...).
        name: String,
        /// Its data, null where it has none.
        data: Value,
    },
}

impl Message {
    /// Reads one line.
    ///
    /// # Errors
    /// A line that is not a QMP message.
    pub fn parse(line: &str) -> Result<Self, Error> {
        let value: Value = serde_json::from_str(line).map_err(|_| Error::Malformed)?;
        let id = value.get("id").and_then(Value::as_u64);
        if value.get("QMP").is_some() {
            Ok(Self::Greeting)
        } else if let Some(returned) = value.get("return") {
            Ok(Self::Return { id, value: returned.clone() })
        } else if let Some(error) = value.get("error") {
            let description = error.get("desc").and_then(Value::as_str).unwrap_or("unknown error").to_owned();
            Ok(Self::Failure { id, description })
        } else if let Some(name) = value.get("event").and_then(Value::as_str) {
            let data = value.get("data").cloned().unwrap_or(Value::Null);
            Ok(Self::Event { name: name.to_owned(), data })
        } else {
            Err(Error::Malformed)
        }
    }
}

/// Why a conversation with QEMU failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// QEMU closed the connection.
    #[error("QEMU closed its control connection")]
    Closed,
    /// Not a message.
    #[error("QEMU sent something that is not a QMP message")]
    Malformed,
    /// A message of impossible length.
    #[error("QEMU sent a message of more than {MESSAGE_MAX} bytes")]
    TooLong,
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
    /// The connection failed, or its deadline passed.
    #[error("control connection to QEMU: {0}")]
    Io(#[from] std::io::Error),
}

/// Answer of `query-kvm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kvm {
    /// Whether the machine runs under KVM.
    pub enabled: bool,
    /// Whether this QEMU could use KVM at all.
    pub present: bool,
}

/// Events that are kept while we wait for an answer; a machine that is just starting has only a few.
const EVENTS_MAX: usize = 64;

/// The first conversation with QEMU: until it has said how the machine came up.
#[derive(Debug)]
pub struct Client<R, W> {
    reader: R,
    writer: W,
    last_id: u64,
    events: Vec<Message>,
}

impl<R: BufRead, W: Write> Client<R, W> {
    /// Takes the greeting and leaves capability negotiation.
    ///
    /// # Errors
    /// A peer that does not speak QMP, or a failed connection.
    pub fn connect(reader: R, writer: W) -> Result<Self, Error> {
        let mut client = Self { reader, writer, last_id: 0, events: Vec::new() };
        if client.receive()? != Message::Greeting {
            return Err(Error::NoGreeting);
        }
        client.execute(Command::Capabilities, "qmp_capabilities")?;
        Ok(client)
    }

    /// Whether the machine runs under KVM.
    ///
    /// # Errors
    /// A refusal or a failed connection.
    pub fn query_kvm(&mut self) -> Result<Kvm, Error> {
        let value = self.execute(Command::QueryKvm, "query-kvm")?;
        let fact = |name| value.get(name).and_then(Value::as_bool).ok_or(Error::Malformed);
        Ok(Kvm { enabled: fact("enabled")?, present: fact("present")? })
    }

    /// The forwards that are listening, with the ports that the kernel chose.
    ///
    /// # Errors
    /// A refusal or a failed connection.
    pub fn forwards(&mut self) -> Result<Vec<Forward>, Error> {
        let value = self.execute(Command::InfoUsernet, "info usernet")?;
        value.as_str().map(parse_usernet).ok_or(Error::Malformed)
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// A failed connection or something that is not a message.
    fn receive(&mut self) -> Result<Message, Error> {
        let mut line = String::new();
        let limit = u64::try_from(MESSAGE_MAX).unwrap_or(u64::MAX);
        let length = std::io::Read::take(&mut self.reader, limit).read_line(&mut line)?;
        match length {
            0 => Err(Error::Closed),
            MESSAGE_MAX => Err(Error::TooLong),
            _ if !line.ends_with('\n') => Err(Error::Closed),
            _ => Message::parse(&line),
        }
    }

    /// The reader, which may hold more bytes already, and the events that came while answers were awaited.
    pub fn into_parts(self) -> (R, Vec<Message>) {
        (self.reader, self.events)
    }

    fn execute(&mut self, command: Command, name: &'static str) -> Result<Value, Error> {
        self.last_id += 1;
        let wanted = self.last_id;
        self.writer.write_all(command.render(wanted).as_bytes())?;
        self.writer.flush()?;
        loop {
            match self.receive()? {
                Message::Return { id, value } if id == Some(wanted) => return Ok(value),
                Message::Failure { id, description } if id == Some(wanted) => {
                    return Err(Error::Refused { command: name, description });
                }
                event @ Message::Event { .. } => {
                    if self.events.len() < EVENTS_MAX {
                        self.events.push(event);
                    }
                }
                // A greeting or an answer to something else: not ours.
                Message::Greeting | Message::Return { .. } | Message::Failure { .. } => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Client, Command, EVENTS_MAX, Error, Kvm, Message};
    use crate::vm::ports::Forward;

    const GREETING: &str = "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}}, \
                            \"capabilities\": [\"oob\"]}}\r\n";

    fn client(script: &str) -> Result<Client<std::io::Cursor<Vec<u8>>, Vec<u8>>, Error> {
        let text = format!("{GREETING}{{\"return\": {{}}, \"id\": 1}}\r\n{script}");
        Client::connect(std::io::Cursor::new(text.into_bytes()), Vec::new())
    }

    const KVM: &str = "{\"return\": {\"enabled\": false, \"present\": true}, \"id\": 2}\r\n";

    #[test]
    fn greets_negotiates_and_asks() {
        let mut client = client(KVM).unwrap();
        assert_eq!(client.query_kvm().unwrap(), Kvm { enabled: false, present: true });
        let written = String::from_utf8(client.writer).unwrap();
        assert_eq!(
            written,
            "{\"execute\":\"qmp_capabilities\",\"id\":1}\n{\"execute\":\"query-kvm\",\"id\":2}\n"
        );
    }

    #[test]
    fn events_between_are_kept_but_not_without_end() {
        let event = "{\"timestamp\": {}, \"event\": \"RESUME\"}\r\n";
        let mut client = client(&format!("{}{KVM}", event.repeat(3 * EVENTS_MAX))).unwrap();
        client.query_kvm().unwrap();
        let (_, events) = client.into_parts();
        assert!(matches!(&events[..], [Message::Event { name, .. }, ..] if name == "RESUME"));
        assert_eq!(events.len(), EVENTS_MAX);
    }

    #[test]
    fn the_ports_chosen_are_read_from_the_human_monitor() {
        let mut client = client(
            "{\"return\": \"Hub -1 (net0):\\r\\n  TCP[HOST_FORWARD]  13  127.0.0.1 40123  10.0.2.15  22  0  0\\r\\n\", \
             \"id\": 2}\r\n",
        )
        .unwrap();
        assert_eq!(client.forwards().unwrap(), [Forward::loopback(40123, 22)]);
    }

    #[test]
    fn a_refusal_names_the_command() {
        let mut client =
            client("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 2}\r\n").unwrap();
        assert_eq!(client.query_kvm().unwrap_err().to_string(), "QEMU refused `query-kvm`: no");
    }

    #[test]
    fn a_peer_that_is_not_qemu_is_told_apart() {
        let silent = Client::connect(std::io::Cursor::new(Vec::new()), Vec::new());
        assert!(matches!(silent, Err(Error::Closed)));
        let other = Client::connect(std::io::Cursor::new(b"SSH-2.0\n".to_vec()), Vec::new());
        assert!(matches!(other, Err(Error::Malformed)));
        let cut = Client::connect(std::io::Cursor::new(b"{\"QMP\": {}}".to_vec()), Vec::new());
        assert!(matches!(cut, Err(Error::Closed)));
    }

    #[test]
    fn usernet_goes_through_the_human_monitor() {
        assert_eq!(
            Command::InfoUsernet.render(7),
            "{\"execute\":\"human-monitor-command\",\"id\":7,\"arguments\":{\"command-line\":\"info usernet\"}}\n"
        );
    }
}

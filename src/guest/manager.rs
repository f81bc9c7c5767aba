//! Units started and stopped by systemd's manager, which is asked directly.
//!
//! systemctl does the same. Where the processor is emulated it takes a fifth of a second to come up, since none of its
//! code has been translated yet: as long as all secrets take. Of D-Bus this speaks what two methods and one signal need,
//! and where it is not understood, systemctl is asked. A bus library would bring an async runtime, or an older
//! generation of what civm is made of.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Where the manager listens for root, without a bus between (`org.freedesktop.systemd1(5)`).
const SOCKET: &str = "/run/systemd/private";
/// The start of a conversation, as root: D-Bus specification, "Authentication Protocol".
const HELLO: &[u8] = b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n";
const PATH: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const START: &str = "StartUnit";
const STOP: &str = "StopUnit";
const SIGNAL: &str = "JobRemoved";
/// A job of which one replaces another that has not begun.
const MODE: &str = "replace";
/// How long a word may take that has begun.
const WORD: Duration = Duration::from_secs(5);
/// The longest message that is read: the manager's are some hundred bytes.
const MESSAGE_MAX: usize = 1 << 20;

/// D-Bus specification, "Message Format".
mod kind {
    pub(super) const CALL: u8 = 1;
    pub(super) const REPLY: u8 = 2;
    pub(super) const ERROR: u8 = 3;
    pub(super) const SIGNAL: u8 = 4;
}
mod field {
    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const REPLY_SERIAL: u8 = 5;
    pub(super) const DESTINATION: u8 = 6;
    pub(super) const SIGNATURE: u8 = 8;
}

/// Jobs that the manager was asked for.
pub(super) struct Jobs {
    stream: UnixStream,
    /// The number of the last call.
    serial: u32,
    /// Whether the manager has answered the start of the conversation.
    welcome: bool,
    /// Units that were not answered yet, by the call's number.
    asked: BTreeMap<u32, String>,
    /// Units under way, by the job's path.
    running: BTreeMap<String, String>,
    /// What came before its job was known.
    removed: BTreeMap<String, String>,
    /// What went wrong, a sentence a unit.
    pub(super) wrong: Vec<String>,
}

impl Jobs {
    /// Begins a conversation. The answer is not waited for.
    pub(super) fn begin() -> io::Result<Self> {
        Self::on(UnixStream::connect(SOCKET)?)
    }

    fn on(mut stream: UnixStream) -> io::Result<Self> {
        let (asked, running, removed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        stream.set_read_timeout(Some(WORD))?;
        stream.set_write_timeout(Some(WORD))?;
        stream.write_all(HELLO)?;
        Ok(Self { stream, serial: 0, welcome: false, asked, running, removed, wrong: Vec::new() })
    }

    /// Asks for the start of units.
    pub(super) fn start(&mut self, units: &[&str]) -> io::Result<()> {
        self.ask(START, units)
    }

    /// Asks for their stop.
    pub(super) fn stop(&mut self, units: &[&str]) -> io::Result<()> {
        self.ask(STOP, units)
    }

    fn ask(&mut self, method: &str, units: &[&str]) -> io::Result<()> {
        if !self.welcome {
            // systemd does not look at what comes together with the start of a conversation before more comes.
            expect_welcome(&mut self.stream)?;
            self.welcome = true;
        }
        let mut words = Vec::new();
        for unit in units {
            self.serial += 1;
            words.extend(call(self.serial, method, unit));
            self.asked.insert(self.serial, (*unit).to_owned());
        }
        self.stream.write_all(&words)
    }

    /// Units whose start has not ended.
    pub(super) fn pending(&self) -> Vec<&str> {
        self.asked.values().chain(self.running.values()).map(String::as_str).collect()
    }

    /// Waits for the next word of the manager, for a while.
    pub(super) fn wait(&mut self, within: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(within))?;
        let mut start = [0; 16];
        match self.stream.read(&mut start[..1]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.stream.set_read_timeout(Some(WORD))?;
        self.stream.read_exact(&mut start[1..])?;
        let message = Message::read(&start, &mut self.stream)?;
        self.take(&message).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// `None` where it is not what the manager says.
    fn take(&mut self, message: &Message) -> Option<()> {
        let mut body = Reader { bytes: &message.body, at: 0 };
        match message.kind {
            kind::REPLY => {
                let unit = self.asked.remove(&message.reply_serial)?;
                let job = body.text()?.to_owned();
                match self.removed.remove(&job) {
                    Some(result) => self.end(&unit, &result),
                    None => drop(self.running.insert(job, unit)),
                }
            }
            kind::ERROR => {
                let unit = self.asked.remove(&message.reply_serial)?;
                let reason = body.text().unwrap_or("systemd refused to start it");
                self.wrong.push(format!("{unit}: {reason}"));
            }
            kind::SIGNAL if message.member == SIGNAL => {
                body.number()?;
                let job = body.text()?.to_owned();
                body.text()?;
                let result = body.text()?;
                match self.running.remove(&job) {
                    Some(unit) => self.end(&unit, result),
                    None => drop(self.removed.insert(job, result.to_owned())),
                }
            }
            _ => {}
        }
        Some(())
    }

    fn end(&mut self, unit: &str, result: &str) {
        let reason = match result {
            "done" | "skipped" => return,
            "failed" => "failed to start; `journalctl -u` with its name says why, in the guest",
            "dependency" => "was not started: a unit that it needs has failed",
            "timeout" => "did not start in the time that it has for that",
            "canceled" => "was not started: another order took the place of its start",
            "assert" => "was not started: an Assert…= of it is not met",
            other => return self.wrong.push(format!("{unit} was not started ({other})")),
        };
        self.wrong.push(format!("{unit} {reason}"));
    }
}

/// The answer to the start of the conversation, a line.
fn expect_welcome(stream: &mut UnixStream) -> io::Result<()> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") && line.len() < 128 {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    if line.starts_with(b"OK ") { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// The call that starts or stops a unit.
fn call(serial: u32, method: &str, unit: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, unit);
    put_text(&mut body, MODE);
    let mut fields = Vec::new();
    let named = [
        (field::PATH, b'o', PATH),
        (field::DESTINATION, b's', "org.freedesktop.systemd1"),
        (field::INTERFACE, b's', INTERFACE),
        (field::MEMBER, b's', method),
    ];
    for (code, of, value) in named {
        pad(&mut fields, 8);
        fields.extend([code, 1, of, 0]);
        put_text(&mut fields, value);
    }
    pad(&mut fields, 8);
    fields.extend([field::SIGNATURE, 1, b'g', 0, 2, b's', b's', 0]);
    let mut message = vec![b'l', kind::CALL, 0, 1];
    message.extend(length(&body));
    message.extend(serial.to_le_bytes());
    message.extend(length(&fields));
    message.extend(fields);
    pad(&mut message, 8);
    message.extend(body);
    message
}

/// A length as D-Bus writes it. What is longer than any message is refused as such.
fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    pad(bytes, 4);
    bytes.extend(length(text.as_bytes()));
    bytes.extend(text.bytes().chain([0]));
}

/// What of a message matters.
#[derive(Debug, Default, PartialEq)]
struct Message {
    kind: u8,
    member: String,
    reply_serial: u32,
    body: Vec<u8>,
}

impl Message {
    /// The rest of a message whose first 16 bytes these are.
    fn read(start: &[u8; 16], rest: &mut impl io::Read) -> io::Result<Self> {
        let number =
            |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]) as usize;
        let (body, fields) = (number(4), number(12));
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        // The manager writes in the machine's own order; a big-endian one is none of civm's.
        if start[0] != b'l' || body > MESSAGE_MAX || fields > MESSAGE_MAX {
            return Err(invalid());
        }
        let mut bytes = vec![0; fields.next_multiple_of(8) + body];
        rest.read_exact(&mut bytes)?;
        let body = bytes.split_off(fields.next_multiple_of(8));
        let mut message = Self { kind: start[1], body, ..Self::default() };
        let mut reader = Reader { bytes: &bytes[..fields], at: 0 };
        while reader.at < fields {
            reader.field(&mut message).ok_or_else(invalid)?;
        }
        Ok(message)
    }
}

/// Reads values as D-Bus lays them out, each at a multiple of its size.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.number()? as usize;
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        self.take(1)?;
        Some(text)
    }

    /// A field of the header: its code, its value's type, its value.
    fn field(&mut self, message: &mut Message) -> Option<()> {
        self.align(8);
        let code = self.take(1)?[0];
        let length = usize::from(self.take(1)?[0]);
        let of = self.take(length)?;
        self.take(1)?;
        match of {
            b"s" | b"o" => {
                let text = self.text()?;
                if code == field::MEMBER {
                    text.clone_into(&mut message.member);
                }
            }
            b"g" => {
                let length = usize::from(self.take(1)?[0]);
                self.take(length + 1)?;
            }
            b"u" => {
                let number = self.number()?;
                if code == field::REPLY_SERIAL {
                    message.reply_serial = number;
                }
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;

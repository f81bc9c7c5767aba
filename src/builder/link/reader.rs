//! Reads what the other end of a connection sends: lines, until it greets, and then messages.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::SyncSender;

use crate::builder::ssh::child::printable;
use crate::builder::wire::{FromRemote, GREETING, NOISE_MAX};
use crate::edge::frame;

/// Longest line before the greeting that is kept.
const LINE_MAX: usize = 1 << 10;
/// Longest message after the first one, in bytes.
const MESSAGE_MAX: u32 = 64 << 10;

/// What comes from the other end.
pub(super) enum Heard {
    /// A line before the greeting.
    Line(String),
    /// The greeting, with its protocol.
    Greeting(String),
    /// A message.
    Message(Box<FromRemote>),
    /// The end, and what was wrong with the last bytes if anything was.
    Closed(Option<String>),
    /// Somebody of this side wants to be noticed.
    Woken,
}

/// Ends a `Link::hear` that waits.
#[derive(Clone)]
pub struct Waker(SyncSender<Heard>);

impl Waker {
    pub(super) fn new(sender: SyncSender<Heard>) -> Self {
        Self(sender)
    }

    /// Does so. Where much has come that was not heard yet, nobody waits.
    pub fn wake(&self) {
        let _ = self.0.try_send(Heard::Woken);
    }
}

/// Reads what the other end sends.
pub(super) struct Reader {
    sender: SyncSender<Heard>,
}

impl Reader {
    pub(super) fn new(sender: SyncSender<Heard>) -> Self {
        Self { sender }
    }

    /// Until the other end is gone, or nobody listens any more.
    pub(super) fn run(&self, from: UnixStream) {
        let mut from = BufReader::with_capacity(4 << 10, from);
        let wrong = self.read(&mut from).err().filter(|error| error.kind() == io::ErrorKind::InvalidData);
        self.send(Heard::Closed(wrong.map(|error| printable(&error.to_string()))));
    }

    fn read(&self, from: &mut BufReader<UnixStream>) -> io::Result<()> {
        let mut left = NOISE_MAX;
        loop {
            let mut line = Vec::new();
            let most = u64::try_from(left).unwrap_or(u64::MAX);
            let count = from.by_ref().take(most).read_until(b'\n', &mut line)?;
            left -= count;
            if !line.ends_with(b"\n") {
                let endless = left == 0;
                let error = format!("more than {} KiB before its first word", NOISE_MAX >> 10);
                if !line.is_empty() {
                    self.line(&line);
                }
                return if endless { Err(io::Error::new(io::ErrorKind::InvalidData, error)) } else { Ok(()) };
            }
            if let Some(protocol) = std::str::from_utf8(&line).ok().and_then(greeting) {
                self.send(Heard::Greeting(protocol));
                break;
            }
            self.line(&line);
        }
        // Only the first one, which lists what a remote has, may be long.
        let mut most = frame::OBJECT_MAX;
        while let Some(message) = frame::receive_at_most::<FromRemote>(most, from)? {
            if !self.send(Heard::Message(Box::new(message.bounded()))) {
                break;
            }
            most = MESSAGE_MAX;
        }
        Ok(())
    }

    fn line(&self, line: &[u8]) {
        let line = &line[..line.len().min(LINE_MAX)];
        self.send(Heard::Line(printable(&String::from_utf8_lossy(line)).trim_end().to_owned()));
    }

    /// False where nobody listens any more.
    fn send(&self, heard: Heard) -> bool {
        self.sender.send(heard).is_ok()
    }
}

/// The protocol that a greeting names.
fn greeting(line: &str) -> Option<String> {
    let rest = line.strip_prefix(GREETING)?.strip_prefix(' ')?;
    Some(rest.trim().to_owned()).filter(|protocol| protocol.bytes().all(|byte| byte.is_ascii_digit()))
}

//! What a keeper says, read by a thread of its own: whoever waits for a machine still hears.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::machine;
use super::refusal::kind_of;
use crate::builder::wire::{Kind, ToRemote};
use crate::edge::frame;
use crate::image;
use crate::image::sent::Incoming;
use crate::instance::plan::{Staged, receive_files};

/// The most bytes of files that a share may have: they are kept in memory.
const FILES_BYTES_MAX: u64 = 256 << 20;

/// Why a session ends when its pipe does.
const GONE: &str = "its keeper is gone";

/// Something that happened.
pub(super) enum Input {
    /// The keeper said something that nothing follows.
    Said(ToRemote),
    /// The files of the share are there.
    Entries(Vec<Staged>),
    /// Part of the image is there: bytes, of how many.
    ImagePart(u64, u64),
    /// All of the image is there.
    ImageWhole,
    /// What the keeper sent cannot be taken.
    Refused(Kind, String),
    /// The keeper is gone, for this reason.
    Lost(String),
    /// The image can be received; none where it is there already.
    Receiving(Result<Option<Incoming>, image::Error>),
    /// The machine.
    Machine(machine::Event),
    /// The machine has been ended; what is left of it.
    Stopped(Vec<String>),
}

/// The image that is being received, if there is one.
pub(super) type Slot = Arc<Mutex<Option<Incoming>>>;

/// When the keeper was last heard, by a clock that goes on while this machine sleeps: nobody wants the builder of
/// yesterday.
#[derive(Debug)]
pub(super) struct Heard(AtomicU64);

impl Heard {
    pub(super) fn now() -> Self {
        Self(AtomicU64::new(milliseconds()))
    }

    /// How long ago that was.
    pub(super) fn ago(&self) -> Duration {
        Duration::from_millis(milliseconds().saturating_sub(self.0.load(Ordering::Relaxed)))
    }

    fn note(&self) {
        self.0.store(milliseconds(), Ordering::Relaxed);
    }
}

/// Since this machine was started, sleep included.
fn milliseconds() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// A reader whose every byte is a sign of life: a file may take longer than the keeper may be silent.
struct Listening<R> {
    from: R,
    heard: Arc<Heard>,
}

impl<R: Read> Read for Listening<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        if count > 0 {
            self.heard.note();
        }
        Ok(count)
    }
}

/// Reads until the keeper is gone, or what it sends cannot be taken.
pub(super) fn read(from: impl Read, heard: Arc<Heard>, slot: &Slot, to: &SyncSender<Input>) {
    let mut from = Listening { from, heard };
    loop {
        let input = next(&mut from, slot).unwrap_or_else(|error| match error.kind() {
            io::ErrorKind::InvalidData => Input::Refused(Kind::Protocol, error.to_string()),
            io::ErrorKind::UnexpectedEof => Input::Lost(GONE.to_owned()),
            _ => Input::Lost(format!("{GONE}: {error}")),
        });
        let is_last = matches!(input, Input::Refused(..) | Input::Lost(_));
        if to.send(input).is_err() || is_last {
            return;
        }
    }
}

fn next(from: &mut impl Read, slot: &Slot) -> io::Result<Input> {
    let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason);
    match frame::receive(from)?.ok_or_else(|| invalid("an empty message"))? {
        ToRemote::Entries => Ok(Input::Entries(receive_files(from, FILES_BYTES_MAX)?)),
        ToRemote::ImageFile { name, size, sha256 } => {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            let mut incoming = slot.take().ok_or_else(|| invalid("an image that was not asked for"))?;
            if let Err(error) = incoming.take(&name, size, &sha256, from) {
                return Ok(refused(&error));
            }
            let (done, total) = incoming.progress();
            if !incoming.is_whole() {
                *slot = Some(incoming);
                return Ok(Input::ImagePart(done, total));
            }
            Ok(incoming.finish().map_or_else(|error| refused(&error), |()| Input::ImageWhole))
        }
        message => Ok(Input::Said(message)),
    }
}

/// A file of the image that cannot be taken. What follows it on the pipe is not a message any more.
fn refused(error: &image::Error) -> Input {
    let kind = match error {
        image::Error::Io { source, .. } => match source.kind() {
            io::ErrorKind::UnexpectedEof => return Input::Lost(GONE.to_owned()),
            _ => kind_of(source, Kind::Image),
        },
        _ => Kind::Image,
    };
    Input::Refused(kind, format!("the image cannot be received: {error}"))
}

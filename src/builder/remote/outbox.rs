//! What a remote says, written by a thread of its own: a keeper that takes nothing more keeps nobody waiting.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use crate::builder::wire::{FromRemote, GREETING, PROTOCOL};
use crate::edge::frame;

/// Messages that wait for the pipe. When there are more, the other end does not read them: it is dead.
const WAITING: usize = 256;

/// Where messages are put.
#[derive(Clone)]
pub(super) struct Outbox {
    /// Nothing ends them.
    queue: SyncSender<Option<FromRemote>>,
    is_lost: Arc<AtomicBool>,
}

/// The end of the writing thread.
pub(super) struct Written(Receiver<()>);

impl Outbox {
    /// Begins with the greeting.
    pub(super) fn begin(mut to: impl Write + Send + 'static) -> (Self, Written) {
        let (queue, messages) = sync_channel(WAITING);
        let (done, written) = sync_channel(1);
        let is_lost = Arc::new(AtomicBool::new(false));
        let lost = Arc::clone(&is_lost);
        std::thread::spawn(move || {
            if write(&mut to, &messages).is_err() {
                lost.store(true, Ordering::Relaxed);
            }
            let _ = done.send(());
        });
        (Self { queue, is_lost }, Written(written))
    }

    /// Says something, without waiting for anybody.
    pub(super) fn say(&self, message: FromRemote) {
        self.put(Some(message));
    }

    /// Says nothing more.
    pub(super) fn close(&self) {
        self.put(None);
    }

    fn put(&self, message: Option<FromRemote>) {
        if self.queue.try_send(message).is_err() {
            self.is_lost.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the other end takes nothing more.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }
}

impl Written {
    /// Waits until everything was written, or the other end was not interested.
    pub(super) fn wait(&self, patience: Duration) {
        // Whether it came so far is all the same.
        let _ = self.0.recv_timeout(patience);
    }
}

fn write(to: &mut impl Write, messages: &Receiver<Option<FromRemote>>) -> io::Result<()> {
    to.write_all(format!("{GREETING} {PROTOCOL}\n").as_bytes())?;
    to.flush()?;
    for message in messages.iter().map_while(|message| message) {
        frame::send(to, &message)?;
        to.flush()?;
    }
    Ok(())
}

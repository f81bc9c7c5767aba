//! The keeper's socket: a thread for each who asks, as long as it takes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Uid;

use super::socket::{REQUEST_MAX, Reply, Request};
use super::{Caller, Message};
use crate::builder::ssh::child::STACK;

/// How long a request may be on its way.
const REQUEST: Duration = Duration::from_secs(10);
/// How long an answer may lie before it is taken.
const TAKEN: Duration = Duration::from_secs(10);
/// How many may ask at once; connections to builders are not among them once they are made.
const ASKING_MAX: usize = 512;
/// Lines of an answer that may wait.
const LINES_MAX: usize = 256;
/// How often it is looked whether somebody still waits for an answer.
const LOOK: Duration = Duration::from_secs(1);

/// Begins to listen.
///
/// # Errors
/// The system refuses.
pub(super) fn begin(listener: UnixListener, hub: SyncSender<Message>) -> Result<(), String> {
    let asking = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Mostly too many open files: it passes.
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            if asking.fetch_add(1, Ordering::SeqCst) >= ASKING_MAX {
                asking.fetch_sub(1, Ordering::SeqCst);
                let _ = answer(&stream, &refusal("too many requests at once"));
                continue;
            }
            let (hub, done) = (hub.clone(), Done(Arc::clone(&asking)));
            let serve = move || {
                let _done = done;
                serve(stream, &hub);
            };
            let _ = thread::Builder::new().name("ask".into()).stack_size(STACK).spawn(serve);
        }
    };
    thread::Builder::new()
        .name("listen".into())
        .stack_size(STACK)
        .spawn(accept)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// One less who asks.
struct Done(Arc<AtomicUsize>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn serve(stream: UnixStream, hub: &SyncSender<Message>) {
    let timeouts =
        stream.set_read_timeout(Some(REQUEST)).and_then(|()| stream.set_write_timeout(Some(TAKEN)));
    if timeouts.is_err() {
        return;
    }
    let request = match read(&stream) {
        Ok(request) => request,
        Err(error) => {
            let _ = answer(&stream, &refusal(&format!("not a request: {error}")));
            return;
        }
    };
    if let Request::Dial { builder } = request {
        let _ = stream.set_read_timeout(None);
        let _ = hub.send(Message::Dial { builder, caller: Caller::Socket(stream) });
        return;
    }
    let (reply, replies) = sync_channel(LINES_MAX);
    if hub.send(Message::Ask { request, reply, owner: is_owner(&stream) }).is_ok() {
        pass_on(&stream, &replies);
    }
}

fn read(stream: &UnixStream) -> std::io::Result<Request> {
    let mut line = Vec::new();
    // A dial says nothing more until it is connected: no byte of the connection can be in this buffer.
    BufReader::new(stream.take(REQUEST_MAX)).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}

fn pass_on(stream: &UnixStream, replies: &Receiver<Reply>) {
    loop {
        match replies.recv_timeout(LOOK) {
            Ok(reply) if answer(stream, &reply).is_ok() => {}
            // Who follows a log in which nothing happens may be gone all the same.
            Err(RecvTimeoutError::Timeout) if !has_hung_up(stream.as_fd()) => {}
            _ => return,
        }
    }
}

/// Whether the other side of a connection says nothing more, whatever of it has not been read yet.
pub(super) fn has_hung_up(stream: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::new(stream, PollFlags::from_bits_retain(nix::libc::POLLRDHUP))];
    poll(&mut watched, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// Writes a line of an answer.
pub(super) fn answer(mut stream: &UnixStream, reply: &Reply) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn refusal(error: &str) -> Reply {
    Reply { error: Some(error.to_owned()), ..Reply::default() }
}

/// Whether somebody is root or this user: others may build, and look, but change nothing.
fn is_owner(stream: &UnixStream) -> bool {
    getsockopt(stream, PeerCredentials)
        .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == Uid::effective().as_raw())
}

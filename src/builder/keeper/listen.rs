//! The keeper's socket: a thread for each who asks, as long as it takes.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
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
/// How many may ask at once; connections to builders are not among them once they are made. One user has no more than
/// a part of that, and those who may only build leave room for root and for whose keeper it is.
const ASKING_MAX: usize = 512;
const OF_OTHERS_MAX: usize = 448;
const OF_ONE_MAX: usize = 128;
/// Lines of an answer that may wait.
const LINES_MAX: usize = 256;
/// How often it is looked whether somebody still waits for an answer.
const LOOK: Duration = Duration::from_secs(1);

/// Begins to listen.
///
/// # Errors
/// The system refuses.
pub(super) fn begin(listener: UnixListener, hub: SyncSender<Message>) -> Result<(), String> {
    let asking = Arc::new(Asking::default());
    let accept = move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Mostly too many open files: it passes.
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            let who = user(&stream);
            let Some(place) = Asking::enter(&asking, who) else {
                let _ = answer(&stream, &refusal("too many requests at once"));
                continue;
            };
            let hub = hub.clone();
            let serve = move || {
                let _place = place;
                serve(stream, &hub, is_owner(who));
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

/// How many of each user ask; whom the system does not know is one of them.
#[derive(Default)]
struct Asking(Mutex<BTreeMap<Option<u32>, usize>>);

/// One who asks, until this is dropped.
struct Place {
    asking: Arc<Asking>,
    who: Option<u32>,
}

impl Asking {
    /// A place for one more of a user, if there is one.
    fn enter(asking: &Arc<Self>, who: Option<u32>) -> Option<Place> {
        let mut users = asking.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = users.values().sum();
        let others: usize = users.iter().filter(|(who, _)| !is_owner(**who)).map(|(_, count)| count).sum();
        let own = users.get(&who).copied().unwrap_or_default();
        let has_room = all < ASKING_MAX && (is_owner(who) || (others < OF_OTHERS_MAX && own < OF_ONE_MAX));
        has_room.then(|| {
            users.insert(who, own + 1);
            Place { asking: Arc::clone(asking), who }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut users = self.asking.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = users.get(&self.who).copied().unwrap_or_default().saturating_sub(1);
        if left == 0 {
            users.remove(&self.who)
        } else {
            users.insert(self.who, left)
        };
    }
}

fn serve(stream: UnixStream, hub: &SyncSender<Message>, owner: bool) {
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
    if hub.send(Message::Ask { request, reply, owner }).is_ok() {
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

/// Who is at the other end.
fn user(stream: &UnixStream) -> Option<u32> {
    getsockopt(stream, PeerCredentials).ok().map(|peer| peer.uid())
}

/// Whether somebody is root or this user: others may build, and look, but change nothing.
fn is_owner(who: Option<u32>) -> bool {
    who.is_some_and(|uid| uid == 0 || uid == Uid::effective().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_room_for_others_and_all_of_them_for_the_owner() {
        let asking = Arc::new(Asking::default());
        let own = Uid::effective().as_raw();
        let enter = |who| Asking::enter(&asking, Some(who));
        let take = |who| std::iter::from_fn(|| enter(who)).collect::<Vec<_>>();
        let of_one = take(own + 1);
        assert_eq!(of_one.len(), OF_ONE_MAX);
        let of_others: Vec<_> = (2..6).flat_map(|n| take(own + n)).collect();
        assert_eq!(of_one.len() + of_others.len(), OF_OTHERS_MAX);
        let of_owner = take(own);
        assert_eq!(of_owner.len(), ASKING_MAX - OF_OTHERS_MAX);
        drop(of_one);
        assert!(enter(own).is_some() && enter(own + 1).is_some());
        drop((of_others, of_owner));
        assert!(asking.0.lock().unwrap().is_empty());
    }
}

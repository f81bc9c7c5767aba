//! The supervisor's socket, on which other runs of civm ask it something. The protocol is [`wire`]'s.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::instance::stage::incoming::Incoming;
use crate::instance::stage::lines::Lines;
use crate::instance::stage::outlet::Outlet;
use crate::instance::wire::{self, Code, Failure, Hello, Numbered, Outcome, PROTOCOL, Reply, Request};

/// Connections at a time; a further one takes the place of the one that has said nothing for longest.
const CLIENTS_MAX: usize = 32;
/// How long a connection keeps its seat though it says nothing and others want it.
const SILENCE: Duration = Duration::from_secs(1);
/// Those of them that are sent events: they stay, and must not keep others from asking.
const SUBSCRIBERS_MAX: usize = 16;
/// Bytes of answers that wait for somebody who does not read.
const WAITING_MAX: usize = 1 << 20;
/// Bytes of files taken at once.
const FILES_MAX: usize = 256 << 10;

/// Who asked, and the number of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) client: u64,
    pub(super) id: u64,
}

/// What has come over a connection.
pub(super) enum Asked {
    /// A request.
    Request(Asker, Request),
    /// All files of a request to stage some, or why they did not come.
    Files(Asker, io::Result<Incoming>),
}

/// Somebody who is connected.
struct Client {
    number: u64,
    lines: Lines,
    subscribed: bool,
    /// Files on their way in: what is sent is not lines meanwhile.
    files: Option<(u64, Incoming)>,
    /// The connection ends with its last answer.
    last: bool,
    /// When it said something last.
    heard: Instant,
    /// Its requests that have no answer yet.
    unanswered: usize,
}

/// The socket and those who are connected.
pub(super) struct Control {
    listener: UnixListener,
    clients: Vec<Client>,
    last: u64,
}

/// The part that every request has, whatever its name.
#[derive(Deserialize)]
struct Head {
    id: u64,
    request: String,
}

impl Control {
    pub(super) fn listen(path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, clients: Vec::new(), last: 0 })
    }

    /// What to wait for.
    pub(super) fn watched(&self, now: Instant) -> impl Iterator<Item = PollFd<'_>> {
        let listener = self.has_seat(now).then(|| PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        // Of one that has its last answer nothing more is taken.
        let clients = self
            .clients
            .iter()
            .map(|client| if client.last { client.lines.writable() } else { client.lines.watched() });
        listener.into_iter().chain(clients)
    }

    /// When somebody who waits to be connected may have a seat, if that is later than now.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let (_, until) = self.first_to_go().filter(|_| !self.has_seat(now))?;
        Some(until)
    }

    /// What has been asked.
    pub(super) fn receive(&mut self, now: Instant) -> Vec<Asked> {
        let mut asked = Vec::new();
        // What was said already is heard before anybody loses a seat.
        self.clients.retain_mut(|client| client.receive(now, &mut asked));
        for _ in 0..CLIENTS_MAX {
            if !self.has_seat(now) {
                break;
            }
            let Ok((socket, _)) = self.listener.accept() else { break };
            let Ok(lines) = Lines::new(socket, wire::REQUEST_MAX) else { continue };
            if let Some((at, _)) = self.first_to_go().filter(|_| self.clients.len() >= CLIENTS_MAX) {
                self.clients.remove(at);
            }
            self.last += 1;
            let mut client = Client {
                number: self.last,
                lines,
                subscribed: false,
                files: None,
                last: false,
                heard: now,
                unanswered: 0,
            };
            if client.receive(now, &mut asked) {
                self.clients.push(client);
            }
        }
        asked
    }

    /// Whether one more may be connected.
    fn has_seat(&self, now: Instant) -> bool {
        self.clients.len() < CLIENTS_MAX || self.first_to_go().is_some_and(|(_, until)| until <= now)
    }

    /// Whose seat is given away, and from when on: the one that has said nothing for longest. Who is sent events, or
    /// waits for an answer, has a reason to be silent; but many who wait must not keep others from asking either.
    fn first_to_go(&self) -> Option<(usize, Instant)> {
        let silent = self.clients.iter().enumerate().filter(|(_, client)| !client.subscribed);
        let (at, client) = silent.min_by_key(|(_, client)| (client.unanswered > 0, client.heard))?;
        Some((at, client.heard + SILENCE))
    }

    /// Answers a request; one whose client is gone is answered by nobody.
    pub(super) fn answer(&mut self, who: Asker, answer: Result<impl Serialize, Failure>) {
        let outcome = answer.and_then(|result| {
            let failed = |error: serde_json::Error| Failure::new(Code::Failed, error.to_string());
            serde_json::to_value(result).map(Outcome::Result).map_err(failed)
        });
        if let Some(client) = self.client(who) {
            client.unanswered = client.unanswered.saturating_sub(1);
            client.reply(Some(who.id), outcome.unwrap_or_else(Outcome::Error));
        }
    }

    /// The same, and the connection ends: what it carries makes no sense any more.
    pub(super) fn answer_last(&mut self, who: Asker, failure: Failure) {
        if let Some(client) = self.client(who) {
            client.reply(Some(who.id), Outcome::Error(failure));
            client.last = true;
        }
    }

    /// Takes files from a client, which is told to send them.
    pub(super) fn take_files(&mut self, who: Asker, files: Incoming) {
        if let Some(client) = self.client(who) {
            client.files = Some((who.id, files));
            client.reply(Some(who.id), Outcome::Continue(true));
        }
    }

    /// Whether somebody sends files.
    pub(super) fn takes_files(&self) -> bool {
        self.clients.iter().any(|client| client.files.is_some())
    }

    /// Sends a client all events from now on; `false` where too many are sent them.
    pub(super) fn subscribe(&mut self, who: Asker) -> bool {
        let room = self.clients.iter().filter(|client| client.subscribed).count() < SUBSCRIBERS_MAX;
        if let Some(client) = self.client(who) {
            client.subscribed |= room;
        }
        room
    }

    /// Sends an event's line to all who want it, unless so many bytes wait for them already.
    pub(super) fn tell(&mut self, line: &[u8], waiting: usize) {
        for client in self.clients.iter_mut().filter(|client| client.subscribed) {
            client.lines.send_within(line, waiting);
        }
    }

    /// Gives a connection away, with what it is still to be sent.
    pub(super) fn release(&mut self, who: Asker) -> Option<(UnixStream, Outlet)> {
        let at = self.clients.iter().position(|client| client.number == who.client)?;
        Some(self.clients.swap_remove(at).lines.into_parts())
    }

    /// Whether a client is still there.
    pub(super) fn is_connected(&self, who: Asker) -> bool {
        self.clients.iter().any(|client| client.number == who.client)
    }

    /// Writes what the clients take now.
    pub(super) fn flush(&mut self) {
        self.clients.retain_mut(|client| client.lines.flush());
    }

    /// Those who were slow.
    pub(super) fn unflushed(&self) -> impl Iterator<Item = PollFd<'_>> {
        let slow = self.clients.iter().filter(|client| !client.lines.is_flushed());
        slow.map(|client| client.lines.writable())
    }

    fn client(&mut self, who: Asker) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.number == who.client)
    }
}

impl Client {
    /// Takes what has come; `false` once it is gone.
    fn receive(&mut self, now: Instant, asked: &mut Vec<Asked>) -> bool {
        if self.last {
            return self.lines.flush() && !self.lines.is_flushed();
        }
        let before = asked.len();
        let stays = if self.files.is_some() { self.take_files(now, asked) } else { self.hear(now, asked) };
        let requests = asked.iter().skip(before).filter(|one| matches!(one, Asked::Request(..))).count();
        self.unanswered += requests;
        stays
    }

    fn reply(&mut self, id: Option<u64>, outcome: Outcome) {
        self.lines.send_within(&wire::line(&Reply { id, outcome }), WAITING_MAX);
    }

    fn refuse(&mut self, id: Option<u64>, code: Code, message: String) {
        self.reply(id, Outcome::Error(Failure::new(code, message)));
    }

    fn hear(&mut self, now: Instant, asked: &mut Vec<Asked>) -> bool {
        let Some(lines) = self.lines.receive() else { return false };
        if !lines.is_empty() {
            self.heard = now;
        }
        for _ in 0..self.lines.take_dropped() {
            let message = format!("a request has at most {} bytes", wire::REQUEST_MAX);
            self.refuse(None, Code::Malformed, message);
        }
        for line in lines.iter().filter(|line| !line.is_empty()) {
            let Ok(Head { id, request: name }) = serde_json::from_str(line) else {
                let message = format!(
                    "not a request: this civm speaks protocol {PROTOCOL}, whose requests have an `id` and a \
                     `request`"
                );
                self.refuse(None, Code::Malformed, message);
                continue;
            };
            match serde_json::from_str(line) {
                Ok(Numbered { request: Request::Hello(_), .. }) => match serde_json::to_value(Hello::own()) {
                    Ok(hello) => self.reply(Some(id), Outcome::Result(hello)),
                    Err(error) => self.refuse(Some(id), Code::Failed, error.to_string()),
                },
                Ok(Numbered { id, request }) => {
                    asked.push(Asked::Request(Asker { client: self.number, id }, request));
                }
                Err(error) if wire::REQUESTS.contains(&name.as_str()) => {
                    self.refuse(Some(id), Code::Malformed, format!("request `{name}`: {error}"));
                }
                Err(_) => {
                    let message = format!("this civm knows the requests {}", wire::REQUESTS.join(", "));
                    self.refuse(Some(id), Code::UnknownRequest, message);
                }
            }
        }
        true
    }

    /// Takes the next piece of the files; no byte more than they have.
    fn take_files(&mut self, now: Instant, asked: &mut Vec<Asked>) -> bool {
        let Some((id, files)) = &mut self.files else { return true };
        let who = Asker { client: self.number, id: *id };
        let mut left = FILES_MAX;
        let mut chunk = Zeroizing::new(vec![0; FILES_MAX]);
        loop {
            let wanted = files.wants().min(left);
            if wanted == 0 {
                break;
            }
            let piece = chunk.get_mut(..wanted).unwrap_or_default();
            let taken = match self.lines.socket.read(piece) {
                // The files go with the client; what was received of them is removed.
                Ok(0) => return false,
                Ok(count) => {
                    left -= count;
                    self.heard = now;
                    files.take(piece.get(..count).unwrap_or_default())
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
                Err(_) => return false,
            };
            if let Err(error) = taken {
                self.files = None;
                asked.push(Asked::Files(who, Err(error)));
                return true;
            }
        }
        if let Some((_, files)) = self.files.take_if(|(_, files)| files.wants() == 0) {
            asked.push(Asked::Files(who, Ok(files)));
        }
        true
    }
}

#[cfg(test)]
mod tests;

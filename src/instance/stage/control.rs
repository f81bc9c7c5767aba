//! The supervisor's socket, on which other runs of civm ask it to stop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::instance::event::Ask;
use crate::instance::stage::lines::Lines;

/// Connections at a time; a further one waits.
const CLIENTS_MAX: usize = 16;

/// The socket and those who are connected.
#[derive(Debug)]
pub(super) struct Control {
    listener: UnixListener,
    clients: Vec<Lines>,
}

impl Control {
    pub(super) fn listen(path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, clients: Vec::new() })
    }

    /// What to wait for.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let listener = (self.clients.len() < CLIENTS_MAX).then(|| self.listener.as_fd());
        listener.into_iter().chain(self.clients.iter().map(|client| client.socket.as_fd()))
    }

    /// What has been asked, each with a socket to answer on.
    pub(super) fn receive(&mut self) -> Vec<(Ask, Option<UnixStream>)> {
        while self.clients.len() < CLIENTS_MAX {
            let Ok((socket, _)) = self.listener.accept() else { break };
            self.clients.extend(Lines::new(socket, b""));
        }
        let mut asked = Vec::new();
        self.clients.retain_mut(|client| {
            let Some(lines) = client.receive() else { return false };
            for line in lines {
                // Nonsense ends the connection.
                let Ok(ask) = serde_json::from_str(&line) else { return false };
                asked.push((ask, client.socket.try_clone().ok()));
            }
            true
        });
        asked
    }
}

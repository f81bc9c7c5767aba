//! Signals as sockets that one can wait for.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGCHLD, SIGTERM};

/// Sockets that become readable with a signal.
pub(super) struct Signals {
    any: UnixStream,
    asked: UnixStream,
}

impl Signals {
    pub(super) fn watch() -> io::Result<Self> {
        let (any, write) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGCHLD, write)?;
        let (asked, write) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGTERM, write)?;
        any.set_nonblocking(true)?;
        asked.set_nonblocking(true)?;
        Ok(Self { any, asked })
    }

    /// What to wait for.
    pub(super) fn watched(&self) -> [BorrowedFd<'_>; 2] {
        [self.any.as_fd(), self.asked.as_fd()]
    }

    /// Empties both; says whether we were asked to end.
    pub(super) fn drain(&self) -> bool {
        let mut bytes = [0; 64];
        while (&self.any).read(&mut bytes).is_ok_and(|count| count > 0) {}
        let mut asked = false;
        while (&self.asked).read(&mut bytes).is_ok_and(|count| count > 0) {
            asked = true;
        }
        asked
    }
}

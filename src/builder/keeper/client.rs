//! A question to a keeper.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::socket::{Reply, Request, View};

/// How long a keeper may take for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest line of an answer.
const LINE_MAX: u64 = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no keeper.
    #[error("no keeper of builders runs here")]
    None,
    /// This user may not ask it.
    #[error("you may not use the builders here: {0}")]
    Denied(io::Error),
    /// It does not answer.
    #[error("the keeper of builders does not answer: {0}")]
    Silent(io::Error),
    /// It refuses.
    #[error("{0}")]
    Refused(String),
}

/// A question that was asked.
pub struct Asked {
    lines: BufReader<UnixStream>,
}

/// Asks a keeper.
///
/// # Errors
/// There is none, or this user may not ask it.
pub fn ask(socket: &Path, request: &Request) -> Result<Asked, Error> {
    let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Error::Denied(error),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::None,
        _ => Error::Silent(error),
    })?;
    let mut line = serde_json::to_vec(request).map_err(|error| Error::Silent(error.into()))?;
    line.push(b'\n');
    stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| (&stream).write_all(&line))
        .map_err(Error::Silent)?;
    Ok(Asked { lines: BufReader::new(stream) })
}

impl Asked {
    /// Waits for what may take long.
    ///
    /// # Errors
    /// The system refuses.
    pub fn patiently(self) -> Result<Self, Error> {
        self.lines.get_ref().set_read_timeout(None).map_err(Error::Silent)?;
        Ok(self)
    }

    /// The next line of the answer; `None` at its end.
    ///
    /// # Errors
    /// It does not come, or is not one.
    pub fn line(&mut self) -> Result<Option<Reply>, Error> {
        let mut line = Vec::new();
        self.lines.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).map_err(Error::Silent)?;
        if line.is_empty() {
            return Ok(None);
        }
        let reply: Reply = serde_json::from_slice(&line).map_err(|error| Error::Silent(error.into()))?;
        match reply.error {
            Some(error) => Err(Error::Refused(error)),
            None => Ok(Some(reply)),
        }
    }

    /// Ends the connection once nobody reads what would come over it.
    ///
    /// # Errors
    /// The system refuses.
    pub fn ends_with(&self, output: OwnedFd) -> io::Result<()> {
        let socket = self.lines.get_ref().try_clone()?;
        let watch = move || {
            // Errors alone are reported without being asked for.
            let mut watched = [PollFd::new(output.as_fd(), PollFlags::empty())];
            while poll(&mut watched, PollTimeout::NONE) == Err(Errno::EINTR) {}
            let _ = socket.shutdown(Shutdown::Both);
        };
        thread::Builder::new().name("output".into()).spawn(watch).map(drop)
    }

    /// The connection, and what has come over it already.
    #[must_use]
    pub fn into_connection(self) -> (UnixStream, Vec<u8>) {
        let rest = self.lines.buffer().to_vec();
        (self.lines.into_inner(), rest)
    }
}

/// Asks for something that is done or refused.
///
/// # Errors
/// It is refused, or there is no answer.
pub fn done(socket: &Path, request: &Request) -> Result<(), Error> {
    ask(socket, request)?.line().map(drop)
}

/// How the builders are.
///
/// # Errors
/// There is no answer.
pub fn list(socket: &Path) -> Result<Vec<View>, Error> {
    let reply = ask(socket, &Request::List)?.line()?;
    Ok(reply.and_then(|reply| reply.builders).unwrap_or_default())
}

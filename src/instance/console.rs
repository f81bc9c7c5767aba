//! The serial console of a running instance, on one's own terminal.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

use crate::instance::error::Error;
use crate::instance::state::try_lock;

/// The key that leaves the console: Ctrl-].
pub const ESCAPE: u8 = 0x1d;
/// Beside the socket: held by whoever is attached. QEMU takes a second client only when the first is gone.
const LOCK: &str = "console.lock";
/// Its name for the user.
pub const ESCAPE_NAME: &str = "Ctrl-]";

/// Why an attached console came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The user pressed [`ESCAPE`].
    Escape,
    /// The machine is gone.
    Ended,
    /// A signal asked this process to end.
    Signal(i32),
}

/// A terminal in raw mode, restored however the console is left.
struct Raw {
    before: Termios,
}

impl Raw {
    fn enter() -> nix::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

/// Signals that end this process, as something to wait for: the terminal is restored first.
struct Signals {
    sockets: Vec<(i32, UnixStream)>,
    registered: Vec<signal_hook::SigId>,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        let mut signals = Self { sockets: Vec::new(), registered: Vec::new() };
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
            let (read, write) = UnixStream::pair()?;
            signals.registered.push(pipe::register(signal, write)?);
            signals.sockets.push((signal, read));
        }
        Ok(signals)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            unregister(id);
        }
    }
}

/// Joins the terminal to an instance's console until the user leaves or the machine is gone.
///
/// Without a terminal on standard input the console is only copied to `output`.
///
/// # Errors
/// No console to be had, [`Error::ConsoleInUse`], or the terminal fails.
pub fn attach(socket: &Path, output: &mut dyn Write) -> Result<Left, Error> {
    let failed = || Error::file("cannot attach to the console", socket);
    let lock = try_lock(&socket.with_file_name(LOCK)).map_err(|error| match error {
        // The directory is gone with its socket.
        Error::File { source, .. } => failed()(source),
        other => other,
    })?;
    let _lock = lock.ok_or(Error::ConsoleInUse)?;
    let console = UnixStream::connect(socket).map_err(failed())?;
    let signals = Signals::watch().map_err(Error::Terminal)?;
    let raw = if io::stdin().is_terminal() {
        Some(Raw::enter().map_err(|errno| Error::Terminal(errno.into()))?)
    } else {
        None
    };
    let left = copy(console, &signals, raw.is_some(), output);
    drop(raw);
    left.map_err(Error::Terminal)
}

fn copy(
    mut console: UnixStream,
    signals: &Signals,
    typing: bool,
    output: &mut dyn Write,
) -> io::Result<Left> {
    let stdin = io::stdin();
    let mut chunk = [0; 4096];
    loop {
        let mut watched = vec![PollFd::new(console.as_fd(), PollFlags::POLLIN)];
        watched.extend(signals.sockets.iter().map(|(_, s)| PollFd::new(s.as_fd(), PollFlags::POLLIN)));
        if typing {
            watched.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = watched.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        let (printed, rest) = ready.split_first().map_or((false, &ready[..]), |(first, rest)| (*first, rest));
        if let Some(((signal, _), _)) = signals.sockets.iter().zip(rest).find(|(_, ready)| **ready) {
            return Ok(Left::Signal(*signal));
        }
        if printed {
            match console.read(&mut chunk) {
                Ok(0) => return Ok(Left::Ended),
                Ok(count) => {
                    output.write_all(chunk.get(..count).unwrap_or_default())?;
                    output.flush()?;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Left::Ended),
                Err(error) => return Err(error),
            }
        }
        if typing && rest.get(signals.sockets.len()) == Some(&true) {
            let count = nix::unistd::read(&stdin, &mut chunk)?;
            let typed = chunk.get(..count).unwrap_or_default();
            let (send, escaped) = until_escape(typed);
            // A machine that is gone is seen by reading.
            let _ = console.write_all(send);
            if escaped || count == 0 {
                return Ok(Left::Escape);
            }
        }
    }
}

/// What was typed before the escape, and whether it came.
fn until_escape(typed: &[u8]) -> (&[u8], bool) {
    match typed.iter().position(|byte| *byte == ESCAPE) {
        Some(at) => (typed.get(..at).unwrap_or_default(), true),
        None => (typed, false),
    }
}

#[cfg(test)]
mod tests {
    use super::{LOCK, Left, Signals, attach, copy, until_escape};
    use crate::instance::error::Error;
    use crate::instance::state::try_lock;
    use std::io::Write;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_console_has_one_user_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("console.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let first = try_lock(&directory.path().join(LOCK)).unwrap().unwrap();
        assert!(matches!(attach(&socket, &mut Vec::new()), Err(Error::ConsoleInUse)));
        drop((first, listener));
        let error = attach(&socket, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("cannot attach to the console"), "{error}");
        let gone = attach(&directory.path().join("gone/console.sock"), &mut Vec::new());
        assert!(gone.unwrap_err().to_string().starts_with("cannot attach to the console"));
    }

    #[test]
    fn what_is_typed_after_the_escape_stays_here() {
        assert_eq!(until_escape(b"ls\r"), (b"ls\r".as_slice(), false));
        assert_eq!(until_escape(b"ls\x1drm -rf\r"), (b"ls".as_slice(), true));
    }

    #[test]
    fn without_a_terminal_the_console_is_copied_until_the_machine_is_gone() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"login: ").unwrap();
        drop(theirs);
        let mut output = Vec::new();
        let signals = Signals { sockets: Vec::new(), registered: Vec::new() };
        assert_eq!(copy(ours, &signals, false, &mut output).unwrap(), Left::Ended);
        assert_eq!(output, b"login: ");
    }
}

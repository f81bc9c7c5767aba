//! The serial console of a running instance, on one's own terminal.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use signal_hook::low_level::{pipe, unregister};

use crate::edge::terminal;
use crate::instance::error::Error;
use crate::instance::event::Ask;
use crate::instance::state::Record;
use crate::instance::stop::Conversation;

/// The key that leaves the console: Ctrl-].
pub const ESCAPE: u8 = 0x1d;
/// Its name for the user.
pub const ESCAPE_NAME: &str = "Ctrl-]";
/// After the end of what is piped in, the console is left once it has been silent for so long, or showed output all
/// this time.
const SILENT: Duration = Duration::from_millis(500);
const LINGER: Duration = Duration::from_secs(10);

/// What becomes of standard input where it is not a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// It is typed on the console, and its end leaves the console.
    Typed,
    /// Nobody reads it.
    Ignored,
}

/// Why an attached console came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The user pressed [`ESCAPE`].
    Escape,
    /// What was piped in is at its end.
    InputEnded,
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
        // What was typed before was not meant for the console, least of all a key that leaves it.
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

/// Signals as something to wait for: those that end this process, so that the terminal is restored first, and the
/// one that tells of another size of the terminal.
struct Signals {
    sockets: Vec<(i32, UnixStream)>,
    registered: Vec<signal_hook::SigId>,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        let mut signals = Self { sockets: Vec::new(), registered: Vec::new() };
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH] {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            signals.registered.push(pipe::register(signal, write)?);
            signals.sockets.push((signal, read));
        }
        Ok(signals)
    }

    /// A signal that has come.
    fn take(&self) -> Option<i32> {
        let mut byte = [0; 16];
        self.sockets
            .iter()
            .find(|(_, socket)| (&*socket).read(&mut byte).is_ok_and(|count| count > 0))
            .map(|(signal, _)| *signal)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            unregister(id);
        }
    }
}

/// Joins the terminal to an instance's console until the user leaves or the machine is gone. Several may do so at
/// the same time.
///
/// Where standard input is not a terminal, `input` says what becomes of it.
///
/// # Errors
/// The console cannot be reached, or the terminal fails.
pub fn attach(record: &Record, input: Input, output: &mut dyn Write) -> Result<Left, Error> {
    let socket = record.console().ok_or_else(|| Error::NotRunning(record.name.clone()))?;
    let console =
        UnixStream::connect(&socket).map_err(Error::file("cannot attach to the console", &socket))?;
    let signals = Signals::watch().map_err(Error::Terminal)?;
    let is_terminal = io::stdin().is_terminal();
    let raw = is_terminal.then(Raw::enter).transpose().map_err(|errno| Error::Terminal(errno.into()))?;
    let resized = || {
        if let (true, Some((rows, columns))) = (is_terminal, terminal::size()) {
            // Nobody answers, and a guest that cannot do it has the size that it has.
            drop(Conversation::begin(record, &Ask::ConsoleSize { rows, columns }));
        }
    };
    resized();
    let typing = is_terminal || input == Input::Typed;
    let left = Copying { signals: &signals, typing, is_terminal }.run(console, &resized, output);
    drop(raw);
    left.map_err(Error::Terminal)
}

/// How a console is copied.
struct Copying<'a> {
    signals: &'a Signals,
    /// Whether standard input goes to the console.
    typing: bool,
    is_terminal: bool,
}

impl Copying<'_> {
    fn run(
        mut self,
        mut console: UnixStream,
        resized: &dyn Fn(),
        output: &mut dyn Write,
    ) -> io::Result<Left> {
        let stdin = io::stdin();
        let mut chunk = [0; 4096];
        let mut input_ended: Option<Instant> = None;
        loop {
            let mut watched = vec![PollFd::new(console.as_fd(), PollFlags::POLLIN)];
            let signals = self.signals.sockets.iter();
            watched.extend(signals.map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
            if self.typing {
                watched.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            let silence = PollTimeout::try_from(SILENT).unwrap_or(PollTimeout::MAX);
            let timeout = if input_ended.is_some() { silence } else { PollTimeout::NONE };
            match poll(&mut watched, timeout) {
                Ok(0) => return Ok(Left::InputEnded),
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            let ready = |at: usize| watched.get(at).and_then(PollFd::any).unwrap_or(false);
            let (printed, typed) = (ready(0), ready(self.signals.sockets.len() + 1));
            match self.signals.take() {
                Some(SIGWINCH) => resized(),
                Some(signal) => return Ok(Left::Signal(signal)),
                None => {}
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
            if input_ended.is_some_and(|ended| ended.elapsed() > LINGER) {
                return Ok(Left::InputEnded);
            }
            if typed {
                let count = nix::unistd::read(&stdin, &mut chunk)?;
                let typed = chunk.get(..count).unwrap_or_default();
                let (send, escaped) = if self.is_terminal { until_escape(typed) } else { (typed, false) };
                // A machine that is gone is seen by reading.
                let _ = console.write_all(send);
                if escaped || (count == 0 && self.is_terminal) {
                    return Ok(Left::Escape);
                }
                if count == 0 {
                    self.typing = false;
                    input_ended = Some(Instant::now());
                }
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
    use super::{Copying, Left, Signals, until_escape};
    use std::io::Write;
    use std::os::unix::net::UnixStream;

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
        let copying = Copying { signals: &signals, typing: false, is_terminal: false };
        assert_eq!(copying.run(ours, &|| {}, &mut output).unwrap(), Left::Ended);
        assert_eq!(output, b"login: ");
    }
}

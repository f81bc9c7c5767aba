//! The one place that prints: results to stdout, everything else to stderr.

use std::io;

use crate::cli::Global;
use crate::edge::environment::Environment;
use crate::edge::stream::{to_stderr, to_stdout};
use crate::edge::terminal;
use crate::outcome::Failure;

/// Where a command's words go, and how many of them.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    quiet: bool,
    verbose: bool,
    colours: bool,
}

impl Screen {
    /// As the user asked for it.
    #[must_use]
    pub fn new(global: &Global, environment: &Environment) -> Self {
        let colours = terminal::colours(environment, terminal::stderr_is_terminal());
        Self { quiet: global.quiet, verbose: global.verbose, colours }
    }

    /// Whether progress may be drawn: stderr is a terminal and nobody asked for silence.
    #[must_use]
    pub fn draws(self) -> bool {
        !self.quiet && terminal::stderr_is_terminal()
    }

    /// The result of a command: bytes to stdout as they are.
    ///
    /// # Errors
    /// Stdout cannot be written. A reader that went away is not an error.
    pub fn data(self, bytes: &[u8]) -> io::Result<()> {
        to_stdout(bytes)
    }

    /// A line of a command's result, to stdout.
    ///
    /// # Errors
    /// As [`Screen::data`].
    pub fn line(self, line: impl AsRef<str>) -> io::Result<()> {
        self.data(format!("{}\n", line.as_ref()).as_bytes())
    }

    /// What happens, to stderr; silenced by `--quiet`.
    pub fn note(self, line: impl AsRef<str>) {
        if !self.quiet {
            to_stderr(line.as_ref());
        }
    }

    /// A detail, only with `--verbose`.
    pub fn detail(self, line: impl AsRef<str>) {
        if self.verbose {
            to_stderr(line.as_ref());
        }
    }

    /// Something that should be looked at, though the work goes on.
    pub fn warn(self, line: impl AsRef<str>) {
        let head = if self.colours { "\x1b[1;33mwarning:\x1b[0m" } else { "warning:" };
        to_stderr(&format!("{head} {}", plain(line.as_ref())));
    }

    /// A failure and its advice.
    pub fn failure(self, failure: &Failure) {
        let head = if self.colours { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
        to_stderr(&format!("{head} {}", plain(&failure.message)));
        for help in &failure.help {
            to_stderr(&format!("help: {}", plain(help)));
        }
    }
}

/// What others put into a message, file names among them, must not steer the terminal.
fn plain(text: &str) -> String {
    let harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    text.chars().map(|c| if harmless(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

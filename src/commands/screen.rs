//! The only module that prints: results to stdout, everything else to stderr.

use std::io;

use crate::cli::Global;
use crate::edge::environment::Environment;
use crate::edge::stream::{to_stderr, to_stdout};
use crate::edge::terminal;
use crate::outcome::Failure;

/// A number of things in words: `1 file`, `2 files`.
pub(super) fn counted(count: usize, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

/// Where a command's output goes, and how verbose it is.
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

    /// Whether progress may be drawn: stderr is a terminal and `--quiet` was not given.
    #[must_use]
    pub fn draws(self) -> bool {
        !self.quiet && terminal::stderr_is_terminal()
    }

    /// The result of a command: bytes, written to stdout unchanged.
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
        self.data(format!("{}\n", plain(line.as_ref())).as_bytes())
    }

    /// A status message, to stderr; suppressed by `--quiet`.
    pub fn note(self, line: impl AsRef<str>) {
        if !self.quiet {
            to_stderr(&plain(line.as_ref()));
        }
    }

    /// A detail, only with `--verbose`.
    pub fn detail(self, line: impl AsRef<str>) {
        if self.verbose {
            to_stderr(&plain(line.as_ref()));
        }
    }

    /// A warning: something that needs attention, though the command continues.
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

/// Rows of a table, each column as wide as its widest cell.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Text from elsewhere, such as file names, must not send control sequences to the terminal.
fn plain(text: &str) -> String {
    let harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    text.chars().map(|c| if harmless(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

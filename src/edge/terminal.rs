//! Questions, passphrases and what the terminal can do.
//!
//! Library code asks through a [`Prompt`] that it is given; only [`Terminal`] knows the terminal.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, IsTerminal, Write};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::stat::SFlag;
use thiserror::Error;
use zeroize::Zeroizing;

use super::environment::Environment;

/// Why a question was not answered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PromptError {
    /// Nobody can be asked.
    #[error("standard input is not a terminal, and /dev/tty is not available")]
    NoTerminal,
    /// The question was interrupted.
    #[error("cancelled")]
    Cancelled,
    /// The terminal failed.
    #[error("the terminal failed: {0}")]
    Failed(String),
}

/// Someone who can be asked.
pub trait Prompt: Send + Sync {
    /// Asks for a passphrase; what is typed does not show.
    ///
    /// # Errors
    ///
    /// Nobody can be asked, or the question is interrupted.
    fn passphrase(&self, question: &str) -> Result<Zeroizing<String>, PromptError>;

    /// Asks for a line that may show.
    ///
    /// # Errors
    ///
    /// Nobody can be asked, or the question is interrupted.
    fn line(&self, question: &str) -> Result<String, PromptError>;

    /// Tells something that needs no answer, such as "touch your token".
    fn tell(&self, message: &str);

    /// Asks a question whose answer is yes or no; an empty answer is `default`.
    ///
    /// # Errors
    ///
    /// Nobody can be asked, or the question is interrupted.
    fn confirm(&self, question: &str, default: bool) -> Result<bool, PromptError> {
        let choice = if default { "[Y/n]" } else { "[y/N]" };
        loop {
            let answer = self.line(&format!("{question} {choice} "))?;
            match answer.trim().to_ascii_lowercase().as_str() {
                "" => return Ok(default),
                "y" | "yes" => return Ok(true),
                "n" | "no" => return Ok(false),
                _ => self.tell("please answer y or n"),
            }
        }
    }
}

/// The terminal that controls this process, whatever standard input and output are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal;

impl Prompt for Terminal {
    fn passphrase(&self, question: &str) -> Result<Zeroizing<String>, PromptError> {
        if !can_ask() {
            return Err(PromptError::NoTerminal);
        }
        // rpassword answers ^C with SIGINT to this thread while the terminal is still without echo: the signal
        // waits until the terminal is as it was.
        let interrupt: SigSet = [Signal::SIGINT].into_iter().collect();
        let before = interrupt.thread_swap_mask(SigmaskHow::SIG_BLOCK);
        let answer = rpassword::prompt_password(format!("{question} "));
        if let Ok(before) = before {
            let _ = before.thread_set_mask();
        }
        match answer {
            Ok(answer) => Ok(Zeroizing::new(answer)),
            Err(error) => Err(match error.kind() {
                std::io::ErrorKind::Interrupted | std::io::ErrorKind::UnexpectedEof => PromptError::Cancelled,
                _ => PromptError::Failed(error.to_string()),
            }),
        }
    }

    fn line(&self, question: &str) -> Result<String, PromptError> {
        let failed = |error: std::io::Error| PromptError::Failed(error.to_string());
        let mut terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/tty")
            .map_err(|_| PromptError::NoTerminal)?;
        write!(terminal, "{question}").and_then(|()| terminal.flush()).map_err(failed)?;
        let mut answer = String::new();
        match BufReader::new(terminal).read_line(&mut answer).map_err(failed)? {
            0 => Err(PromptError::Cancelled),
            _ => Ok(answer.trim_end_matches(['\n', '\r']).to_owned()),
        }
    }

    fn tell(&self, message: &str) {
        if let Ok(mut terminal) = OpenOptions::new().write(true).open("/dev/tty") {
            let shown: String = message.chars().filter(|c| !c.is_control() || *c == '\n').collect();
            let _ = writeln!(terminal, "{shown}");
        }
    }
}

/// Nobody: no question is ever answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Prompt for Nobody {
    fn passphrase(&self, _: &str) -> Result<Zeroizing<String>, PromptError> {
        Err(PromptError::NoTerminal)
    }

    fn line(&self, _: &str) -> Result<String, PromptError> {
        Err(PromptError::NoTerminal)
    }

    fn tell(&self, _: &str) {}
}

/// True where the process has a terminal to ask on.
#[must_use]
pub fn can_ask() -> bool {
    OpenOptions::new().read(true).write(true).open("/dev/tty").is_ok_and(|terminal| terminal.is_terminal())
}

/// True where standard input is a terminal, so that nothing is piped in.
#[must_use]
pub fn stdin_is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// True where something is piped into standard input: a pipe, a file or a socket, but not a terminal and not
/// `/dev/null`.
#[must_use]
pub fn stdin_is_piped() -> bool {
    let Ok(status) = nix::sys::stat::fstat(std::io::stdin()) else { return false };
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    [SFlag::S_IFIFO, SFlag::S_IFREG, SFlag::S_IFSOCK].contains(&kind)
}

/// True where standard output is a terminal.
#[must_use]
pub fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// True where standard error is a terminal.
#[must_use]
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// The lines and columns of the terminal on standard output, where there is one.
#[must_use]
pub fn size() -> Option<(u16, u16)> {
    let (width, height) = terminal_size::terminal_size()?;
    Some((height.0, width.0))
}

/// Whether to write colours: `NO_COLOR` and a dumb terminal say no, `FORCE_COLOR` says yes, else the
/// stream decides.
#[must_use]
pub fn colours(environment: &Environment, stream_is_terminal: bool) -> bool {
    if environment.non_empty("NO_COLOR").is_some() {
        return false;
    }
    if environment.non_empty("FORCE_COLOR").is_some() {
        return true;
    }
    stream_is_terminal && environment.get("TERM").is_none_or(|terminal| terminal != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    struct Script(Mutex<Vec<&'static str>>);

    impl Prompt for Script {
        fn passphrase(&self, _: &str) -> Result<Zeroizing<String>, PromptError> {
            Err(PromptError::Cancelled)
        }

        fn line(&self, _: &str) -> Result<String, PromptError> {
            self.0.lock().expect("not poisoned").pop().map(str::to_owned).ok_or(PromptError::Cancelled)
        }

        fn tell(&self, _: &str) {}
    }

    #[test]
    fn a_question_is_asked_again_until_it_is_answered() {
        let script = |answers: &[&'static str]| Script(Mutex::new(answers.iter().rev().copied().collect()));
        assert_eq!(script(&["perhaps", "YES"]).confirm("go on?", false), Ok(true));
        assert_eq!(script(&[""]).confirm("go on?", true), Ok(true));
        assert_eq!(script(&["n"]).confirm("go on?", true), Ok(false));
        assert_eq!(script(&["what"]).confirm("go on?", true), Err(PromptError::Cancelled));
    }

    #[test]
    fn no_color_wins_over_everything() {
        let terminal = Environment::empty().with("TERM", "xterm");
        assert!(colours(&terminal, true));
        assert!(!colours(&terminal, false));
        assert!(colours(&terminal.clone().with("FORCE_COLOR", "1"), false));
        assert!(!colours(&terminal.clone().with("NO_COLOR", "1").with("FORCE_COLOR", "1"), true));
        assert!(!colours(&terminal.with("TERM", "dumb"), true));
    }
}

//! Running programs with the secrets of a file, in their environment or in a file.

mod file;
mod variables;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};

use super::error::Error;
use crate::edge::account::Account;
use crate::edge::environment::Environment;
use crate::edge::foreground::Foreground;

pub use file::{Place, Shape, with_file};
pub use variables::{Nested, VariableError, Variables};

/// What to run.
#[derive(Clone, Debug)]
pub enum Program {
    /// A line for `/bin/sh`, as in sops.
    Line(OsString),
    /// A program and its arguments, without a shell.
    Words {
        /// A path, or a name that is looked for in `PATH`.
        program: OsString,
        /// Its arguments.
        arguments: Vec<OsString>,
    },
}

/// How to run it.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// What.
    pub program: Program,
    /// The environment that it inherits, unless `pristine`.
    pub environment: &'a Environment,
    /// Whether it gets only the secrets as variables.
    pub pristine: bool,
    /// The name of the user it runs as. This whole process becomes that user's, before anything is made for the
    /// program.
    pub user: Option<String>,
    /// Whether it runs in the background, without standard input and output.
    pub background: bool,
}

impl Program {
    /// The program with every `{}` replaced by a path.
    fn with_path(&self, path: &OsStr) -> Self {
        let filled = |text: &OsStr| replace(text, path);
        match self {
            Self::Line(line) => Self::Line(filled(line)),
            Self::Words { program, arguments } => Self::Words {
                program: filled(program),
                arguments: arguments.iter().map(|word| filled(word)).collect(),
            },
        }
    }

    fn name(&self) -> &OsStr {
        match self {
            Self::Line(_) => OsStr::new("/bin/sh"),
            Self::Words { program, .. } => program,
        }
    }

    /// The command. A name is looked for in the user's own `PATH`, whatever variables the program gets.
    fn command(&self, environment: &Environment) -> io::Result<Command> {
        match self {
            Self::Line(line) => {
                let mut command = Command::new("/bin/sh");
                command.arg("-c").arg(line);
                Ok(command)
            }
            Self::Words { program, arguments } => {
                let mut command = if program.as_bytes().contains(&b'/') {
                    Command::new(program)
                } else {
                    let found = program.to_str().and_then(|name| environment.find_program(name));
                    let mut command = Command::new(found.ok_or(io::ErrorKind::NotFound)?);
                    command.arg0(program);
                    command
                };
                command.args(arguments);
                Ok(command)
            }
        }
    }
}

/// A text with every `{}` replaced by another.
fn replace(text: &OsStr, with: &OsStr) -> OsString {
    let mut rest = text.as_bytes();
    let mut filled = Vec::with_capacity(rest.len());
    while let Some(at) = rest.windows(2).position(|pair| pair == b"{}") {
        filled.extend_from_slice(&rest[..at]);
        filled.extend_from_slice(with.as_bytes());
        rest = &rest[at + 2..];
    }
    filled.extend_from_slice(rest);
    OsString::from_vec(filled)
}

impl Run<'_> {
    fn account(&self) -> Result<Option<Account>, Error> {
        let account = self.user.as_deref().map(|name| Account::find(name, self.environment)).transpose()?;
        if let Some(account) = &account {
            account.enter()?;
        }
        Ok(account)
    }

    /// The command with its variables; the later ones win.
    fn command(&self, program: &Program, account: Option<&Account>) -> Result<Command, Error> {
        let mut command = program.command(self.environment).map_err(|source| self.failed(source))?;
        command.env_clear();
        if !self.pristine {
            command.envs(self.environment.iter());
        }
        if let Some(account) = account {
            command.envs(account.variables());
        }
        if self.background {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        }
        Ok(command)
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Program { program: self.program.name().to_string_lossy().into_owned(), source }
    }

    /// Runs a command to its end; `None` if it runs in the background.
    fn start(&self, mut command: Command, foreground: Foreground) -> Result<Option<ExitStatus>, Error> {
        if self.background {
            return command.spawn().map(|_| None).map_err(|source| self.failed(source));
        }
        foreground.run(&mut command).map(Some).map_err(|source| self.failed(source))
    }
}

/// Runs a program with secrets in its environment and returns its exit status; `None` if it runs in the background.
/// Signals are passed on to it. [`crate::edge::foreground::code`] gives the exit code that sops would use.
///
/// # Errors
/// There is no such user, or the program cannot be started.
pub fn with_variables(run: &Run<'_>, variables: &Variables) -> Result<Option<ExitStatus>, Error> {
    let account = run.account()?;
    let mut command = run.command(&run.program, account.as_ref())?;
    command.envs(variables.iter());
    let foreground = Foreground::watch().map_err(|source| run.failed(source))?;
    run.start(command, foreground)
}

/// Replaces this process with the program; returns only on failure.
pub fn become_with_variables(run: &Run<'_>, variables: &Variables) -> Error {
    let command = run.account().and_then(|account| run.command(&run.program, account.as_ref()));
    match command {
        Ok(mut command) => run.failed(command.envs(variables.iter()).exec()),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_brace_pair_becomes_the_path() {
        let filled = |text: &str| replace(OsStr::new(text), OsStr::new("/x{}"));
        assert_eq!(filled("cat {} {}"), "cat /x{} /x{}");
        assert_eq!(filled("{{}}"), "{/x{}}");
        assert_eq!(filled("none { }"), "none { }");
    }

    #[test]
    fn a_name_is_found_in_path_and_a_path_is_taken() {
        let environment = Environment::empty().with("PATH", "/usr/bin:/bin");
        let command = |program: &str| {
            let words = Program::Words { program: program.into(), arguments: Vec::new() };
            words.command(&environment).map(|command| command.get_program().to_owned())
        };
        assert!(command("sh").is_ok_and(|found| found.to_string_lossy().ends_with("bin/sh")));
        assert!(command("./sh").is_ok_and(|found| found == "./sh"));
        assert!(command("no-such-program").is_err_and(|error| error.kind() == io::ErrorKind::NotFound));
    }
}

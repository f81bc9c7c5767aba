//! civm under the names of the tools that it stands in for. With `commands` the only room that prints.

mod go_flag;
mod go_text;
mod install_secrets;
mod sops;
mod ssh_to_age;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use crate::edge::environment::Environment;
use crate::edge::{cleanup, hardening, private_dir};

/// A tool whose command line civm takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persona {
    /// `sops`
    Sops,
    /// `ssh-to-age`
    SshToAge,
    /// `sops-install-secrets`
    InstallSecrets,
}

impl Persona {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sops, Self::SshToAge, Self::InstallSecrets];

    /// The name of the tool.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sops => "sops",
            Self::SshToAge => "ssh-to-age",
            Self::InstallSecrets => "sops-install-secrets",
        }
    }

    /// The tool that a program's name, with or without its directory, stands for.
    #[must_use]
    pub fn of_program(program: &OsStr) -> Option<Self> {
        let name = Path::new(program).file_name()?;
        Self::ALL.into_iter().find(|persona| name == persona.name())
    }

    /// Runs the tool under the name that it was called by; returns its exit code.
    #[must_use]
    pub fn run(self, program: &str, args: &[OsString], environment: &Environment) -> u8 {
        cleanup::on_signals();
        match self {
            Self::Sops => sops::run(args, environment),
            Self::SshToAge => ssh_to_age::run(program, args, environment),
            Self::InstallSecrets => install_secrets::run(program, args, environment),
        }
    }
}

/// Runs the tool that the program was called as, or that its first argument names, whose arguments are nobody
/// else's; `None` where neither does.
#[must_use]
pub fn dispatch(args: &[OsString]) -> Option<ExitCode> {
    let (program, args) = args.split_first()?;
    let (persona, program, args) = match Persona::of_program(program) {
        Some(persona) => (persona, program.to_string_lossy(), args),
        None => {
            let (verb, args) = args.split_first()?;
            let persona = Persona::ALL.into_iter().find(|persona| verb == persona.name())?;
            (persona, persona.name().into(), args)
        }
    };
    hardening::forbid_core_dumps();
    let environment = Environment::of_process();
    private_dir::sweep(&environment);
    Some(ExitCode::from(persona.run(&program, args, &environment)))
}

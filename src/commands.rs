//! The commands, one file each. Only this module and `personas` print.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::cli::{Cli, Command};
use crate::edge::environment::Environment;
use crate::edge::{account, cleanup, private_dir};
use crate::outcome::{Code, Outcome};
use crate::personas::Persona;

mod apply;
mod builder;
mod completions;
mod console;
mod cp;
mod doctor;
mod down;
mod exec;
mod gc;
mod git;
mod image;
mod init;
mod inspect;
mod install_secrets;
mod instance;
mod keys;
mod links;
mod logs;
mod ls;
mod man;
mod port;
mod project;
mod remote;
mod rm;
mod screen;
mod secrets;
mod ssh;
mod ssh_config;
mod status;
mod up;
mod wait;

pub use screen::Screen;

/// What every command gets in addition to its own arguments.
#[derive(Debug)]
pub struct Context {
    /// Where output goes.
    pub screen: Screen,
    /// The environment variables.
    pub environment: Environment,
    /// `--project`, else `CIVM_PROJECT`, as the user gave it.
    pub project: Option<PathBuf>,
}

/// The whole program: arguments in, exit code out.
#[must_use]
pub fn main() -> ExitCode {
    crate::edge::hardening::forbid_core_dumps();
    completions::answer();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and succeed; if they cannot be printed, there is nothing else to do.
            let _ = error.print();
            // sops has an exit code of its own for conflicting flags.
            let conflict = error.kind() == ErrorKind::ArgumentConflict;
            let code =
                if conflict { i32::from(Code::ConflictingParameters as u8) } else { error.exit_code() };
            return ExitCode::from(u8::try_from(code).unwrap_or(2));
        }
    };
    let environment = Environment::of_process();
    let environment = match environment.home() {
        Some(_) => environment,
        None => {
            let home = account::own_home(&environment);
            environment.with_account_home(home)
        }
    };
    // Every run removes the in-memory files that a killed civm left behind.
    private_dir::sweep(&environment);
    let context = Context {
        screen: Screen::new(&cli.global, &environment),
        project: cli.global.project.or_else(|| environment.non_empty("CIVM_PROJECT").map(PathBuf::from)),
        environment,
    };
    match dispatch(cli.command, &context) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            context.screen.failure(&failure);
            ExitCode::from(failure.code as u8)
        }
    }
}

fn dispatch(command: Command, context: &Context) -> Outcome {
    // The machine commands handle signals themselves.
    let handles_signals = matches!(
        command,
        Command::Up(_)
            | Command::Restart(_)
            | Command::Down(_)
            | Command::Ssh(_)
            | Command::Exec(_)
            | Command::Cp(_)
            | Command::Console(_)
            | Command::Remote(_)
            | Command::Builder(_)
    );
    if !handles_signals {
        cleanup::on_signals();
    }
    match command {
        Command::Init(args) => init::run(&args, context),
        Command::Keys(args) => keys::run(&args, context),
        Command::Secrets(args) => secrets::run(*args, context),
        Command::Git(args) => git::run(&args, context),
        Command::InstallSecrets(args) => install_secrets::run(&args, context),
        Command::Down(args) => down::run(&args, context),
        Command::Rm(args) => rm::run(&args, context),
        Command::Ls(args) => ls::run(&args, context),
        Command::Status(args) => status::run(&args, context),
        Command::Inspect(args) => inspect::run(&args, context),
        Command::Wait(args) => wait::run(&args, context),
        Command::Ssh(args) => ssh::run(&args, context),
        Command::Exec(args) => exec::run(&args, context),
        Command::Cp(args) => cp::run(&args, context),
        Command::Logs(args) => logs::run(&args, context),
        Command::Port(args) => port::run(&args, context),
        Command::SshConfig(args) => ssh_config::run(&args, context),
        Command::Console(args) => console::run(&args, context),
        Command::Up(args) => up::run(&args, context),
        Command::Restart(args) => up::restart(&args, context),
        Command::Apply(args) => apply::run(&args, context),
        Command::Builder(args) => builder::run(&args, context),
        Command::Image(args) => image::run(&args, context),
        Command::Gc(args) => gc::run(&args, context),
        Command::Doctor(args) => doctor::run(&args, context),
        Command::Sops(args) => Ok(as_persona(Persona::Sops, &args.args, context)),
        Command::SshToAge(args) => Ok(as_persona(Persona::SshToAge, &args.args, context)),
        Command::SopsInstallSecrets(args) => Ok(as_persona(Persona::InstallSecrets, &args.args, context)),
        Command::Links(args) => links::run(&args, context),
        Command::Remote(args) => remote::run(&args, context),
        Command::Schema => {
            context.screen.data(crate::host::schema::text().as_bytes())?;
            Ok(0)
        }
        Command::Completions { shell } => completions::run(shell, context),
        Command::Man { dir } => man::run(&dir, context),
    }
}

/// `civm TOOL …`: does what a link with the tool's name does.
fn as_persona(persona: Persona, args: &[OsString], context: &Context) -> u8 {
    // The tools themselves use only $HOME as the home directory.
    persona.run(persona.name(), args, &context.environment.clone().with_account_home(None))
}

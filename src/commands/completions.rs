//! `civm completions SHELL`, and what its script asks civm for.
//!
//! The script knows nothing of the command line: at every completion the shell runs civm with [`VARIABLE`] set, so that
//! names of hosts and instances are completed as well.

use std::path::Path;

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::env::{CompleteEnv, Shells};
use clap_complete::{ArgValueCandidates, CompletionCandidate};

use super::Context;
use crate::builder::keeper::client;
use crate::builder::place::Place;
use crate::cli::Cli;
use crate::edge::environment::Environment;
use crate::host::Project;
use crate::host::generated::builders::KEEPER;
use crate::host::spec::Arch;
use crate::instance::Home;
use crate::outcome::{Code, Failure, Outcome};

/// The variable by which a shell asks for completions instead of running a command.
const VARIABLE: &str = "CIVM_COMPLETE";
const PROGRAM: &str = "civm";

/// Prints the completion script of a shell.
///
/// # Errors
/// Stdout cannot be written.
pub(super) fn run(shell: clap_complete::Shell, context: &Context) -> Outcome {
    let shells = Shells::builtins();
    let completer = shells.completer(&shell.to_string());
    let completer =
        completer.ok_or_else(|| Failure::new(Code::Generic, format!("no completions for {shell}")))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    context.screen.data(&script)?;
    Ok(0)
}

/// Answers a shell that asks for completions; returns where none does.
pub(super) fn answer() {
    CompleteEnv::with_factory(command).var(VARIABLE).bin(PROGRAM).completer(PROGRAM).complete();
}

/// The command line, with what completes the names in it.
fn command() -> Command {
    Cli::command().mut_subcommands(|verb| {
        if verb.get_name() == "builder" {
            return verb.mut_subcommands(|verb| verb.mut_args(with_builders));
        }
        let is_up = verb.get_name() == "up";
        verb.mut_args(|argument| match argument.get_id().as_str() {
            "instance" | "instances" => argument.add(ArgValueCandidates::new(instances)),
            "host" if is_up => argument.add(ArgValueCandidates::new(hosts_and_instances)),
            _ => argument,
        })
    })
}

fn with_builders(argument: Arg) -> Arg {
    match argument.get_id().as_str() {
        "builder" | "builders" | "remote" => argument.add(ArgValueCandidates::new(builders)),
        _ => argument,
    }
}

/// The builders of this controller, or those that this project's hosts deploy.
fn builders() -> Vec<CompletionCandidate> {
    let held = client::list(&Place::at(Path::new(KEEPER)).socket()).unwrap_or_default();
    let mut names: Vec<String> = held.into_iter().map(|view| view.name).collect();
    if let (Some(project), Some(arch)) = (project(), Arch::native()) {
        let hosts = project.hosts().unwrap_or_default();
        let specs = hosts.iter().filter_map(|host| project.load(host, arch).ok());
        let deployed = specs.filter_map(|spec| spec.nix).flat_map(|nix| nix.deployed);
        names.extend(deployed.map(|builder| builder.name));
    }
    names.sort();
    names.dedup();
    names.into_iter().map(CompletionCandidate::new).collect()
}

fn project() -> Option<Project> {
    let given = Environment::of_process().non_empty("CIVM_PROJECT").map(std::path::PathBuf::from);
    given.map_or_else(|| Project::find(Path::new(".")), |given| Project::at(&given)).ok()
}

fn hosts_and_instances() -> Vec<CompletionCandidate> {
    let mut names = instances();
    let hosts = project().and_then(|project| project.hosts().ok()).unwrap_or_default();
    names.extend(hosts.into_iter().map(CompletionCandidate::new));
    names.sort();
    names.dedup_by(|a, b| a.get_value() == b.get_value());
    names
}

/// The instances of this project, running or not.
fn instances() -> Vec<CompletionCandidate> {
    let names = || -> Option<Vec<String>> {
        let home = Home::find(&Environment::of_process()).ok()?;
        Some(home.project(project()?.root()).ok()?.instances())
    };
    names().unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}

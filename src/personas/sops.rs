//! The command line of sops 3.13.3: the same commands, flags, streams and exit codes.
//!
//! Where sops panics, repeats values in messages, empties a file before it fails, loses an edit or makes plaintext that
//! everybody can read, this one does not. Only age keys are supported; the flags of other kinds are refused by name.

mod completion;
mod context;
mod decrypt;
mod edit;
mod encrypt;
mod end;
mod exec;
mod filestatus;
mod flags;
mod help;
mod legacy;
mod log;
mod parse;
mod rotate;
mod set;
mod source;
mod tables;
mod updatekeys;

use std::ffi::OsString;

use context::{Context, print, print_error};
use end::{End, Outcome};
use log::Log;
use parse::{Call, Line};
use tables::Verb;

use crate::edge::environment::Environment;
use crate::sops::metadata::SOPS_VERSION;

/// The code of a help topic that does not exist.
const NO_TOPIC: u8 = 3;

/// Runs sops. Returns its exit code.
#[must_use]
pub(super) fn run(args: &[OsString], environment: &Environment) -> u8 {
    let quiet = Log::new(environment, false);
    let ended = match parse::parse(args, environment) {
        Line::Call(call) => {
            let log = Log::new(environment, call.given.is_on(&flags::VERBOSE));
            work(call, environment, log)
        }
        Line::Version => print(format!("sops {SOPS_VERSION}\n").as_bytes()),
        Line::Text(text) => print(text.as_bytes()),
        Line::NoTopic(name) => {
            print_error(&format!("No help topic for '{name}'"));
            Ok(NO_TOPIC)
        }
        Line::Wrong { shown, error } => print(shown.as_bytes()).and(Err(End::Fatal(error))),
    };
    match ended {
        Ok(code) => code,
        Err(End::Exit(code, words)) => {
            print_error(&words);
            code as u8
        }
        Err(End::Fatal(words)) => {
            quiet.fatal(&words);
            1
        }
    }
}

fn work(call: Call, environment: &Environment, log: Log) -> Outcome {
    let verb = call.verb;
    let with = |command: fn(&Context) -> Outcome| command(&Context::new(call, environment, log)?);
    match verb {
        Verb::Legacy => with(legacy::run),
        Verb::Encrypt => with(encrypt::run),
        Verb::Decrypt => with(decrypt::run),
        Verb::Edit => with(edit::run),
        Verb::Set => with(set::set),
        Verb::Unset => with(set::unset),
        Verb::Rotate => with(rotate::run),
        Verb::GroupsAdd => with(rotate::add_group),
        Verb::GroupsDelete => with(rotate::delete_group),
        Verb::Updatekeys => with(updatekeys::run),
        Verb::ExecEnv => with(exec::env),
        Verb::ExecFile => with(exec::file),
        Verb::Filestatus => with(filestatus::run),
        Verb::CompletionBash => completion::bash(),
        Verb::CompletionZsh => completion::zsh(),
        Verb::Publish => Err(End::generic("Error: publish is not supported here")),
        Verb::Keyservice => Err(End::generic("Error: keyservice is not supported here")),
    }
}

//! The command line of sops 3.13.3: the same commands, flags, streams and exit codes.
//!
//! Where sops panics, repeats values in messages, empties a file before it fails, loses an edit or makes plaintext that
//! everybody can read, this one does not. age is the only kind of key; the flags of others are refused by name.

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
mod tables;
mod updatekeys;

use std::ffi::OsString;

use context::{Context, last_words, print};
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
            last_words(&format!("No help topic for '{name}'"));
            Ok(NO_TOPIC)
        }
        Line::Wrong { shown, error } => print(shown.as_bytes()).and(Err(End::Fatal(error))),
    };
    match ended {
        Ok(code) => code,
        Err(End::Said(code, words)) => {
            last_words(&words);
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
    let context = match verb {
        Verb::CompletionBash => return completion::bash(),
        Verb::CompletionZsh => return completion::zsh(),
        Verb::Publish => return Err(End::generic("Error: publish is not supported here")),
        Verb::Keyservice => return Err(End::generic("Error: keyservice is not supported here")),
        _ => Context::new(call, environment, log)?,
    };
    match verb {
        Verb::Encrypt => encrypt::run(&context),
        Verb::Decrypt => decrypt::run(&context),
        Verb::Edit => edit::run(&context),
        Verb::Set => set::set(&context),
        Verb::Unset => set::unset(&context),
        Verb::Rotate => rotate::run(&context),
        Verb::GroupsAdd => rotate::add_group(&context),
        Verb::GroupsDelete => rotate::delete_group(&context),
        Verb::Updatekeys => updatekeys::run(&context),
        Verb::ExecEnv => exec::env(&context),
        Verb::ExecFile => exec::file(&context),
        Verb::Filestatus => filestatus::run(&context),
        _ => legacy::run(&context),
    }
}

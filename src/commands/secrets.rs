//! `civm secrets …`: one file per verb.

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::Context;
use crate::cli::secrets::{Command, Secrets};
use crate::edge::terminal::Terminal;
use crate::keys::identity::Half;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::Session;
use crate::sops::document::Warning;
use crate::sops::selector::Selector;

mod check;
mod decrypt;
mod diff;
mod edit;
mod encrypt;
mod failure;
mod get;
mod merge;
mod replace;
mod textconv;
mod update_all;
mod updatekeys;
mod who;

pub(super) use failure::failure;
pub(super) use update_all::{CHANGE_THEM_TOO, forget};

/// Names the rules' file, as for sops.
const CONFIG: &str = "SOPS_CONFIG";

/// Runs one of the secrets commands.
pub(super) fn run(args: Secrets, context: &Context) -> Outcome {
    let session = session(context, args.config)?;
    match args.command {
        Command::Encrypt(args) => encrypt::run(&args, &session, context),
        Command::Decrypt(args) => decrypt::run(&args, &session, context),
        Command::Get(args) => get::run(&args, &session, context),
        Command::Edit(args) => edit::run(&args, &session, context),
        Command::Updatekeys(args) => updatekeys::run(&args, &session, context),
        Command::UpdateAll(args) => update_all::run(&args, &session, context),
        Command::Check(args) => check::run(&args, &session, context),
        Command::Who(args) => who::run(&args, &session, context),
        Command::Replace(args) => replace::run(&args, &session, context),
        Command::Diff(args) => diff::run(&args, &session, context),
        Command::Merge(args) => merge::run(&args, &session, context),
        Command::MergeDriver(args) => Ok(merge::driver(&args, &session, context)),
        Command::Textconv(args) => textconv::run(&args, &session, context),
    }
}

/// A session from where the run was started.
pub(super) fn session(context: &Context, config: Option<PathBuf>) -> Result<Session, Failure> {
    let directory = std::env::current_dir().map_err(|error| {
        Failure::new(Code::Generic, format!("the current directory is not to be had: {error}"))
    })?;
    let mut session = session_at(context, directory);
    if let Some(project) = &context.project {
        session = session.of_project(project);
    }
    let config = config.or_else(|| context.environment.non_empty(CONFIG).map(PathBuf::from));
    Ok(match config {
        Some(config) => session.with_config(&config),
        None => session,
    })
}

/// A session at home in a directory, with the rules that are found from there.
pub(super) fn session_at(context: &Context, directory: PathBuf) -> Session {
    Session::new(context.environment.clone(), Arc::new(Terminal), directory)
}

/// All of standard input.
fn stdin() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut text = Zeroizing::new(Vec::new());
    io::stdin().lock().read_to_end(&mut text).map_err(|error| {
        Failure::new(Code::CouldNotReadInput, format!("cannot read standard input: {error}"))
    })?;
    Ok(text)
}

/// The caller's own recipients: age ones first, those derived from ssh keys after them.
pub(super) fn own_recipients(context: &Context) -> Vec<String> {
    let session = session_at(context, PathBuf::new());
    let halves = session.identities().public_halves();
    let age = halves.iter().filter_map(|(half, _)| match half {
        Half::Age(recipient) => Some(recipient.clone()),
        _ => None,
    });
    let ssh = halves.iter().filter_map(|(half, _)| match half {
        Half::Ssh { line, age, .. } => Some(age.clone().unwrap_or_else(|| line.clone())),
        _ => None,
    });
    age.chain(ssh).collect()
}

/// Says that a selector has no effect.
fn warn_ignored(context: &Context, selector: &Selector) {
    let name = selector.name();
    context.screen.warn(format!("{name} is ignored: the file is one value, which is always encrypted"));
}

/// Says what is odd in a file, though it can be read.
pub(super) fn warn(context: &Context, path: &std::path::Path, warnings: &[Warning]) {
    for warning in warnings {
        match warning {
            Warning::UndecryptableComment { document, container } => context.screen.warn(format!(
                "`{}`: a comment under {container} of document {document} is possibly unencrypted; it is kept as it is",
                path.display()
            )),
        }
    }
}

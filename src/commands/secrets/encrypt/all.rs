//! `civm secrets encrypt --all`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::failure::failure;
use super::super::progress::progress;
use super::super::update_all::{below, root, wrong_directory};
use crate::cli::secrets::Encrypt;
use crate::commands::Context;
use crate::commands::screen::counted;
use crate::edge::terminal;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::check::{Source, unencrypted};
use crate::secrets::discover::candidates;
use crate::secrets::encrypt_all::encrypt_all;
use crate::secrets::file::Doubt;
use crate::secrets::{Error, Session};

pub(super) fn run(args: &Encrypt, session: &Session, context: &Context) -> Outcome {
    let mut paths: Vec<PathBuf> = args.file.iter().chain(&args.more).cloned().collect();
    if let Some(missing) = paths.iter().find(|path| !path.exists()) {
        return Err(failure(Error::Missing(missing.clone())));
    }
    let root = root(session, context);
    let root = root.canonicalize().unwrap_or(root);
    if paths.is_empty() {
        paths.push(root.clone());
    }
    let sources = candidates(&paths, &session.environment).into_iter().map(Source::of).collect();
    let (mut files, mut failures) = (Vec::new(), Vec::new());
    for found in unencrypted(session, sources) {
        match found {
            Ok(path) => files.push(path),
            Err(error) => failures.push(failure(error)),
        }
    }
    let total = files.len() + failures.len();
    if files.is_empty() {
        super::super::several(failures, total, context)?;
        if args.file.is_none()
            && let Some(failure) = wrong_directory(&root, session)
        {
            return Err(failure);
        }
        context.screen.note("nothing to encrypt: every file that must be encrypted already is");
        return Ok(0);
    }
    for path in &files {
        context.screen.line(below(path, &root))?;
    }
    if !args.yes && !agreed(files.len(), session)? {
        context.screen.note("no file was changed");
        return Ok(0);
    }
    let (bar, tick) = progress(context);
    let done = encrypt_all(session, files, &tick);
    bar.finish_and_clear();
    let mut encrypted = 0;
    let mut warnings = BTreeSet::new();
    for (path, result) in done {
        match result {
            Ok(doubts) => {
                encrypted += 1;
                warnings.extend(doubts.into_iter().map(|doubt| match doubt {
                    // The warning names the rules file, and is the same for every file that the rule matches.
                    Doubt::UnknownKey { .. } => doubt.to_string(),
                    doubt => format!("`{}`: {doubt}", below(&path, &root)),
                }));
            }
            Err(error) => failures.push(failure(error)),
        }
    }
    for warning in warnings {
        context.screen.warn(warning);
    }
    if encrypted > 0 {
        context.screen.note(format!("{} encrypted", counted(encrypted, "file")));
        context
            .screen
            .note("change any secrets that were committed or shared in plaintext: others may know them");
    }
    super::super::several(failures, total, context)?;
    Ok(0)
}

fn agreed(files: usize, session: &Session) -> Result<bool, Failure> {
    if !terminal::stdin_is_terminal() || !terminal::stderr_is_terminal() {
        return Err(Failure::new(
            Code::Generic,
            "these files should be encrypted, but there is no terminal to ask for confirmation",
        )
        .help("use --yes to encrypt them without asking"));
    }
    let which = if files == 1 { "this file" } else { "these files" };
    let answer = session.prompt.confirm(&format!("encrypt {which} in place?"), false);
    answer.map_err(|error| Failure::new(Code::Generic, format!("cannot read the answer: {error}")))
}

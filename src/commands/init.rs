//! `civm init`: a project from nothing.

use std::fs;
use std::io;
use std::path::Path;

use super::{Context, keys, secrets};
use crate::cli::init::Init;
use crate::edge::atomic;
use crate::keys::recipient::Recipient;
use crate::outcome::{Code, Failure, Outcome};
use crate::rules::edit;

/// Disks lie beside hosts/ and belong to no repository.
const IGNORED: &str = "*.qcow2";

pub(super) fn run(args: &Init, context: &Context) -> Outcome {
    let dir = &args.dir;
    let rules = dir.join(".sops.yaml");
    if rules.symlink_metadata().is_ok() {
        let failure = Failure::new(Code::Generic, format!("`{}` is there already", rules.display()));
        return Err(failure.help("`civm keys new-host NAME` adds a host to it"));
    }
    let recipient = match &args.recipient {
        Some(recipient) => recipient.trim().to_owned(),
        None => own_recipient(context)?,
    };
    Recipient::parse(&recipient)
        .map_err(|error| Failure::new(Code::Generic, format!("recipient `{recipient}`: {error}")))?;
    let text = edit::initial(&keys::anchor(&context.environment), &recipient)
        .map_err(|error| Failure::new(Code::Generic, error.to_string()))?;
    fs::create_dir_all(dir.join("hosts")).map_err(|error| cannot("make", &dir.join("hosts"), &error))?;
    ignore_disks(dir)?;
    atomic::create(&rules, text.as_bytes(), 0o644, false)
        .map_err(|error| Failure::new(Code::CouldNotWriteOutput, error.to_string()))?;
    context
        .screen
        .note(format!("`{}` makes {recipient} the first reader of the project's secrets", rules.display()));
    context.screen.note("next: `civm keys new-host NAME`");
    Ok(0)
}

/// The first age recipient of the caller's identities, else the ssh one.
pub(super) fn own_recipient(context: &Context) -> Result<String, Failure> {
    secrets::own_recipients(context).into_iter().next().ok_or_else(|| {
        Failure::new(Code::Generic, "you have no identity yet that could open a file").help(
            "`ssh-keygen -t ed25519` makes an ssh key, which is enough; or name a recipient with --recipient",
        )
    })
}

fn ignore_disks(dir: &Path) -> Result<(), Failure> {
    let path = dir.join(".gitignore");
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(cannot("read", &path, &error)),
    };
    if before.lines().any(|line| line.trim() == IGNORED) {
        return Ok(());
    }
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    atomic::replace(&path, format!("{before}{gap}{IGNORED}\n").as_bytes(), 0o644)
        .map_err(|error| Failure::new(Code::CouldNotWriteOutput, error.to_string()))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::CouldNotWriteOutput, format!("cannot {what} `{}`: {error}", path.display()))
}

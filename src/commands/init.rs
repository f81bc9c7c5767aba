//! `civm init`: creates a project.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Context, keys, secrets};
use crate::cli::init::Init;
use crate::edge::atomic;
use crate::host::project::{HOSTS, SCHEMA_FILE};
use crate::host::schema;
use crate::keys::recipient::{Recipient, shown};
use crate::outcome::{Code, Failure, Outcome};
use crate::rules::edit;

/// Disks are stored next to hosts/ and are not committed.
const IGNORED: &str = "*.qcow2";

pub(super) fn run(args: &Init, context: &Context) -> Outcome {
    let dir = &directory(args, context)?;
    let rules = dir.join(".sops.yaml");
    if rules.symlink_metadata().is_ok() {
        let failure = Failure::new(Code::Generic, format!("`{}` already exists", rules.display()));
        return Err(failure.help("`civm keys new-host NAME` adds a host to it"));
    }
    let recipient = match &args.recipient {
        Some(recipient) => recipient.trim().to_owned(),
        None => own_recipient(context)?,
    };
    Recipient::parse(&recipient).map_err(|error| {
        Failure::new(Code::Generic, format!("recipient `{}`: {error}", shown(&recipient)))
    })?;
    let text = edit::initial(&keys::anchor(&context.environment), &recipient)
        .map_err(|error| Failure::new(Code::Generic, error.to_string()))?;
    fs::create_dir_all(dir.join("hosts")).map_err(|error| cannot("create", &dir.join("hosts"), &error))?;
    ignore_disks(dir)?;
    let schema = dir.join(HOSTS).join(SCHEMA_FILE);
    if schema.symlink_metadata().is_err() {
        atomic::create(&schema, schema::text().as_bytes(), 0o644, false)
            .map_err(|error| Failure::new(Code::CouldNotWriteOutput, error.to_string()))?;
    }
    atomic::create(&rules, text.as_bytes(), 0o644, false)
        .map_err(|error| Failure::new(Code::CouldNotWriteOutput, error.to_string()))?;
    context.screen.note(format!(
        "created `{}` with {recipient} as the first reader of the project's secrets",
        rules.display()
    ));
    context.screen.note("next: `civm keys new-host NAME`");
    Ok(0)
}

/// The directory given as an argument or with --project. An argument takes precedence over CIVM_PROJECT.
fn directory(args: &Init, context: &Context) -> Result<PathBuf, Failure> {
    let (dir, project) = match (&args.dir, &context.project) {
        (Some(dir), Some(project)) => (dir, project),
        (Some(dir), None) | (None, Some(dir)) => return Ok(dir.clone()),
        (None, None) => return Ok(PathBuf::from(".")),
    };
    let whole = |path: &Path| fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    let same = matches!((whole(dir), whole(project)), (Ok(one), Ok(other)) if one == other);
    let from_environment =
        context.environment.non_empty("CIVM_PROJECT").is_some_and(|value| project == value);
    if same || from_environment {
        return Ok(dir.clone());
    }
    let message =
        format!("`{}` and --project `{}` are different directories", dir.display(), project.display());
    Err(Failure::new(Code::ConflictingParameters, message))
}

/// The first age recipient of the caller's identities, else the ssh one.
pub(super) fn own_recipient(context: &Context) -> Result<String, Failure> {
    secrets::own_recipients(context).into_iter().next().ok_or_else(|| {
        Failure::new(Code::Generic, "you have no identity that could decrypt a file")
            .help("create an ssh key with `ssh-keygen -t ed25519`, or give a recipient with --recipient")
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

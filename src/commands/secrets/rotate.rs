//! `civm secrets rotate` and `civm secrets groups`.

use std::path::{Path, PathBuf};

use super::failure::failure;
use super::progress::progress;
use super::update_all::{CHANGE_THEM_TOO, below, root};
use crate::cli::secrets::{GroupsCommand, Rotate};
use crate::commands::Context;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::file::SopsFile;
use crate::secrets::recipients::{given, list};
use crate::secrets::rewrite::rewrite;
use crate::secrets::rotate::{Rotated, Rotation, Which, rotate_all};
use crate::secrets::{Error, Session};

pub(super) fn run(args: &Rotate, session: &Session, context: &Context) -> Outcome {
    if let Some(missing) = args.files.iter().find(|path| !path.exists()) {
        return Err(failure(Error::Missing(missing.clone())));
    }
    if args.input.input_type.is_some()
        && let Some(directory) = args.files.iter().find(|path| path.is_dir())
    {
        let message =
            format!("`{}` is a directory, but --input-type applies only to files", directory.display());
        return Err(Failure::new(Code::ConflictingParameters, message));
    }
    let add = given(&args.add_age).map_err(failure)?;
    let rotation = Rotation { add, remove: given(&args.rm_age).map_err(failure)? };
    let root = root(session, context);
    let root = root.canonicalize().unwrap_or(root);
    let paths = if args.all { vec![root.clone()] } else { args.files.clone() };
    rotate(&paths, &root, &rotation, Which::All, session, context)
}

/// Rotates the data keys of files and prints which files were rotated.
pub(super) fn rotate(
    paths: &[PathBuf],
    root: &Path,
    rotation: &Rotation,
    which: Which,
    session: &Session,
    context: &Context,
) -> Outcome {
    let (bar, tick) = progress(context);
    let done = rotate_all(session, paths, rotation, which, &tick);
    bar.finish_and_clear();
    let total = done.len();
    let mut failures = Vec::new();
    let (mut rotated, mut removed) = (0, 0);
    for Rotated { path, result } in done {
        match result {
            Ok(None) => {}
            Ok(Some(count)) => {
                rotated += 1;
                removed += count;
                context.screen.line(format!("rotated {}", below(&path, root)))?;
            }
            Err(error) => failures.push(failure(error)),
        }
    }
    if total > 1 {
        context.screen.note(format!("{total} files: {rotated} rotated, {} failed", failures.len()));
    }
    if rotated > 0 && removed == 0 && !rotation.remove.is_empty() {
        context.screen.warn(format!("{} was not a recipient of these files", rotation.remove.join(", ")));
    }
    if removed > 0 {
        context.screen.note(CHANGE_THEM_TOO);
    }
    super::several(failures, total, context)?;
    Ok(0)
}

pub(super) fn groups(command: &GroupsCommand, session: &Session, context: &Context) -> Outcome {
    let (GroupsCommand::Add { file: path, .. } | GroupsCommand::Rm { file: path, .. }) = command;
    let (needed, groups) = rewrite(session, path, |file| {
        let text = match command {
            GroupsCommand::Add { recipients, threshold, .. } => {
                file.add_group(&list(recipients), threshold.map(i64::from), session)
            }
            GroupsCommand::Rm { group, threshold, .. } => {
                file.remove_group(*group, threshold.map(i64::from), session)
            }
        }?;
        let metadata = SopsFile::parse(session, path, &text)?.metadata;
        Ok((Some(text), (metadata.groups_needed(), metadata.groups.len())))
    })
    .map_err(failure)?;
    if groups > 1 {
        context.screen.note(format!("{needed} of {groups} key groups are now needed to decrypt the file"));
    }
    Ok(0)
}

//! Updating every sops file of a project to the recipients of its rule.

use std::path::{Path, PathBuf};

use super::discover::{Found, sops_files};
use super::error::Error;
use super::file::SopsFile;
use super::many;
use super::recipients::Plan;
use super::rewrite::transform_unsynced;
use super::session::Session;
use crate::edge::atomic::Unsynced;
use crate::sops::metadata::Changes;

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Compare only; needs no key.
    Check,
    /// Compare and show what would be changed; needs no key.
    DryRun,
    /// Update what is out of date.
    Write,
}

/// The result for one file.
#[derive(Debug)]
pub struct FileUpdate {
    /// The file's real path, or the path that could not be searched.
    pub path: PathBuf,
    /// Whether the file itself was given, and not just a directory above it.
    pub named: bool,
    /// The recipients that it has afterwards, in all groups.
    pub recipients: usize,
    /// What is or would be changed (empty if the file is current), or the error.
    pub result: Result<Changes, Error>,
}

impl FileUpdate {
    /// Whether the file matches no rule and was not given explicitly: a sops file that is not one of the project's secrets,
    /// such as an example or test input.
    #[must_use]
    pub fn has_no_rule(&self) -> bool {
        !self.named && matches!(self.result, Err(Error::NoRule { .. }))
    }
}

/// Processes every sops file under the paths, in parallel, and calls `tell` with their number after each.
/// One file that fails does not stop the others; what cannot be read is a file that fails. The result is
/// in the order of the files' paths.
pub fn update_all(
    session: &Session,
    paths: &[PathBuf],
    mode: Mode,
    tell: &(dyn Fn(usize) + Sync),
) -> Vec<FileUpdate> {
    let files = sops_files(paths, &session.environment);
    let total = files.len();
    let work = |Found { path, named, text }: Found, unsynced: &Unsynced| {
        let (recipients, result) = match text.and_then(|text| one(session, &path, &text, mode, unsynced)) {
            Ok((recipients, change)) => (recipients, Ok(change)),
            Err(error) => (0, Err(error)),
        };
        tell(total);
        FileUpdate { path, named, recipients, result }
    };
    many::writing(files, work, |update| (&update.path, &mut update.result))
}

fn one(
    session: &Session,
    path: &Path,
    text: &[u8],
    mode: Mode,
    unsynced: &Unsynced,
) -> Result<(usize, Changes), Error> {
    // The rule first: a file that matches none need not even be readable.
    let plan = Plan::of_rules(session, &as_rules_see(session, path)?)?;
    let file = SopsFile::parse(session, path, text)?;
    let mut change = file.metadata.changes(&plan.groups);
    if !change.is_empty() {
        plan.check(session, change.threshold_after)?;
    }
    if mode == Mode::Write && !change.is_empty() {
        change = transform_unsynced(path, unsynced, |now| {
            // Mostly nobody has written it since it was found.
            let file = if now == text { file.clone() } else { SopsFile::parse(session, path, now)? };
            let change = file.metadata.changes(&plan.groups);
            let text = if change.is_empty() { None } else { Some(file.with_recipients(&plan, session)?) };
            Ok((text, change))
        })?;
    }
    Ok((plan.groups.iter().map(Vec::len).sum(), change))
}

/// A real path as the rules match it: rules given through a symbolic link match paths through that link.
///
/// # Errors
/// The rules cannot be read or understood.
pub fn as_rules_see(session: &Session, path: &Path) -> Result<PathBuf, Error> {
    let rules = session.rules(path)?;
    let seen = rules.as_ref().and_then(|rules| {
        let (directory, real) = (rules.path.parent()?, rules.real_directory()?);
        path.strip_prefix(real).ok().map(|inside| directory.join(inside))
    });
    Ok(seen.unwrap_or_else(|| path.to_path_buf()))
}

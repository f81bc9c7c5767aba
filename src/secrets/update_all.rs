//! Every sops file of a project, brought in line with the rules.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::discover::sops_files;
use super::error::Error;
use super::file::SopsFile;
use super::recipients::Plan;
use super::session::Session;
use crate::edge::atomic;
use crate::sops::metadata::Changes;

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Compare only; needs no key.
    Check,
    /// Compare and show what would be changed; needs no key.
    DryRun,
    /// Change what is behind.
    Write,
}

/// What became of one file.
#[derive(Debug)]
pub struct Looked {
    /// The file.
    pub path: PathBuf,
    /// The recipients it has after the run, in all groups.
    pub recipients: usize,
    /// What is or would be changed; empty where the file is current. Or why nothing could be done.
    pub result: Result<Changes, Error>,
}

/// Looks at every sops file under the paths, in parallel, and tells of each as soon as it is done.
/// One file that fails does not stop the others. The result is in the order of the paths.
pub fn update_all(
    session: &Session,
    paths: &[PathBuf],
    mode: Mode,
    tell: &(dyn Fn(usize, &Looked) + Sync),
) -> Vec<Looked> {
    let files = sops_files(paths);
    let total = files.len();
    files
        .into_par_iter()
        .map(|path| {
            let (recipients, result) = match one(session, &path, mode) {
                Ok((recipients, change)) => (recipients, Ok(change)),
                Err(error) => (0, Err(error)),
            };
            let looked = Looked { path, recipients, result };
            tell(total, &looked);
            looked
        })
        .collect()
}

fn one(session: &Session, path: &Path, mode: Mode) -> Result<(usize, Changes), Error> {
    let file = SopsFile::load(session, path)?;
    let plan = Plan::of_rules(session, path)?;
    let change = file.metadata.changes(&plan.groups);
    if mode == Mode::Write && !change.is_empty() {
        let text = file.with_recipients(&plan, session)?;
        atomic::replace(path, &text, 0o600)?;
    }
    Ok((plan.groups.iter().map(Vec::len).sum(), change))
}

//! Encrypting every file that should be encrypted according to the rules.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::discover::is_sops;
use super::error::Error;
use super::file::{Doubt, NewFile};
use super::many;
use super::recipients::Plan;
use super::rewrite::transform_unsynced;
use super::session::Session;
use super::update_all::as_rules_see;
use crate::edge::atomic::Unsynced;

/// Encrypts files in place, in parallel, and calls `tell` after each. One file that fails does not stop the others. The
/// result is in the order of the files, with the warnings for each.
pub fn encrypt_all(
    session: &Session,
    files: Vec<PathBuf>,
    tell: &(dyn Fn(usize) + Sync),
) -> Vec<(PathBuf, Result<Vec<Doubt>, Error>)> {
    let total = files.len();
    let work = |path: PathBuf, unsynced: &Unsynced| {
        let result = one(session, &path, unsynced);
        tell(total);
        (path, result)
    };
    many::writing(files, work, |(path, result)| (path, result))
}

fn one(session: &Session, path: &Path, unsynced: &Unsynced) -> Result<Vec<Doubt>, Error> {
    let plan = Plan::of_rules(session, &as_rules_see(session, path)?)?;
    let store = session.store_of(path)?;
    transform_unsynced(path, unsynced, |text| {
        // Another process may have encrypted it since the search.
        if is_sops(path, text) {
            return Ok((None, Vec::new()));
        }
        let new = NewFile::of_stores(&*store, Arc::clone(&store), path, text)?;
        let doubts = plan.doubts().into_iter().chain(new.doubts(&plan, &*store, text)).collect();
        Ok((Some(new.seal(&plan, session)?), doubts))
    })
}

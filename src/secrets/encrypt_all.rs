//! Encrypting every file that the rules want encrypted.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::discover::is_sops;
use super::error::Error;
use super::file::NewFile;
use super::many;
use super::recipients::Plan;
use super::rewrite::put;
use super::session::{Session, read};
use super::update_all::as_rules_see;

/// Encrypts files in place, in parallel, and calls `tell` after each. One file that fails does not stop the others. The
/// result is in the order of the files.
pub fn encrypt_all(
    session: &Session,
    files: Vec<PathBuf>,
    tell: &(dyn Fn(usize) + Sync),
) -> Vec<(PathBuf, Result<(), Error>)> {
    let total = files.len();
    let work = files.into_par_iter().map(|path| {
        let result = one(session, &path);
        tell(total);
        (path, result)
    });
    many::writing(|| work.collect())
}

fn one(session: &Session, path: &Path) -> Result<(), Error> {
    let plan = Plan::of_rules(session, &as_rules_see(session, path)?)?;
    loop {
        let text = Zeroizing::new(read(path)?);
        // Somebody else may have encrypted it since the search.
        if is_sops(path, &text) {
            return Ok(());
        }
        let sealed = NewFile::parse(session, path, &text)?.seal(&plan, session)?;
        if put(path, &text, &sealed)? {
            return Ok(());
        }
    }
}

//! Generations: numbered directories, and the link that leads to the current one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::validate::Plan;
use super::{links, write};

/// A generation: the active one, or one that is being written.
pub(super) struct Generation {
    /// Its number.
    pub(super) number: u64,
    /// Its directory.
    pub(super) path: PathBuf,
}

/// Makes the directory of the next generation; one that a broken run left there is replaced.
pub(super) fn begin(plan: &Plan) -> Result<Generation, Error> {
    let number = next_number(plan)?;
    let path = plan.mount_point.join(number.to_string());
    remove(&path).map_err(Error::io("remove", &path))?;
    write::directories(&path, write::directory_owner(plan)).map_err(Error::io("create directory", &path))?;
    Ok(Generation { number, path })
}

/// The generation that the link leads to. A link that leads elsewhere leads to none.
pub(super) fn active(plan: &Plan) -> Option<Generation> {
    let path = fs::read_link(&plan.symlink).ok().filter(|path| path.starts_with(&plan.mount_point))?;
    let number = number(&path.file_name()?.to_string_lossy())?;
    path.is_dir().then_some(Generation { number, path })
}

/// One more than the number that the link leads to, 1 where it leads to no generation.
fn next_number(plan: &Plan) -> Result<u64, Error> {
    let link = &plan.symlink;
    let target = match fs::read_link(link) {
        Ok(target) => target,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
            return Ok(1);
        }
        Err(error) => return Err(Error::io("read link", link)(error)),
    };
    if !target.starts_with(&plan.mount_point) {
        return Ok(1);
    }
    let last = target.file_name().unwrap_or_default().to_string_lossy();
    match number(&last).and_then(|number| number.checked_add(1)) {
        Some(next) => Ok(next),
        None => Err(Error::NotANumber { last: last.into_owned(), path: target }),
    }
}

/// A name made of digits only.
fn number(name: &str) -> Option<u64> {
    (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())).then(|| name.parse().ok()).flatten()
}

/// Lets the link lead to a generation, in one step.
///
/// Anything there that is not a link gives way: a directory of plain files may be what a machine had before.
pub(super) fn switch(plan: &Plan, generation: &Generation) -> Result<(), Error> {
    let link = &plan.symlink;
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create directory", parent))?;
    }
    let is_dir = fs::symlink_metadata(link).is_ok_and(|found| found.is_dir());
    let done = if is_dir {
        links::exchange(link, &generation.path).and_then(|there_before| remove(&there_before))
    } else {
        links::replace(link, &generation.path, None)
    };
    done.map_err(Error::io("switch", link))
}

/// Removes generations that are too old. Names that are not numbers, and higher numbers, stay.
pub(super) fn prune(plan: &Plan, current: &Generation) -> Result<(), Error> {
    if plan.keep == 0 {
        return Ok(());
    }
    let point = &plan.mount_point;
    for entry in fs::read_dir(point).map_err(Error::io("list", point))? {
        let entry = entry.map_err(Error::io("list", point))?;
        let old = number(&entry.file_name().to_string_lossy())
            .is_some_and(|number| number.saturating_add(plan.keep) <= current.number);
        if old {
            remove(&entry.path()).map_err(Error::io("remove", entry.path()))?;
        }
    }
    Ok(())
}

/// Removes whatever is there; nothing is fine as well.
fn remove(path: &Path) -> io::Result<()> {
    let done = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

//! What an instance leaves behind when it is down, and its removal.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::instance::{Place, preflight};
use crate::lifecycle::{Error, Site, turn};

/// What there is of an instance: its disk, and its directory of state with its logs and host key.
#[must_use]
pub fn remains(site: &Site, place: &Place) -> Vec<PathBuf> {
    let is_there = |path: &PathBuf| match fs::read_dir(path) {
        // The directory of state is made by whoever looks, and the lock by whoever has a turn.
        Ok(entries) => entries.flatten().any(|entry| entry.file_name() != turn::FILE),
        Err(_) => path.symlink_metadata().is_ok(),
    };
    [site.project.disk(&place.name), place.path.clone()].into_iter().filter(is_there).collect()
}

/// Removes an instance that is down: its disk and its state; says what there was. A link is removed, not the disk that
/// it leads to.
///
/// # Errors
/// It runs, or is being started, changed or removed; or something cannot be removed.
pub fn remove(site: &Site, place: &Place) -> Result<Vec<PathBuf>, Error> {
    let _turn = turn::try_take(place)?;
    // A record of another civm stands for what that one may run.
    place.load()?;
    if place.is_alive() {
        return Err(crate::instance::Error::Running(place.name.clone()).into());
    }
    let remains = remains(site, place);
    let disk = site.project.disk(&place.name);
    // A machine of another user, or of another state directory, may have it.
    if !disk.is_symlink() {
        preflight::check_disk(&disk, &[])?;
    }
    remove_file(&disk)?;
    remove_state(&place.path)?;
    Ok(remains)
}

/// Removes the directory of state, the lock in it last. Whoever waited for that makes the directory anew.
fn remove_state(directory: &Path) -> Result<(), Error> {
    if directory.is_symlink() {
        // Nothing behind the link is removed but the lock, which was made there by who has the turn.
        remove_file(&directory.join(turn::FILE))?;
        return remove_file(directory);
    }
    let failed = |source: io::Error| cannot_remove(directory, source);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            fs::remove_dir_all(&path).map_err(|source| cannot_remove(&path, source))?;
        } else if entry.file_name() != turn::FILE {
            remove_file(&path)?;
        }
    }
    remove_file(&directory.join(turn::FILE))?;
    match fs::remove_dir(directory) {
        // Somebody has their turn already.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed.map_err(failed),
    }
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot_remove(path, error)),
        _ => Ok(()),
    }
}

fn cannot_remove(path: &Path, source: io::Error) -> Error {
    Error::File { what: "cannot remove", path: path.to_owned(), source }
}

//! What an instance leaves behind when it is down, and its removal.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::instance::{Place, preflight};
use crate::lifecycle::{Error, Site, turn};

/// What there is of an instance: its disk, and its directory of state with its logs and host key.
#[must_use]
pub fn remains(site: &Site, place: &Place) -> Vec<PathBuf> {
    let parts = [site.project.disk(&place.name), place.path.clone()];
    // The directory of state is made by whoever looks; without a file in it there is nothing.
    let is_there = |path: &PathBuf| match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => path.symlink_metadata().is_ok(),
    };
    parts.into_iter().filter(is_there).collect()
}

/// Removes an instance that is down: its disk and its state. A link is removed, not the disk that it leads to.
///
/// # Errors
/// It runs, or is being started; or something cannot be removed.
pub fn remove(site: &Site, place: &Place) -> Result<(), Error> {
    let _turn = turn::try_take(place)?;
    // A record of another civm stands for what that one may run.
    place.load()?;
    if place.is_alive() {
        return Err(crate::instance::Error::Running(place.name.clone()).into());
    }
    let disk = site.project.disk(&place.name);
    // A machine of another user, or of another state directory, may have it.
    if !disk.is_symlink() {
        preflight::check_disk(&disk, &[])?;
    }
    let failed = |what, path: PathBuf| move |source: io::Error| Error::File { what, path, source };
    match fs::remove_file(&disk) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("cannot remove", disk)(error));
        }
        _ => {}
    }
    fs::remove_dir_all(&place.path).map_err(failed("cannot remove", place.path.clone()))
}

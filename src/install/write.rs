//! Directories and files of a generation, with the owner and mode that were asked for, whatever the umask.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, fchown};
use std::path::Path;

use super::entry::{Entry, Owner};
use super::error::Error;
use super::generation::Generation;
use super::mount::DIRECTORY_MODE;
use super::validate::Plan;

/// Makes a directory and its missing parents, 0751, and gives the new ones to `owner`.
pub(super) fn directories(path: &Path, owner: Option<Owner>) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(io::Error::from(io::ErrorKind::NotADirectory)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        directories(parent, owner)?;
    }
    DirBuilder::new().mode(DIRECTORY_MODE).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))?;
    owner.map_or(Ok(()), |owner| chown(path, Some(owner.uid), Some(owner.gid)))
}

/// Writes every file of a generation.
pub(super) fn files<'a>(
    plan: &Plan,
    generation: &Generation,
    files: impl Iterator<Item = (&'a Entry, &'a [u8])>,
) -> Result<(), Error> {
    for (entry, content) in files {
        let path = generation.path.join(&entry.below);
        if let Some(parent) = path.parent() {
            directories(parent, directory_owner(plan)).map_err(Error::io("create directory", parent))?;
        }
        let owner = (!plan.user_mode).then_some(entry.owner);
        file(&path, content, owner, entry.mode).map_err(Error::io("write", path))?;
    }
    Ok(())
}

/// Who owns the directories; in user mode they stay the caller's.
pub(super) fn directory_owner(plan: &Plan) -> Option<Owner> {
    (!plan.user_mode).then_some(Owner { uid: 0, gid: plan.keys_gid })
}

fn file(path: &Path, content: &[u8], owner: Option<Owner>, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    if let Some(owner) = owner {
        fchown(&file, Some(owner.uid), Some(owner.gid))?;
    }
    file.set_permissions(Permissions::from_mode(mode))
}

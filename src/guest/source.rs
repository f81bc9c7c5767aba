//! The project's source, for those who may read it.
//!
//! Everything in the share is open to root alone, since the key and the host's files lie in it. So the source is mounted
//! once more, read-only, below a directory that a group may enter. A link in the share leads there.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use super::notes::Notes;
use super::{Error, root, share};
use crate::host::layer::{Layer, SOURCE_GROUP, SOURCE_MOUNT, SOURCE_TREE};
use crate::install::Accounts;
use crate::vm::agent::answer::{How, What};

/// Mounts it where the layer asks for it, and takes it away where it does not.
pub(super) fn apply(layer: &Layer, dry_run: bool, notes: &mut Notes) -> Result<(), Error> {
    let target = Path::new(SOURCE_MOUNT);
    let mounted = is_mounted(target);
    if layer.source == mounted {
        return Ok(());
    }
    let how = if layer.source { How::Added } else { How::Removed };
    notes.note(What::Setting, how, "source");
    match (dry_run, layer.source) {
        (true, _) => Ok(()),
        (false, true) => open(target),
        (false, false) => nix::mount::umount(target).map_err(Error::io("unmount", target)),
    }
}

fn open(target: &Path) -> Result<(), Error> {
    let door = target.parent().unwrap_or(target);
    let accounts = Accounts::read(Path::new("/")).map_err(|error| Error::content(door, error.to_string()))?;
    let group = accounts
        .group(SOURCE_GROUP)
        .ok_or_else(|| Error::content(door, format!("there is no group {SOURCE_GROUP}")))?;
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(target).map_err(Error::io("create", target))?;
    fs::set_permissions(target, Permissions::from_mode(0o755)).map_err(Error::io("open", target))?;
    chown(door, Some(0), Some(group)).map_err(Error::io("open", door))?;
    fs::set_permissions(door, Permissions::from_mode(0o750)).map_err(Error::io("open", door))?;
    // What a mount is bound to keeps its flags: read-only, without devices and set-user-ID.
    root::bind(&share::in_share(SOURCE_TREE), target)
}

fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    device(path).is_some_and(|own| path.parent().and_then(device).is_some_and(|above| above != own))
}

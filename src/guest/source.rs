//! The project's source, for those who may read it.
//!
//! The share is open to root alone, since the key and the host's files lie in it. So the source is mounted once more,
//! read-only, below a directory that a group may enter, and that directory covers the share: `/shared/source` is the
//! source for everybody who may read it, and what else is in the share is a link to where only root gets.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::notes::Notes;
use super::{Error, root, share};
use crate::host::layer::{ARTIFACTS, Layer, SHARE_MOUNT, SOURCE, SOURCE_GROUP, SOURCE_MOUNT};
use crate::install::Accounts;
use crate::vm::agent::answer::{How, What};

/// Where the share itself is while it is covered.
const COVERED: &str = "/run/civm/share";
/// What is in it besides the source.
const OTHERS: [&str; 3] = ["secrets", "host", ARTIFACTS];

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
        (false, false) => close(target),
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
    root::bind(&share::in_share(SOURCE), target)?;
    cover(door, target)
}

/// Covers the share with the directory that the group may enter.
fn cover(door: &Path, source: &Path) -> Result<(), Error> {
    let (share, covered) = (Path::new(SHARE_MOUNT), Path::new(COVERED));
    DirBuilder::new().recursive(true).mode(0o700).create(covered).map_err(Error::io("create", covered))?;
    let none = None::<&str>;
    let bind = |from: &Path, to: &Path, flags| {
        mount(Some(from), to, none, MsFlags::MS_BIND | flags, none).map_err(Error::io("bind", to))
    };
    // The host key, which is in a mount of its own, comes along.
    bind(share, covered, MsFlags::MS_REC)?;
    // Else what covers the share would cover this as well.
    let alone = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(none, covered, none, alone, none).map_err(Error::io("set apart", covered))?;
    let link = |name: &str, to: &Path| {
        let path = door.join(name);
        let _ = fs::remove_file(&path);
        symlink(to, &path).map_err(Error::io("create", &path))
    };
    OTHERS.iter().try_for_each(|name| link(name, &covered.join(name)))?;
    link(SOURCE, source)?;
    bind(door, share, MsFlags::empty())?;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    bind(share, share, flags)
}

fn close(target: &Path) -> Result<(), Error> {
    nix::mount::umount(target).map_err(Error::io("unmount", target))?;
    // Somebody may still stand in one of these.
    [SHARE_MOUNT, COVERED]
        .iter()
        .try_for_each(|path| umount2(*path, MntFlags::MNT_DETACH).map_err(Error::io("unmount", path)))
}

fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    device(path).is_some_and(|own| path.parent().and_then(device).is_some_and(|above| above != own))
}

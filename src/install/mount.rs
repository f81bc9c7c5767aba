//! The file system that holds the generations: memory that is never swapped out.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};

use super::error::Error;
use super::validate::Plan;
use super::write;

/// Mode of the mount point and of every directory below it.
pub(super) const DIRECTORY_MODE: u32 = 0o751;
/// `RAMFS_MAGIC` of linux/magic.h.
const RAMFS_MAGIC: u32 = 0x8584_58f6;

/// Makes the mount point and mounts a ramfs (or tmpfs) there, unless one is there already.
pub(super) fn prepare(plan: &Plan) -> Result<(), Error> {
    let point = &plan.mount_point;
    write::directories(point, None).map_err(Error::io("create directory", point))?;
    if plan.user_mode {
        return Ok(());
    }
    if !mounted(point, plan.tmpfs).map_err(Error::io("inspect", point))? {
        mount(point, plan.tmpfs).map_err(|error| Error::io("mount", point)(error.into()))?;
    }
    std::os::unix::fs::chown(point, Some(0), Some(plan.keys_gid)).map_err(Error::io("change owner of", point))
}

/// Whether the path is a mount point of the wanted file system.
fn mounted(point: &Path, tmpfs: bool) -> io::Result<bool> {
    let parent = point.parent().unwrap_or(point);
    let apart = fs::metadata(point)?.dev() != fs::metadata(parent)?.dev();
    let kind = statfs(point)?.filesystem_type();
    Ok(apart && if tmpfs { kind == TMPFS_MAGIC } else { is_ramfs(kind) })
}

/// The field's width and sign differ between machines, its low 32 bits do not.
fn is_ramfs(kind: FsType) -> bool {
    let bits = i128::from(kind.0) & i128::from(u32::MAX);
    bits == i128::from(RAMFS_MAGIC)
}

fn mount(point: &Path, tmpfs: bool) -> Result<(), Errno> {
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let try_with =
        |kind: &str, options: &str| nix::mount::mount(Some("none"), point, Some(kind), flags, Some(options));
    if !tmpfs {
        return try_with("ramfs", "mode=0751");
    }
    match try_with("tmpfs", "noswap,mode=0751") {
        // Kernels before 6.4 do not know the option.
        Err(Errno::EINVAL) => try_with("tmpfs", "mode=0751"),
        done => done,
    }
}

//! The share: mounted read-only, its key copied into memory of the guest's own.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use zeroize::Zeroizing;

use super::Error;
use crate::host::layer::{HOST_KEY, LAYER, Layer, SHARE_MOUNT, SHARE_TAG};

/// 256 KiB a message: the largest that brings anything with QEMU's 9p server. Nothing is cached, so that a later apply
/// reads what the host has staged meanwhile.
const OPTIONS: &str = "trans=virtio,version=9p2000.L,msize=262144,cache=none";

/// Mounts the share.
pub(super) fn mount_share() -> Result<(), Error> {
    fs::create_dir_all(SHARE_MOUNT).map_err(Error::io("create", SHARE_MOUNT))?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some(SHARE_TAG), SHARE_MOUNT, Some("9p"), flags, Some(OPTIONS))
        .map_err(Error::io("mount the share at", SHARE_MOUNT))
}

/// Covers the share's secrets with a copy of the host key in memory, under the same path: sshd reads
/// it anew at every login, after the host has removed its own. A ramfs, because it is never swapped.
pub(super) fn take_key() -> Result<(), Error> {
    let path = Path::new(SHARE_MOUNT).join(HOST_KEY);
    let key = Zeroizing::new(fs::read(&path).map_err(Error::io("read", &path))?);
    let dir = path.parent().unwrap_or(Path::new(SHARE_MOUNT));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("secrets"), dir, Some("ramfs"), flags, Some("mode=0700")).map_err(Error::io("mount", dir))?;
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(Error::io("open", dir))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(&path)
        .map_err(Error::io("create", &path))?;
    file.write_all(&key).map_err(Error::io("write", &path))
}

/// Reads the layer.
pub(super) fn read_layer() -> Result<Layer, Error> {
    let path = in_share(LAYER);
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::content(&path, error.to_string()))
}

/// Where a file of the share is in the guest.
pub(super) fn in_share(path: &str) -> PathBuf {
    Path::new(SHARE_MOUNT).join(path)
}

//! What a file has besides its content and its name.

use std::ffi::OsString;
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};

use xattr::FileExt as _;

/// Permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;
/// The attribute that holds a file's ACL.
const ACL: &str = "system.posix_acl_access";
/// Attributes that say something of one content, and go when that is written over.
const OF_CONTENT: [&str; 3] = ["security.capability", "security.evm", "security.ima"];

/// Gives a new file the owner, group, mode, ACL and extended attributes of another; false where one of them cannot
/// be had.
pub(super) fn take_over(new: &File, old: &File, metadata: &Metadata) -> bool {
    owner_and_mode(new, metadata).and_then(|()| extended(new, old)).is_ok()
}

/// Owner first: a change of owner clears set-id bits, which the mode then restores.
fn owner_and_mode(new: &File, metadata: &Metadata) -> io::Result<()> {
    let own = new.metadata()?;
    let changed = |own: u32, wanted: u32| (own != wanted).then_some(wanted);
    let (owner, group) = (changed(own.uid(), metadata.uid()), changed(own.gid(), metadata.gid()));
    if owner.is_some() || group.is_some() {
        fchown(new, owner, group)?;
    }
    // An ACL that the new file has from its directory goes first: the mode would only be its mask.
    if names(new)?.iter().any(|name| name == ACL) {
        new.remove_xattr(ACL)?;
    }
    new.set_permissions(Permissions::from_mode(metadata.mode() & PERMISSIONS))
}

/// The ACL is one of the attributes.
fn extended(new: &File, old: &File) -> io::Result<()> {
    let wanted = names(old)?;
    for name in &wanted {
        if let Some(value) = old.get_xattr(name)?
            && new.get_xattr(name)?.as_ref() != Some(&value)
        {
            new.set_xattr(name, &value)?;
        }
    }
    // What the new file has and the old one has not, and cannot be taken away.
    let more = names(new)?.into_iter().any(|name| !wanted.contains(&name));
    if more { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
}

/// A file system without attributes has none.
fn names(file: &File) -> io::Result<Vec<OsString>> {
    match file.list_xattr() {
        Ok(names) => Ok(names.filter(|name| !OF_CONTENT.iter().any(|own| name == own)).collect()),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

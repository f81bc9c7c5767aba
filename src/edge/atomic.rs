//! Files replaced or created in one step: whatever happens in between, a reader sees the old or the new.
//!
//! The new content is written into a private directory beside the file, synced, gets the file's owner, group, mode,
//! ACL and other attributes, then its name; the directory is synced last. Where one of these cannot be kept, because
//! the file belongs to somebody else or has further names, the content is written into the file as it is, and the
//! synced copy stays beside it until that is done: the next civm finishes what was broken off.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

mod attributes;
mod directory_sync;
mod staging;
mod target;

use directory_sync::sync_directory;
use staging::Staging;
use target::{Existing, Leads, leads_to, split};

pub use directory_sync::{Unsynced, UnsyncedDirectory};
pub use staging::{is_temporary, sweep};
pub use target::{read_locked, sweep_beside};

/// A file that was not written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// There is one already, and it is not to be replaced.
    #[error("{} already exists", .0.display())]
    Exists(PathBuf),
    /// A directory.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Nothing can be put beside the file.
    #[error("cannot write {}: cannot create a file in its directory: {source}", .path.display())]
    Directory {
        /// The file that was to be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file itself was being written, and is not whole.
    #[error("cannot write {}: {source}; the complete new content is in {}, and the next civm puts it in place", .path.display(), .copy.display())]
    BrokenOff {
        /// The file that was to be written.
        path: PathBuf,
        /// Where the content is.
        copy: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system refused.
    #[error("cannot write {}: {source}", .path.display())]
    Io {
        /// The file that was to be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl WriteError {
    /// What the system refused, where it was the system.
    #[must_use]
    pub fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Directory { source, .. } | Self::BrokenOff { source, .. } | Self::Io { source, .. } => {
                Some(source.kind())
            }
            Self::Exists(_) | Self::NotAFile(_) => None,
        }
    }
}

/// How a file is written.
struct WriteOptions<'a> {
    /// What it must hold; `None` where that is all the same.
    expected: Option<Expected<'a>>,
    /// The mode of a new file.
    mode: u32,
    /// Whether it becomes a new file in any case, and has exactly that mode.
    fresh: bool,
    /// What the file is put into instead of its directory being synced.
    unsynced: Option<&'a Unsynced>,
}

/// What a file must hold to be written.
#[derive(Clone, Copy)]
enum Expected<'a> {
    /// There is none.
    Nothing,
    /// This.
    Content(&'a [u8]),
}

/// Replaces a file, or creates it with `mode_if_new` less the umask.
///
/// Owner, group, mode, ACL and extended attributes stay, and so do further hard links. A symbolic link is followed:
/// the file it leads to is replaced, the link stays. What is not a file to be replaced (a pipe, a device, an open file
/// as `/dev/stdout`) is written into.
///
/// # Errors
///
/// The path is a directory, a file that this user may not write, or the system refuses.
pub fn replace(path: &Path, content: &[u8], mode_if_new: u32) -> Result<(), WriteError> {
    write(path, content, &WriteOptions { expected: None, mode: mode_if_new, fresh: false, unsynced: None })
        .map(drop)
}

/// Replaces a file as [`replace`] does, unless it holds this already: to be sure of a write takes a disk ten
/// milliseconds.
///
/// # Errors
///
/// As [`replace`].
pub fn update(path: &Path, content: &[u8], mode_if_new: u32) -> Result<(), WriteError> {
    if std::fs::read(path).is_ok_and(|held| held == content) {
        return Ok(());
    }
    replace(path, content, mode_if_new)
}

/// Replaces a file as [`replace`] does if it still holds `old`; `None` is for a file that is not there. False where
/// somebody else was faster, and nothing was written.
///
/// Of several processes of civm that write a file one has it at a time, and who comes later finds what the first
/// has written. A program that knows nothing of this is noticed unless it writes in the instant of the renaming.
///
/// # Errors
///
/// As [`replace`].
pub fn swap(path: &Path, old: Option<&[u8]>, new: &[u8], mode_if_new: u32) -> Result<bool, WriteError> {
    let expected = Some(old.map_or(Expected::Nothing, Expected::Content));
    write(path, new, &WriteOptions { expected, mode: mode_if_new, fresh: false, unsynced: None })
}

/// The same for one of many files, whose directories the caller syncs behind them.
///
/// # Errors
///
/// As [`replace`].
pub fn swap_unsynced(
    path: &Path,
    old: &[u8],
    new: &[u8],
    mode_if_new: u32,
    unsynced: &Unsynced,
) -> Result<bool, WriteError> {
    let expected = Some(Expected::Content(old));
    let unsynced = Some(unsynced);
    write(path, new, &WriteOptions { expected, mode: mode_if_new, fresh: false, unsynced })
}

/// Creates a file with exactly this mode, whatever the umask is.
///
/// Whatever has that name already is an error and stays as it is, unless `force`: then a file is put in its place,
/// links followed, with the mode alone; a pipe or a device is written into.
///
/// # Errors
///
/// There is a file already, or the system refuses.
pub fn create(path: &Path, content: &[u8], mode: u32, force: bool) -> Result<(), WriteError> {
    let exists = || WriteError::Exists(path.to_owned());
    if !force && path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let expected = if force { None } else { Some(Expected::Nothing) };
    match write(path, content, &WriteOptions { expected, mode, fresh: true, unsynced: None })? {
        true => Ok(()),
        false => Err(exists()),
    }
}

/// False where the file is not as expected.
fn write(path: &Path, content: &[u8], options: &WriteOptions<'_>) -> Result<bool, WriteError> {
    let failed = |source| WriteError::Io { path: path.to_owned(), source };
    let target = match leads_to(path).map_err(failed)? {
        Leads::ToStream(stream) => return write_into(stream, content).map_err(failed).map(|()| true),
        Leads::ToFile(target) => target,
    };
    let (directory, name) = split(&target).map_err(failed)?;
    sweep(&directory);
    let existing = Existing::open(path, &target)?;
    if !options.may_be_as_expected(existing.as_ref()) {
        return Ok(false);
    }
    let staging = Staging::make(&directory).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => WriteError::Directory { path: path.to_owned(), source },
        _ => failed(source),
    })?;
    let old = existing.as_ref().filter(|_| !options.fresh);
    // Until it has its content, the file is nobody else's, even where the one it replaces is open to all.
    let mode = if existing.is_some() || options.fresh { options.mode & 0o600 } else { options.mode };
    let mut new = staging.file(mode).map_err(failed)?;
    new.write_all(content).map_err(failed)?;
    let replaceable = match old {
        Some(old) => old.links() == 1 && attributes::take_over(&new, old.file(), old.metadata()),
        None => true,
    };
    if options.fresh {
        new.set_permissions(Permissions::from_mode(options.mode)).map_err(failed)?;
    }
    new.sync_all().map_err(failed)?;
    // Not before: programs that know of no lock may have written meanwhile.
    if !options.is_as_expected(existing.as_ref(), &target).map_err(failed)? {
        return Ok(false);
    }
    match old.filter(|_| !replaceable) {
        Some(old) => staging.write_through(&name, old.file(), content, path, &directory)?,
        None if existing.is_none() && options.expected.is_some() => {
            if !staging.link(&target).map_err(failed)? {
                return Ok(false);
            }
        }
        None => staging.rename(&target).map_err(failed)?,
    }
    match options.unsynced {
        Some(unsynced) => unsynced.add(directory, path),
        None => sync_directory(&directory).map_err(failed)?,
    }
    Ok(true)
}

impl WriteOptions<'_> {
    /// Whether a file is there or not, as is expected.
    fn may_be_as_expected(&self, existing: Option<&Existing>) -> bool {
        match self.expected {
            None => true,
            Some(Expected::Nothing) => existing.is_none(),
            Some(Expected::Content(_)) => existing.is_some(),
        }
    }

    fn is_as_expected(&self, existing: Option<&Existing>, target: &Path) -> io::Result<bool> {
        match (self.expected, existing) {
            (Some(Expected::Content(old)), Some(existing)) => existing.is_still(target, old),
            _ => Ok(self.may_be_as_expected(existing)),
        }
    }
}

/// There is nothing to sync: what a pipe or a device was given, it has.
fn write_into(mut stream: File, content: &[u8]) -> io::Result<()> {
    stream.write_all(content)
}

#[cfg(test)]
mod tests;

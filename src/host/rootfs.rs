//! The files that a host lays over its image: `hosts/<name>/rootfs/`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::error::Error;

/// A file, directory or link to lay over an image. It belongs to root there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the root.
    pub path: PathBuf,
    /// Permission bits; those of a link mean nothing.
    pub mode: u32,
    /// What it is.
    pub kind: Kind,
}

/// What an [`Entry`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file with its content.
    File(Vec<u8>),
    /// A link with its target, as it is written.
    Link(PathBuf),
}

/// Reads a tree: parents before children, each directory sorted by name. A tree that is not there is empty.
///
/// # Errors
/// Something that cannot be read, or is no file, directory or link.
pub fn read(dir: &Path) -> Result<Vec<Entry>, Error> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut entries = Vec::new();
    for found in WalkDir::new(dir).min_depth(1).sort_by_file_name() {
        let found = found.map_err(|error| {
            let path = error.path().unwrap_or(dir).to_owned();
            Error::Read { path, source: error.into() }
        })?;
        entries.push(entry(dir, &found)?);
    }
    Ok(entries)
}

fn entry(dir: &Path, found: &walkdir::DirEntry) -> Result<Entry, Error> {
    let path = found.path();
    let failed = |source| Error::Read { path: path.into(), source };
    let kind = found.file_type();
    let kind = if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        Kind::Link(fs::read_link(path).map_err(failed)?)
    } else if kind.is_file() {
        Kind::File(fs::read(path).map_err(failed)?)
    } else {
        return Err(Error::NotAFile { path: path.into(), what: "a device, pipe or socket" });
    };
    let mode = found.metadata().map_err(|error| failed(error.into()))?.permissions().mode() & 0o7777;
    Ok(Entry { path: path.strip_prefix(dir).unwrap_or(path).to_owned(), mode, kind })
}

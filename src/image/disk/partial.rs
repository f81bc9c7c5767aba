//! Disks that are being made: beside their place, under a name that git ignores with other disks, and locked.
//! What a killed civm left is locked by nobody, and goes with the next one that looks.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::edge::lock::Lock;

const PREFIX: &str = ".";
const SUFFIX: &str = ".partial.qcow2";
/// How often a file is made anew that a sweep took before it was locked.
const TRIES: usize = 10;

/// A disk on its way.
#[derive(Debug)]
pub(super) struct Partial {
    file: NamedTempFile,
    _lock: Lock,
}

impl Partial {
    /// An empty file for the disk of that path, which nobody but its owner reads.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_default();
        let mut prefix = OsStr::new(PREFIX).to_owned();
        prefix.push(name);
        prefix.push(".");
        for _ in 0..TRIES {
            let file = tempfile::Builder::new()
                .prefix(&prefix)
                .suffix(SUFFIX)
                .permissions(Permissions::from_mode(0o600))
                .tempfile_in(directory(path))?;
            let lock = Lock::wait(file.as_file().try_clone()?)?;
            if lock.file().metadata()?.nlink() == 1 {
                return Ok(Self { file, _lock: lock });
            }
        }
        Err(io::Error::other("another process keeps removing it"))
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(super) fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Gives the disk its name, once it is on the storage. What has the name already is never replaced.
    pub(super) fn publish(self, path: &Path) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist_noclobber(path).map_err(|error| error.error)?;
        File::open(directory(path))?.sync_all()
    }
}

/// The unfinished disks of a directory that nobody makes any more, locked as long as they are looked at.
pub(super) fn dead(dir: &Path) -> impl Iterator<Item = (PathBuf, Lock)> {
    fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name();
        let is_partial = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        if !is_partial || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            return None;
        }
        let lock = Lock::try_exclusive(&entry.path()).ok().flatten()?;
        Some((entry.path(), lock))
    })
}

/// Removes them.
pub(super) fn sweep(dir: &Path) {
    for (path, _lock) in dead(dir) {
        let _ = fs::remove_file(path);
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(dir: &Path) -> usize {
        fs::read_dir(dir).expect("dir").count()
    }

    #[test]
    fn what_nobody_makes_any_more_is_swept_and_what_is_being_made_is_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.qcow2");
        let alive = Partial::new(&path).expect("made");
        // A kill runs no destructor.
        let (_, killed) = Partial::new(&path).expect("made").file.keep().expect("kept");
        fs::write(dir.path().join("mine.qcow2"), "x").expect("written");
        fs::write(dir.path().join(".mine.partial"), "x").expect("written");
        sweep(dir.path());
        assert!(!killed.exists() && alive.path().exists());
        assert_eq!(count(dir.path()), 3);
        drop(alive);
        assert_eq!(count(dir.path()), 2);
    }

    #[test]
    fn a_name_that_is_taken_stays_what_it_is() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.qcow2");
        let partial = Partial::new(&path).expect("made");
        assert_eq!(partial.path().extension(), Some(OsStr::new("qcow2")), "git ignores it as a disk");
        fs::write(&path, "mine").expect("written");
        assert!(partial.publish(&path).is_err());
        assert_eq!(fs::read(&path).expect("read"), b"mine");
        assert_eq!(count(dir.path()), 1);
    }
}

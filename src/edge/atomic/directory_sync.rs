//! Syncing directories, so that the names of new contents stay.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::WriteError;

/// Files that have their new content, in directories that are still to be synced: each once, however many files are in it.
///
/// Until then the machine may crash, and a file be what it was before: the old content or the new one, never a part. So
/// no file counts as written before its directory is synced.
#[derive(Debug, Default)]
pub struct Unsynced(Mutex<BTreeMap<PathBuf, Vec<PathBuf>>>);

/// The files that are in one of those directories.
#[derive(Debug)]
pub struct UnsyncedDirectory {
    directory: PathBuf,
    files: Vec<PathBuf>,
}

impl Unsynced {
    pub(super) fn add(&self, directory: PathBuf, file: &Path) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.entry(directory).or_default().push(file.to_owned());
    }

    /// The directories.
    pub fn directories(self) -> Vec<UnsyncedDirectory> {
        let directories = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        directories.into_iter().map(|(directory, files)| UnsyncedDirectory { directory, files }).collect()
    }
}

impl UnsyncedDirectory {
    /// Syncs the directory. Where that fails, the error of each file, by the path it was written under.
    pub fn sync(self) -> Vec<(PathBuf, WriteError)> {
        let Err(error) = sync_directory(&self.directory) else { return Vec::new() };
        let again = || error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
        let failed = |path: PathBuf| (path.clone(), WriteError::Io { path, source: again() });
        self.files.into_iter().map(failed).collect()
    }
}

/// Syncs a directory, so that what was done to its entries before the call stays. Some file systems cannot sync a
/// directory and say so; there is nothing more to do on them.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_cannot_be_synced_is_an_error_of_each_file_in_it() {
        let base = tempfile::tempdir().expect("a directory");
        let gone = base.path().join("gone");
        let unsynced = Unsynced::default();
        unsynced.add(base.path().to_path_buf(), &base.path().join("there"));
        unsynced.add(gone.clone(), &gone.join("a"));
        unsynced.add(gone.clone(), &gone.join("b"));
        let failed: Vec<_> = unsynced.directories().into_iter().flat_map(UnsyncedDirectory::sync).collect();
        let paths: Vec<_> = failed.iter().map(|(path, _)| path.clone()).collect();
        assert_eq!(paths, [gone.join("a"), gone.join("b")]);
        assert!(failed.iter().all(|(_, error)| error.kind() == Some(io::ErrorKind::NotFound)));
    }
}

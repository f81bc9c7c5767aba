//! The cache of images: one directory an image, built aside and renamed, one builder at a time.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::{Error, Event, Progress, run};

/// Prefix of the directories of unfinished builds; `<prefix><id>`.
const BUILDING: &str = ".building-";
/// In an unfinished build: where its temporary directory outside the cache is.
const SCRATCH: &str = "scratch-path";

/// The images of a cache directory.
#[derive(Debug)]
pub(super) struct Cache {
    images: PathBuf,
}

/// The right to build one image, and the place to do it.
#[derive(Debug)]
pub(super) struct Build<'a> {
    cache: &'a Cache,
    id: String,
    /// Held as long as this lives.
    _lock: File,
    /// What becomes the image's directory.
    pub(super) dir: PathBuf,
    /// A directory that other users of a namespace can reach, for the tools' temporary files.
    pub(super) scratch: PathBuf,
}

impl Cache {
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let images = std::path::absolute(dir).map_err(Error::io("find", dir))?.join("images");
        fs::create_dir_all(&images).map_err(Error::io("create", &images))?;
        Ok(Self { images })
    }

    /// The directory of a finished image.
    pub(super) fn find(&self, id: &str) -> Option<PathBuf> {
        let dir = self.images.join(id);
        dir.is_dir().then_some(dir)
    }

    pub(super) fn log(&self, id: &str) -> PathBuf {
        self.images.join(format!("{id}.log"))
    }

    /// Waits for other builders of the image; `None` where one of them has finished it.
    pub(super) fn begin(&self, id: &str, progress: Progress<'_>) -> Result<Option<Build<'_>>, Error> {
        let lock = self.lock(id)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress(Event::Waiting);
                lock.lock().map_err(Error::io("lock", self.lock_path(id)))?;
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", self.lock_path(id))(error)),
        }
        if self.find(id).is_some() {
            return Ok(None);
        }
        self.sweep(Some(id))?;
        let dir = self.images.join(format!("{BUILDING}{id}"));
        remove_unfinished(&dir)?;
        fs::create_dir(&dir).map_err(Error::io("create", &dir))?;
        let scratch = make_scratch()?;
        let note = dir.join(SCRATCH);
        fs::write(&note, scratch.as_os_str().as_encoded_bytes()).map_err(Error::io("write", &note))?;
        Ok(Some(Build { cache: self, id: id.to_owned(), _lock: lock, dir, scratch }))
    }

    /// Removes what builds left that were killed; a build that still runs holds its lock, and `own` is held
    /// by the caller.
    pub(super) fn sweep(&self, own: Option<&str>) -> Result<(), Error> {
        for entry in fs::read_dir(&self.images).map_err(Error::io("read", &self.images))?.flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_prefix(BUILDING)) else { continue };
            if own == Some(id) {
                continue;
            }
            // Held until the remains are gone: nobody begins to build in them meanwhile.
            let lock = self.lock(id)?;
            if lock.try_lock().is_ok() {
                remove_unfinished(&entry.path())?;
            }
        }
        Ok(())
    }

    fn lock_path(&self, id: &str) -> PathBuf {
        self.images.join(format!("{id}.lock"))
    }

    fn lock(&self, id: &str) -> Result<File, Error> {
        let path = self.lock_path(id);
        File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io("open", &path))
    }
}

impl Build<'_> {
    /// Makes the built directory the image's.
    pub(super) fn finish(self) -> Result<PathBuf, Error> {
        let note = self.dir.join(SCRATCH);
        remove_tree(&self.scratch)?;
        fs::remove_file(&note).map_err(Error::io("remove", &note))?;
        for entry in fs::read_dir(&self.dir).map_err(Error::io("read", &self.dir))?.flatten() {
            if entry.path().is_file() {
                let synced = File::open(entry.path()).and_then(|file| file.sync_all());
                synced.map_err(Error::io("sync", entry.path()))?;
            }
        }
        let dir = self.cache.images.join(&self.id);
        fs::rename(&self.dir, &dir).map_err(Error::io("create", &dir))?;
        Ok(dir)
    }
}

impl Drop for Build<'_> {
    fn drop(&mut self) {
        // Nothing is left to remove after `finish`; after a failure the next build tries again.
        let _ = remove_tree(&self.scratch);
        let _ = remove_tree(&self.dir);
    }
}

/// A directory below the system's temporary one that the mapped users of a namespace can enter.
fn make_scratch() -> Result<PathBuf, Error> {
    use std::os::unix::fs::PermissionsExt;
    let parent = std::env::temp_dir();
    let dir = tempfile::Builder::new()
        .prefix("civm-image-")
        .permissions(fs::Permissions::from_mode(0o711))
        .tempdir()
        .map_err(Error::io("create a directory in", &parent))?
        .keep();
    // The mode of a new directory is cut by the umask.
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o711)).map_err(Error::io("open", &dir))?;
    Ok(dir)
}

fn remove_unfinished(dir: &Path) -> Result<(), Error> {
    match fs::read(dir.join(SCRATCH)) {
        Ok(bytes) => {
            use std::os::unix::ffi::OsStrExt;
            let scratch = PathBuf::from(std::ffi::OsStr::from_bytes(&bytes));
            // Only what `make_scratch` names is ever removed outside the cache.
            let ours =
                scratch.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("civm-image-"));
            if ours {
                remove_tree(&scratch)?;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("read", dir.join(SCRATCH))(error)),
    }
    remove_tree(dir)
}

/// Removes a tree; files of mapped users (a rootless mmdebstrap that was killed) through its helper.
fn remove_tree(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            if !nix::unistd::geteuid().is_root() && run_helper(dir) && fs::remove_dir_all(dir).is_ok() {
                return Ok(());
            }
            Err(Error::io("remove", dir)(error))
        }
    }
}

/// Removes what lies in `dir` as the mapped root; the directory itself is ours.
fn run_helper(dir: &Path) -> bool {
    let Some(program) = super::tools::find("mmdebstrap") else { return false };
    let mut command = run::plain(&program);
    command.args(["--unshare-helper", "find"]);
    let entries = fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()));
    let Ok(entries) = entries else { return false };
    command.args(entries).arg("-delete");
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent(_: Event) {}

    #[test]
    fn a_finished_build_is_found_and_not_built_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        let cache = Cache::open(dir.path()).expect("cache");
        let build = cache.begin("abc", &mut silent).expect("begin").expect("not built yet");
        let scratch = build.scratch.clone();
        fs::write(build.dir.join("disk"), "x").expect("write");
        let image = build.finish().expect("finish");
        assert_eq!(fs::read_dir(&image).expect("dir").count(), 1);
        assert!(!scratch.exists());
        assert_eq!(cache.find("abc"), Some(image));
        assert!(cache.begin("abc", &mut silent).expect("begin").is_none());
    }

    #[test]
    fn a_failed_build_leaves_nothing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let cache = Cache::open(dir.path()).expect("cache");
        let build = cache.begin("abc", &mut silent).expect("begin").expect("not built yet");
        let (building, scratch) = (build.dir.clone(), build.scratch.clone());
        drop(build);
        assert!(!building.exists() && !scratch.exists());
        assert_eq!(cache.find("abc"), None);
    }

    #[test]
    fn what_a_killed_build_left_is_swept() {
        let dir = tempfile::tempdir().expect("tempdir");
        let cache = Cache::open(dir.path()).expect("cache");
        let mut build = cache.begin("old", &mut silent).expect("begin").expect("not built yet");
        let (left, scratch) = (build.dir.clone(), build.scratch.clone());
        // A kill runs no destructor, and the kernel lets the lock go.
        build.dir = dir.path().join("elsewhere");
        build.scratch = dir.path().join("elsewhere");
        drop(build);
        assert!(left.exists() && scratch.exists());
        cache.sweep(None).expect("sweep");
        assert!(!left.exists() && !scratch.exists());
    }

    #[test]
    fn a_build_that_runs_is_not_swept_and_the_second_waits_for_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let cache = Cache::open(dir.path()).expect("cache");
        let first = cache.begin("abc", &mut silent).expect("begin").expect("not built yet");
        let _other = cache.begin("def", &mut silent).expect("begin").expect("not built yet");
        cache.sweep(None).expect("sweep");
        assert!(first.dir.exists());
        std::thread::scope(|scope| {
            let (waits, said) = std::sync::mpsc::channel();
            let cache = &cache;
            let second = scope.spawn(move || {
                let mut progress = |event| waits.send(event).expect("send");
                cache.begin("abc", &mut progress).expect("begin").is_none()
            });
            assert_eq!(said.recv().expect("waits"), Event::Waiting);
            first.finish().expect("finish");
            assert!(second.join().expect("join"), "the second builder finds the image finished");
        });
    }
}

//! Directories of one process: mode 0700 and locked while they live, wiped and removed with their value or by the
//! signal that ends the process. Whatever kills the process, the next one finds them unlocked and sweeps them away.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use nix::unistd::Uid;
use walkdir::WalkDir;

use super::cleanup::{HoldSignals, Remove};
use super::lock::Lock;

/// Length of the random part of a name.
pub(super) const NAME_LEN: usize = 12;
/// The name of the file that keeps git away. It holds no secret and goes last.
pub(super) const GITIGNORE: &str = ".gitignore";
/// What a file is overwritten with at a time.
const ZEROS: [u8; 1 << 14] = [0; 1 << 14];

/// A directory that is removed with everything in it when it is dropped.
#[derive(Debug)]
pub(super) struct HeldDir {
    path: PathBuf,
    remove: Remove,
    left: AtomicBool,
    _lock: Lock,
}

impl HeldDir {
    /// Makes one, whose name begins with `prefix`. It is removed by `remove`, which is [`remove`] and what else goes
    /// with it.
    pub(super) fn make(base: &Path, prefix: &str, remove: Remove) -> io::Result<Self> {
        loop {
            let path = Self::registered(base, prefix, remove)?;
            // A sweep of another process may have been faster than the lock.
            let lock = match open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                opened => Some(Lock::wait(opened?)?),
            };
            match lock {
                Some(lock) if is_named(lock.file(), &path)? => {
                    return Ok(Self { path, remove, left: AtomicBool::new(false), _lock: lock });
                }
                _ => HoldSignals::begin().forget(&path),
            }
        }
    }

    /// Makes one of this very name; `None` where another process has it.
    pub(super) fn named(base: &Path, name: &str, remove: Remove) -> io::Result<Option<Self>> {
        let path = base.join(name);
        loop {
            let mut signals = HoldSignals::begin();
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let lock = match open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => Lock::try_open(opened?)?,
            };
            let Some(lock) = lock else { return Ok(None) };
            // A sweep of another process may have been faster than the lock.
            if !is_named(lock.file(), &path)? {
                continue;
            }
            signals.register(&path, remove);
            return Ok(Some(Self { path, remove, left: AtomicBool::new(false), _lock: lock }));
        }
    }

    /// Makes a directory that goes with this process from the beginning.
    fn registered(base: &Path, prefix: &str, remove: Remove) -> io::Result<PathBuf> {
        let mut signals = HoldSignals::begin();
        // With mkdir as it is: tempfile's own directories come with the random name in their errors.
        let made = tempfile::Builder::new()
            .prefix(prefix)
            .rand_bytes(NAME_LEN)
            .make_in(base, |path| DirBuilder::new().mode(0o700).create(path))?;
        let path = made.into_temp_path().keep().map_err(|error| error.error)?;
        signals.register(&path, remove);
        Ok(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory to the next sweep.
    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }
}

impl Drop for HeldDir {
    fn drop(&mut self) {
        // A signal that came in between would end the process with the work half done.
        let mut signals = HoldSignals::begin();
        if !self.left.load(Ordering::Relaxed) {
            (self.remove)(&self.path);
        }
        signals.forget(&self.path);
    }
}

/// Removes the directories of this user whose makers are dead: nobody holds their locks. `may_go` looks at each
/// before.
pub(super) fn sweep(base: &Path, prefix: &str, may_go: impl Fn(&Path) -> bool) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes())
            && let Ok(Some(lock)) = try_lock(&entry.path())
            && lock.file().metadata().is_ok_and(|metadata| metadata.uid() == Uid::effective().as_raw())
            && may_go(&entry.path())
        {
            remove(&entry.path());
        }
    }
}

/// Overwrites and removes the files of a directory, then the directory itself. What a removed file held may be read
/// from memory or a disk for a while.
pub(super) fn remove(path: &Path) {
    for entry in WalkDir::new(path).same_file_system(true).into_iter().flatten() {
        if entry.file_type().is_file() && entry.file_name() != GITIGNORE {
            remove_file(entry.path());
        }
    }
    let _ = fs::remove_dir_all(path);
}

/// Overwrites and removes a file.
pub(super) fn remove_file(path: &Path) {
    let _ = wipe(path);
    let _ = fs::remove_file(path);
}

/// Overwrites a file where it is, unless another name leads to it as well.
fn wipe(path: &Path) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() > 1 {
        return Ok(());
    }
    let mut left = metadata.len();
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
        file.write_all(&ZEROS[..length])?;
        left -= length as u64;
    }
    file.sync_data()
}

/// Locks a directory; `None` if another holds it or it is no longer there under its name.
pub(super) fn try_lock(path: &Path) -> io::Result<Option<Lock>> {
    let Some(lock) = Lock::try_open(open(path)?)? else { return Ok(None) };
    Ok(is_named(lock.file(), path)?.then_some(lock))
}

/// Opens a directory, and nothing that a link leads to.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

/// Whether what is open is still that which a path names.
pub(super) fn is_named(open: &File, path: &Path) -> io::Result<bool> {
    let held = open.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((held.dev(), held.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::lock::wait_until_free;

    #[test]
    fn files_are_overwritten_where_they_are_and_removed() {
        let base = tempfile::tempdir().expect("a directory");
        let dir = HeldDir::make(base.path(), "x-", remove).expect("made");
        let path = dir.path().to_path_buf();
        fs::create_dir(path.join("deep")).expect("made");
        fs::write(path.join("deep/plain"), "hush".repeat(10_000)).expect("written");
        let mut seen = File::open(path.join("deep/plain")).expect("opened");
        fs::write(base.path().join("other"), "other").expect("written");
        fs::hard_link(base.path().join("other"), path.join("linked")).expect("linked");
        drop(dir);
        assert!(!path.exists());
        let mut after = Vec::new();
        io::Read::read_to_end(&mut seen, &mut after).expect("read");
        assert_eq!(after, vec![0; 40_000], "nothing of it can be read any more");
        assert_eq!(fs::read(base.path().join("other")).expect("read"), b"other", "another's file");
    }

    #[test]
    fn what_a_link_leads_to_is_not_ours_and_a_pipe_keeps_nobody() {
        let base = tempfile::tempdir().expect("a directory");
        let dir = HeldDir::make(base.path(), "x-", remove).expect("made");
        let path = dir.path().to_path_buf();
        let other = base.path().join("other");
        fs::write(&other, "mine").expect("written");
        std::os::unix::fs::symlink(&other, path.join("link")).expect("linked");
        std::os::unix::fs::symlink(base.path(), path.join("up")).expect("linked");
        nix::unistd::mkfifo(&path.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        drop(dir);
        assert!(!path.exists());
        assert_eq!(fs::read(&other).expect("there"), b"mine");
    }

    #[test]
    fn a_name_is_one_process_s_at_a_time() {
        let base = tempfile::tempdir().expect("a directory");
        let first = HeldDir::named(base.path(), "x", remove).expect("made").expect("nobody has it");
        assert!(HeldDir::named(base.path(), "x", remove).expect("looked").is_none());
        drop(first);
        assert!(!base.path().join("x").exists());
        assert!(HeldDir::named(base.path(), "x", remove).expect("made").is_some());
    }

    #[test]
    fn a_sweep_takes_what_nobody_holds_and_what_has_the_prefix() {
        let base = tempfile::tempdir().expect("a directory");
        let [living, dead] = [(); 2].map(|()| HeldDir::make(base.path(), "x-", remove).expect("made"));
        let left = dead.path().to_path_buf();
        fs::write(left.join("plain"), "hush").expect("written");
        dead.leave();
        drop(dead);
        wait_until_free(|| try_lock(&left));
        fs::create_dir(base.path().join("y-left")).expect("made");
        sweep(base.path(), "x-", |_| false);
        assert!(left.exists());
        sweep(base.path(), "x-", |path| path.join("plain").exists());
        assert!(living.path().exists() && !left.exists() && base.path().join("y-left").exists());
    }
}

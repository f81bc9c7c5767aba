//! Directories that only this user can enter, in memory where the machine has such a place.
//!
//! What a killed process leaves behind, the next one removes.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use nix::unistd::Uid;
use thiserror::Error;

use super::environment::Environment;
use super::held_dir::{self, HeldDir};

mod place;

use place::{find_base, hold, temporary_base};

/// Names have no prefix: nothing else is in these directories.
const PREFIX: &str = "";

/// Where a machine may keep files in memory, and why this one does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The place that was looked at.
    pub place: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// A private directory that could not be made.
#[derive(Debug, Error)]
pub enum PrivateDirError {
    /// No place is a tmpfs that is ours alone.
    #[error("no private directory in memory: {}", list(.0))]
    NoTmpfs(Vec<Refused>),
    /// The system refused.
    #[error("cannot create a private directory in {}: {source}", .place.display())]
    Io {
        /// The place.
        place: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn list(refused: &[Refused]) -> String {
    let places = refused.iter().map(|refused| format!("{}: {}", refused.place.display(), refused.reason));
    places.collect::<Vec<_>>().join("; ")
}

/// A directory of mode 0700 whose files are wiped and removed when it is dropped.
#[derive(Debug)]
pub struct PrivateDir {
    dir: HeldDir,
    on_tmpfs: bool,
    refused: Vec<Refused>,
}

impl PrivateDir {
    /// A directory on a tmpfs.
    ///
    /// The place is the first of `$XDG_RUNTIME_DIR`, `/run/user/UID` and `/dev/shm/civm-UID` that is a
    /// tmpfs, belongs to this user and has mode 0700. Directories that dead processes left there are
    /// removed first.
    ///
    /// # Errors
    ///
    /// No such place, or the system refuses.
    pub fn in_memory(environment: &Environment) -> Result<Self, PrivateDirError> {
        let (base, refused) = find_base(environment);
        let base = base.ok_or_else(|| PrivateDirError::NoTmpfs(refused.clone()))?;
        Self::below(&base, true, refused)
    }

    /// A directory on a tmpfs if there is one, else below `$TMPDIR` or `/tmp`.
    /// [`Self::on_tmpfs`] and [`Self::refused`] tell the caller what to say.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn in_memory_if_possible(environment: &Environment) -> Result<Self, PrivateDirError> {
        let (base, refused) = find_base(environment);
        match base {
            Some(base) => Self::below(&base, true, refused),
            None => Self::below(&temporary_base(environment), false, refused),
        }
    }

    /// A directory on a tmpfs that others of this user find by its name, with [`named`]. `None` where another process
    /// has it.
    ///
    /// # Errors
    ///
    /// As [`Self::in_memory`].
    pub fn in_memory_as(environment: &Environment, name: &str) -> Result<Option<Self>, PrivateDirError> {
        let (base, refused) = find_base(environment);
        let base = base.ok_or_else(|| PrivateDirError::NoTmpfs(refused.clone()))?;
        held_dir::sweep(&base, PREFIX, |_| true);
        let failed = |source| PrivateDirError::Io { place: base.clone(), source };
        let _held = hold(&base, true).map_err(failed)?;
        let dir = HeldDir::named(&base, name, remove).map_err(failed)?;
        Ok(dir.map(|dir| Self { dir, on_tmpfs: true, refused }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// True if its files never reach a disk (but for swap).
    #[must_use]
    pub fn on_tmpfs(&self) -> bool {
        self.on_tmpfs
    }

    /// The places that were looked at before, and why they are not used.
    #[must_use]
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    fn below(base: &Path, on_tmpfs: bool, refused: Vec<Refused>) -> Result<Self, PrivateDirError> {
        held_dir::sweep(base, PREFIX, |_| true);
        let failed = |source| PrivateDirError::Io { place: base.to_owned(), source };
        // Until ours is in it, the place must not go, nor become somebody else's.
        let _held = hold(base, on_tmpfs).map_err(failed)?;
        let dir = HeldDir::make(base, PREFIX, remove).map_err(failed)?;
        Ok(Self { dir, on_tmpfs, refused })
    }
}

/// Where a directory of this name is, or would be.
#[must_use]
pub fn named(environment: &Environment, name: &str) -> Option<PathBuf> {
    find_base(environment).0.map(|base| base.join(name))
}

/// Whether a path has the form of a private directory of this user, and what is there is one. It is asked before
/// something is removed whose path was read from a file.
#[must_use]
pub fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let named = name.len() == held_dir::NAME_LEN && name.iter().all(u8::is_ascii_alphanumeric);
    let plain = path.components().all(|component| component != Component::ParentDir);
    let found = path.symlink_metadata();
    named
        && plain
        && path.parent().is_some_and(place::is_called_so)
        && found.is_ok_and(|found| {
            found.is_dir() && found.uid() == Uid::effective().as_raw() && found.mode() & 0o777 == 0o700
        })
}

/// Removes a private directory, and the place it is in with the last one.
fn remove(path: &Path) {
    held_dir::remove(path);
    if let Some(base) = path.parent() {
        place::remove(base);
    }
}

/// Removes what dead processes left in every place that this user's private directories are made in, and
/// the places themselves where they are ours and nothing is left in them. Makes nothing.
pub fn sweep(environment: &Environment) {
    for base in place::bases(environment) {
        if place::check_own(&base).is_ok() {
            held_dir::sweep(&base, PREFIX, |_| true);
            place::remove(&base);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::place::{BASE_MAX, check_tmpfs, open_own};
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    /// A tmpfs of our own to work in; tests on a machine without one have nothing to look at.
    fn memory() -> Option<tempfile::TempDir> {
        let directory = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in("/dev/shm")
            .ok()?;
        check_tmpfs(directory.path(), false).ok()?;
        Some(directory)
    }

    fn environment(runtime: &Path) -> Environment {
        Environment::empty().with("XDG_RUNTIME_DIR", runtime)
    }

    #[test]
    fn a_directory_is_private_in_memory_and_gone_after_use() {
        let Some(runtime) = memory() else { return };
        let directory = PrivateDir::in_memory(&environment(runtime.path())).expect("made");
        assert!(directory.path().starts_with(runtime.path().join("civm")));
        assert!(directory.on_tmpfs());
        assert_eq!(fs::metadata(directory.path()).expect("there").mode() & 0o7777, 0o700);
        let path = directory.path().to_owned();
        fs::create_dir(path.join("deep")).expect("made");
        fs::write(path.join("deep/plain"), "x").expect("written");
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_process_left_is_swept_and_a_living_one_is_spared() {
        let Some(runtime) = memory() else { return };
        let environment = environment(runtime.path());
        let living = PrivateDir::in_memory(&environment).expect("made");
        let stale = runtime.path().join("civm/left-behind");
        fs::create_dir(&stale).expect("made");
        fs::write(stale.join("plain"), "x").expect("written");
        let second = PrivateDir::in_memory(&environment).expect("made");
        assert!(!stale.exists(), "not swept");
        assert!(living.path().exists() && second.path().exists());
    }

    #[test]
    fn sweeping_removes_what_the_dead_left_and_makes_nothing() {
        let Some(runtime) = memory() else { return };
        let temporary = tempfile::tempdir().expect("a directory");
        let environment = environment(runtime.path()).with("TMPDIR", temporary.path());
        let base = runtime.path().join("civm");
        sweep(&environment);
        assert!(!base.exists() && temporary.path().read_dir().expect("there").next().is_none());
        let living = PrivateDir::in_memory(&environment).expect("made");
        fs::create_dir(base.join("left-behind")).expect("made");
        let on_disk = temporary.path().join(format!("civm-{}", Uid::effective()));
        open_own(&on_disk).expect("made");
        fs::create_dir(on_disk.join("left-behind")).expect("made");
        sweep(&environment);
        assert!(!base.join("left-behind").exists() && living.path().exists());
        assert!(!on_disk.exists(), "nothing is left in it");
        std::mem::forget(living);
        fs::remove_dir_all(&base).expect("removed");
    }

    #[test]
    fn the_place_goes_with_the_last_directory_and_comes_with_the_next() {
        let Some(runtime) = memory() else { return };
        let environment = environment(runtime.path());
        let base = runtime.path().join("civm");
        let one = PrivateDir::in_memory(&environment).expect("made");
        let two = PrivateDir::in_memory(&environment).expect("made");
        drop(one);
        assert!(base.exists() && two.path().exists());
        drop(two);
        assert!(!base.exists());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let made = PrivateDir::in_memory(&environment).expect("made");
                        assert!(made.path().starts_with(&base), "{:?}", made.refused());
                        fs::write(made.path().join("plain"), "x").expect("written");
                        sweep(&environment);
                        assert!(made.path().join("plain").exists());
                    }
                });
            }
        });
    }

    #[test]
    fn a_place_too_deep_for_sockets_is_refused() {
        let Some(runtime) = memory() else { return };
        let long = |length: usize| {
            let used = runtime.path().as_os_str().len() + "/".len() + "/civm".len();
            let path = runtime.path().join("d".repeat(length - used));
            open_own(&path).map(|_| path)
        };
        let fits = long(BASE_MAX).expect("made");
        let made = PrivateDir::in_memory(&environment(&fits)).expect("made");
        assert!(made.path().starts_with(&fits));
        assert!(made.path().join("ssh-root").as_os_str().len() <= 90);
        let deep = long(BASE_MAX + 1).expect("made");
        let (_, refused) = find_base(&environment(&deep));
        assert_eq!(refused[0], Refused { place: deep, reason: "path too long for a socket".into() });
    }

    #[test]
    fn a_link_an_open_mode_and_a_disk_are_no_private_places() {
        let Some(runtime) = memory() else { return };
        let real = runtime.path().join("real");
        open_own(&real).expect("made");
        let link = runtime.path().join("link");
        symlink(&real, &link).expect("linked");
        assert!(check_tmpfs(&link, false).is_err(), "followed a link");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).expect("set");
        assert_eq!(check_tmpfs(&real, false), Err("has mode 0755, not 0700".into()));
        assert!(check_tmpfs(Path::new("/proc"), false).is_err());
        assert_eq!(check_tmpfs(&runtime.path().join("none"), false), Err("no such file or directory".into()));
    }

    #[test]
    fn the_reason_names_each_place() {
        let error = PrivateDirError::NoTmpfs(vec![
            Refused { place: "/a".into(), reason: "not a tmpfs".into() },
            Refused { place: "/b".into(), reason: "belongs to user 0".into() },
        ]);
        assert_eq!(
            error.to_string(),
            "no private directory in memory: /a: not a tmpfs; /b: belongs to user 0"
        );
    }
}

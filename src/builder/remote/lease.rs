//! The records of builders that others have here. A lease is alive as long as its lock is held, which the kernel lets go
//! with the process that serves it, however that ends. Everybody sweeps those that are not, and nothing else.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::RngCore as _;
use rand::rngs::OsRng;

use crate::builder::wire;
use crate::edge::atomic::{self, WriteError};
use crate::edge::environment::Environment;
use crate::edge::hex;
use crate::edge::lock::{self, Lock, open_file};
use crate::instance::state::read_small;
use crate::instance::stop::{self, Patience};
use crate::instance::{Error, Home, Place, ProjectState};

/// Where leases are, below the state directory.
const LEASES: &str = "leases";
/// Files of a lease.
const LOCK: &str = "lock";
const RECORD: &str = "lease.json";

/// How long another civm may have the leases to itself: it only makes or looks at one. One that stands still must not
/// keep those that come after it, whose keepers may be gone meanwhile.
const TURN: Duration = Duration::from_secs(5);
/// How long it is tried to remove one that still changes.
const REMOVED: Duration = Duration::from_secs(3);

/// A lease that this process holds.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) path: PathBuf,
    record: wire::Lease,
    _lock: Lock,
}

/// What a sweep came to.
#[derive(Debug, Default)]
pub(super) struct Swept {
    /// The leases that were removed.
    pub(super) gone: Vec<String>,
    /// What could not be removed, in words.
    pub(super) left: Vec<String>,
}

fn directory(home: &Home) -> PathBuf {
    home.path().join(LEASES)
}

/// The leases, to oneself.
fn turn(leases: &Path) -> io::Result<Lock> {
    let until = Instant::now() + TURN;
    loop {
        if let Some(lock) = Lock::try_exclusive(leases)? {
            return Ok(lock);
        }
        if Instant::now() >= until {
            let who = lock::holder(leases)
                .map_or_else(|| "another civm".to_owned(), |pid| format!("process {pid}"));
            let message = format!("{who} has had {} locked for {} s", leases.display(), TURN.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Lease {
    /// Takes a lease of its own, which is locked before anybody can see that it is not.
    pub(super) fn take(home: &Home, owner: &wire::Owner) -> io::Result<Self> {
        let leases = directory(home);
        DirBuilder::new().recursive(true).mode(0o700).create(&leases)?;
        let mut random = [0; 4];
        OsRng.try_fill_bytes(&mut random).map_err(io::Error::other)?;
        let id = format!("{}-{}", owner.builder, hex::encode(&random));
        let path = leases.join(&id);
        // Nobody sweeps meanwhile.
        let turn = turn(&leases)?;
        DirBuilder::new().mode(0o700).create(&path)?;
        let file = path.join(LOCK);
        let lock = open_file(&file).and_then(Lock::try_open);
        // Nobody can have it, but somebody may be looking whether it is held.
        let lock = lock.and_then(|lock| lock.map_or_else(|| Lock::exclusive(&file), Ok));
        drop(turn);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let record = wire::Lease { id, owner: owner.clone(), since, port: None };
        let lease = match lock {
            Ok(lock) => Self { path, record, _lock: lock },
            Err(error) => {
                let _ = fs::remove_dir_all(&path);
                return Err(error);
            }
        };
        lease.save().inspect_err(|_| drop(fs::remove_dir_all(&lease.path)))?;
        Ok(lease)
    }

    /// Where the machine has its state.
    pub(super) fn place(&self) -> Result<Place, Error> {
        let state = ProjectState { project: self.path.clone(), path: self.path.clone() };
        state.place(&self.record.owner.builder)
    }

    /// Writes down which port leads to the machine.
    pub(super) fn note_port(&mut self, port: u16) -> io::Result<()> {
        self.record.port = Some(port);
        self.save()
    }

    fn save(&self) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(&self.record)?;
        let failed = |error: WriteError| {
            io::Error::new(error.kind().unwrap_or(io::ErrorKind::Other), error.to_string())
        };
        atomic::update(&self.path.join(RECORD), &text, 0o600).map_err(failed)
    }

    /// Removes it, and says what could not be removed.
    pub(super) fn remove(self) -> Vec<String> {
        remove(&self.path).err().into_iter().collect()
    }
}

/// Whoever was about to make something in it when its machine was given up does so once.
fn remove(path: &Path) -> Result<(), String> {
    let until = Instant::now() + REMOVED;
    loop {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            // Somebody else who sweeps was first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => {
                return removed.map_err(|error| format!("{} is still there: {error}", path.display()));
            }
        }
    }
}

/// All directories among the leases: no links, nothing of another user's.
fn all(home: &Home) -> Vec<PathBuf> {
    let own = nix::unistd::geteuid().as_raw();
    let entries = fs::read_dir(directory(home)).into_iter().flatten().flatten();
    let is_own =
        |path: &PathBuf| path.symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == own);
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_own).collect();
    all.sort();
    all
}

fn id(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Removes the leases whose holder is dead, whoever they belonged to, with what may be left of their machines.
pub(super) fn sweep(home: &Home, environment: &Environment) -> Swept {
    let mut swept = Swept::default();
    let free = |path: &PathBuf| -> Option<Lock> {
        // One that is just being taken is not locked yet.
        let _turn = turn(&directory(home)).ok()?;
        match Lock::try_exclusive(&path.join(LOCK)) {
            Ok(lock) => lock,
            Err(_) => {
                // Whoever made it was killed before anything was in it; what is not empty is not removed.
                let _ = fs::remove_dir(path);
                None
            }
        }
    };
    // Whoever stands still there would be waited for with each of them.
    let all = if turn(&directory(home)).is_ok() { all(home) } else { Vec::new() };
    for path in all {
        let Some(_lock) = free(&path) else { continue };
        let ended = places(&path).iter().try_for_each(|place| end(place, environment));
        match ended.and_then(|()| remove(&path)) {
            Ok(()) => swept.gone.push(id(&path)),
            Err(reason) => swept.left.push(reason),
        }
    }
    swept
}

/// The machines of a lease: one, if it came so far.
fn places(lease: &Path) -> Vec<Place> {
    let entries = fs::read_dir(lease).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let place = |path: PathBuf| Place { project: lease.to_owned(), name: id(&path), path };
    directories.map(|entry| place(entry.path())).collect()
}

fn end(place: &Place, environment: &Environment) -> Result<(), String> {
    match stop::down(place, Patience::AtMost(Duration::ZERO), environment, &mut |_| {}) {
        Ok(_) | Err(Error::NotRunning(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// The leases that are held.
pub(super) fn held(home: &Home) -> Vec<wire::Lease> {
    let record = |path: &PathBuf| -> Option<wire::Lease> {
        serde_json::from_slice(&read_small(&path.join(RECORD)).ok()?).ok()
    };
    let is_held = |path: &PathBuf| lock::is_held(&path.join(LOCK));
    all(home).iter().filter(|path| is_held(path)).filter_map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::lock::wait_until_free;

    fn world() -> (tempfile::TempDir, Environment, Home) {
        let directory = tempfile::tempdir().unwrap();
        let environment = Environment::empty().with("XDG_STATE_HOME", directory.path());
        let home = Home::find(&environment).unwrap();
        (directory, environment, home)
    }

    fn owner(builder: &str) -> wire::Owner {
        let text = |text: &str| text.to_owned();
        wire::Owner { keeper: text("k"), host: text("h"), project: text("p"), builder: text(builder) }
    }

    #[test]
    fn a_lease_whose_holder_is_gone_is_swept_and_a_held_one_is_not() {
        let (_directory, environment, home) = world();
        let dead = Lease::take(&home, &owner("dead")).unwrap();
        dead.place().unwrap();
        let mut living = Lease::take(&home, &owner("living")).unwrap();
        living.note_port(7).unwrap();
        let (dead_path, dead_id) = (dead.path.clone(), dead.record.id.clone());
        drop(dead);
        wait_until_free(|| Lock::try_exclusive(&dead_path.join(LOCK)));
        let swept = sweep(&home, &environment);
        assert_eq!((swept.gone, swept.left), (vec![dead_id], Vec::new()));
        assert!(!dead_path.exists());
        assert_eq!(held(&home), [living.record.clone()]);
        let path = living.path.clone();
        assert!(living.remove().is_empty() && !path.exists());
    }

    #[test]
    fn many_take_leases_look_at_them_and_sweep_at_the_same_time() {
        let (_directory, environment, home) = world();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                        held(&home);
                    }
                });
            }
            let swept = [0, 1].map(|_| {
                scope.spawn(|| {
                    let mut left = Vec::new();
                    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                        left.extend(sweep(&home, &environment).left);
                    }
                    left
                })
            });
            let taken: Vec<_> = (0..200).map(|_| Lease::take(&home, &owner("b")).map(drop)).collect();
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(taken.iter().all(Result::is_ok), "{taken:?}");
            for left in swept {
                assert_eq!(left.join().unwrap(), [""; 0]);
            }
        });
    }

    #[test]
    fn who_has_the_leases_for_long_is_named() {
        let (_directory, environment, home) = world();
        drop(Lease::take(&home, &owner("dead")).unwrap());
        let _held = Lock::exclusive(&directory(&home)).unwrap();
        let begun = Instant::now();
        assert!(sweep(&home, &environment).gone.is_empty());
        let error = Lease::take(&home, &owner("big")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("process {} has had ", std::process::id())), "{error}");
        assert!(begun.elapsed() < TURN * 3);
    }

    #[test]
    fn nobody_waits_for_the_other_end_of_a_pipe() {
        let (_directory, environment, home) = world();
        let pipe = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let held_one = Lease::take(&home, &owner("held")).unwrap();
        fs::remove_file(held_one.path.join(RECORD)).unwrap();
        pipe(&held_one.path.join(RECORD));
        let dead = directory(&home).join("dead");
        fs::create_dir(&dead).unwrap();
        pipe(&dead.join(LOCK));
        assert_eq!(sweep(&home, &environment).gone, ["dead"]);
        assert!(held(&home).is_empty() && held_one.path.exists());
    }

    #[test]
    fn what_is_not_a_lease_is_left_alone() {
        let (directory, environment, home) = world();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join(LOCK), "").unwrap();
        let unlocked = super::directory(&home).join("unlocked");
        fs::create_dir_all(unlocked.join("something")).unwrap();
        fs::create_dir(super::directory(&home).join("empty")).unwrap();
        std::os::unix::fs::symlink(&outside, super::directory(&home).join("link")).unwrap();
        fs::write(super::directory(&home).join("file"), "").unwrap();
        let swept = sweep(&home, &environment);
        assert!(swept.gone.is_empty() && swept.left.is_empty(), "{swept:?}");
        assert!(outside.join(LOCK).exists() && unlocked.exists());
        assert!(!super::directory(&home).join("empty").exists());
        assert!(held(&home).is_empty());
    }
}

//! One start, apply or removal of an instance at a time.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::{Duration, Instant};

use crate::edge::environment::Environment;
use crate::edge::lock::{Lock, open_file};
use crate::instance::deadline::scaled;
use crate::instance::state::{Phase, make_directory};
use crate::instance::{self, Place};
use crate::lifecycle::{Error, Observer, Progress};

/// The lock's file, in an instance's state directory.
pub(super) const FILE: &str = "up.lock";
/// How long to wait for an instance that is going down before the next one starts.
const GONE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// The right to start an instance, held from the first look at its instance until that is ready. Two at once would both
/// create its disk. It ends with the process, however that ends. Also whether somebody else had it meanwhile.
pub(super) fn take(place: &Place, observer: &mut dyn Observer) -> Result<(Lock, bool), Error> {
    let mut has_waited = false;
    loop {
        if let Some(lock) = current(place, Lock::try_open)? {
            return Ok((lock, has_waited));
        }
        if !std::mem::replace(&mut has_waited, true) {
            observer.tell(Progress::Waiting { name: &place.name });
        }
        if let Some(lock) = current(place, |file| Lock::wait(file).map(Some))? {
            return Ok((lock, has_waited));
        }
    }
}

/// The same, for somebody who does not wait.
pub(super) fn try_take(place: &Place) -> Result<Lock, Error> {
    current(place, Lock::try_open)?.ok_or_else(|| Error::Busy(place.name.clone()))
}

/// Locks the file that is there now; `None` where another has it. A removal takes the file away with the instance's
/// directory: whoever waited for it then holds the lock of nothing, and has to begin again.
fn current(place: &Place, lock: impl Fn(File) -> io::Result<Option<Lock>>) -> Result<Option<Lock>, Error> {
    let path = place.path.join(FILE);
    let failed = |source: io::Error| Error::File { what: "cannot lock", path: path.clone(), source };
    loop {
        make_directory(&place.path)?;
        let file = match open_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.map_err(failed)?,
        };
        let Some(lock) = lock(file).map_err(failed)? else { return Ok(None) };
        let held = lock.file().metadata().map_err(failed)?;
        if fs::metadata(&path).is_ok_and(|found| (found.dev(), found.ino()) == (held.dev(), held.ino())) {
            return Ok(Some(lock));
        }
    }
}

/// Whether the instance is up. If it is going down, because somebody is stopping it or its `up` was interrupted, waits
/// for that.
pub(super) fn is_ready(
    place: &Place,
    environment: &Environment,
    observer: &mut dyn Observer,
) -> Result<bool, Error> {
    let until = Instant::now() + scaled(GONE, environment);
    // An instance of another version of civm is left to that version.
    place.load()?;
    if let Some(lost) = place.lost_directory() {
        observer.tell(Progress::Warning(lost));
    }
    while place.is_alive() {
        match place.record().map(|record| record.phase) {
            Some(Phase::Ready) => return Ok(true),
            Some(Phase::Panicked) => {
                return Err(instance::Error::Unfinished {
                    name: place.name.clone(),
                    reason: "its kernel panicked".to_owned(),
                }
                .into());
            }
            _ => {}
        }
        if Instant::now() > until {
            return Err(instance::Error::Unfinished {
                name: place.name.clone(),
                reason: "it is neither ready nor stopped".to_owned(),
            }
            .into());
        }
        thread::sleep(POLL);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::lock::is_held;
    use crate::secrets;

    struct Heard(std::sync::mpsc::Sender<()>);

    impl Observer for Heard {
        fn tell(&mut self, progress: Progress<'_>) {
            if matches!(progress, Progress::Waiting { .. }) {
                self.0.send(()).expect("somebody waits");
            }
        }

        fn boots_without_secrets(&mut self, _: &str, _: &secrets::Error) -> Option<bool> {
            None
        }
    }

    #[test]
    fn who_waited_for_a_lock_that_was_removed_takes_the_new_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = Place { project: "/p".into(), name: "a".into(), path: directory.path().join("a") };
        let held = try_take(&place).expect("nobody has it");
        assert!(matches!(try_take(&place), Err(Error::Busy(name)) if name == "a"));
        let (sender, waits) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| take(&place, &mut Heard(sender)).expect("it has its turn"));
            waits.recv().expect("it waits");
            fs::remove_dir_all(&place.path).expect("removed");
            drop(held);
            let (lock, has_waited) = waiter.join().expect("it ends");
            assert!(has_waited, "what it knew of the instance may be old");
            assert!(is_held(&place.path.join(FILE)), "what is held is what is there");
            assert!(matches!(try_take(&place), Err(Error::Busy(_))));
            drop(lock);
        });
        crate::edge::lock::wait_until_free(|| Ok(try_take(&place).ok()));
    }
}

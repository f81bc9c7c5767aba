//! One start, apply or removal of an instance at a time.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::edge::environment::Environment;
use crate::edge::lock::{Lock, open_file};
use crate::instance::deadline::scaled;
use crate::instance::state::Phase;
use crate::instance::{self, Place};
use crate::lifecycle::{Error, Observer, Progress};

/// How long to wait for an instance that is going down before the next one starts.
const GONE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// The right to start an instance, held from the first look at its instance until that is ready. Two at once would both
/// create its disk. It ends with the process, however that ends.
pub(super) fn take(place: &Place, observer: &mut dyn Observer) -> Result<Lock, Error> {
    let path = place.path.join("up.lock");
    let failed = |source: io::Error| Error::File { what: "cannot lock", path: path.clone(), source };
    let open = || open_file(&path);
    if let Some(lock) = open().and_then(Lock::try_open).map_err(failed)? {
        return Ok(lock);
    }
    observer.tell(Progress::Waiting { name: &place.name });
    open().and_then(Lock::wait).map_err(failed)
}

/// The same, for somebody who does not wait.
pub(super) fn try_take(place: &Place) -> Result<Lock, Error> {
    let path = place.path.join("up.lock");
    let lock = open_file(&path).and_then(Lock::try_open);
    let lock = lock.map_err(|source| Error::File { what: "cannot lock", path, source })?;
    lock.ok_or_else(|| instance::Error::Running(place.name.clone()).into())
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

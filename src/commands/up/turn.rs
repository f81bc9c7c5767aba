//! One `up` of a host at a time.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::commands::{Context, instance};
use crate::edge::lock::{Lock, open_file};
use crate::instance::Place;
use crate::instance::deadline::scaled;
use crate::instance::state::Phase;
use crate::outcome::{Code, Failure};

/// How long to wait for an instance that is going down before the next one starts.
const GONE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// The right to start a host, held from the first look at its instance until that is ready. Two at once would both
/// create its disk. It ends with the process, however that ends.
pub(super) fn take(place: &Place, context: &Context) -> Result<Lock, Failure> {
    let path = place.path.join("up.lock");
    let failed = |error: io::Error| {
        Failure::new(Code::CouldNotWriteOutput, format!("cannot lock `{}`: {error}", path.display()))
    };
    let open = || open_file(&path);
    if let Some(lock) = open().and_then(Lock::try_open).map_err(failed)? {
        return Ok(lock);
    }
    context.screen.note(format!("another civm is starting {}; waiting for it", place.name));
    open().and_then(Lock::wait).map_err(failed)
}

/// Whether the instance is up. If it is going down, because somebody is stopping it or its `up` was interrupted, waits
/// for that.
pub(super) fn is_ready(place: &Place, context: &Context) -> Result<bool, Failure> {
    let until = Instant::now() + scaled(GONE, &context.environment);
    // An instance of another version of civm is left to that version.
    place.load().map_err(instance::failure)?;
    if let Some(lost) = place.lost_directory() {
        context.screen.warn(lost);
    }
    while place.is_alive() {
        match place.record().map(|record| record.phase) {
            Some(Phase::Ready) => return Ok(true),
            Some(Phase::Panicked) => {
                return Err(instance::failure(crate::instance::Error::Running(place.name.clone()))
                    .help(format!("its kernel panicked: `civm down {}` stops it", place.name)));
            }
            _ => {}
        }
        if Instant::now() > until {
            return Err(instance::failure(crate::instance::Error::Running(place.name.clone()))
                .help(format!("it is neither ready nor stopped: `civm down {}` stops it", place.name)));
        }
        thread::sleep(POLL);
    }
    Ok(false)
}

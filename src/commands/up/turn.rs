//! One `up` of a host at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::thread;
use std::time::{Duration, Instant};

use crate::commands::{Context, instance};
use crate::instance::Place;
use crate::instance::deadline::scaled;
use crate::instance::state::Phase;
use crate::outcome::{Code, Failure};

/// How long an instance that is going down may take until the next one starts.
const GONE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// The right to start a host: from the first look at its instance until that is ready. Two at once would both
/// make its disk. It ends with the file's handle, however that goes.
pub(super) fn take(place: &Place, context: &Context) -> Result<File, Failure> {
    let path = place.path.join("up.lock");
    let failed = |error: io::Error| {
        Failure::new(Code::CouldNotWriteOutput, format!("cannot lock `{}`: {error}", path.display()))
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    context.screen.note(format!("another civm starts {}; waiting for it", place.host));
    file.lock().map_err(failed)?;
    Ok(file)
}

/// Whether the instance is up. One that is on its way down, because somebody stops it or its `up` was broken off,
/// is waited for.
pub(super) fn is_ready(place: &Place, context: &Context) -> Result<bool, Failure> {
    let until = Instant::now() + scaled(GONE, &context.environment);
    // One that another version of civm runs is that one's.
    place.load().map_err(instance::failure)?;
    if let Some(lost) = place.lost_directory() {
        context.screen.warn(lost);
    }
    while place.is_alive() {
        match place.record().map(|record| record.phase) {
            Some(Phase::Ready) => return Ok(true),
            Some(Phase::Panicked) => {
                return Err(instance::failure(crate::instance::Error::Running(place.host.clone()))
                    .help(format!("its kernel panicked: `civm down {}` ends it", place.host)));
            }
            _ => {}
        }
        if Instant::now() > until {
            return Err(instance::failure(crate::instance::Error::Running(place.host.clone()))
                .help(format!("it is neither ready nor gone: `civm down {}`", place.host)));
        }
        thread::sleep(POLL);
    }
    Ok(false)
}

//! Locks of an instance: a living process holds them, and they go with it.

use std::path::Path;
use std::time::Duration;

use crate::edge::lock::{Lock, open_file};
use crate::instance::error::Error;

/// How often, and after which pauses, a lock is tried that another run may be looking at: half a second in all.
const LOCK_TRIES: u32 = 20;
const LOCK_STEP: Duration = Duration::from_millis(25);

/// Takes a lock if nobody has it. The file stays; its lock goes with the value or the process.
pub(crate) fn try_lock(path: &Path) -> Result<Option<Lock>, Error> {
    open_file(path).and_then(Lock::try_open).map_err(Error::file("cannot lock", path))
}

/// The same, past those who only look whether it is held.
pub(crate) fn lock_patiently(path: &Path) -> Result<Option<Lock>, Error> {
    for _ in 0..LOCK_TRIES {
        if let Some(lock) = try_lock(path)? {
            return Ok(Some(lock));
        }
        std::thread::sleep(LOCK_STEP);
    }
    Ok(None)
}

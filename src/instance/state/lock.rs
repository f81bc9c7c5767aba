//! Locks on files: held by whoever lives, and gone with the process.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use crate::instance::error::Error;

/// How often, and after which pauses, a lock is tried that another run may be looking at: half a second in all.
const LOCK_TRIES: u32 = 20;
const LOCK_STEP: Duration = Duration::from_millis(25);

/// Takes a lock if nobody has it. The file stays; its lock goes with the value or the process.
pub(crate) fn try_lock(path: &Path) -> Result<Option<File>, Error> {
    let failed = |source| Error::File { what: "cannot lock", path: path.to_owned(), source };
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The same, past those who only look whether it is held.
pub(crate) fn lock_patiently(path: &Path) -> Result<Option<File>, Error> {
    for _ in 0..LOCK_TRIES {
        if let Some(lock) = try_lock(path)? {
            return Ok(Some(lock));
        }
        std::thread::sleep(LOCK_STEP);
    }
    Ok(None)
}

/// Whether somebody holds an exclusive lock. Looking takes a shared one for an instant.
pub(super) fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

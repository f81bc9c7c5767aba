//! Rewriting a file without losing concurrent changes.
//!
//! Every command that writes a sops file works like this: read the file, make the new text, and replace the file if it
//! still holds what was read. No lock is held while the user is asked for a passphrase or an answer.

use std::path::Path;

use zeroize::Zeroizing;

use super::error::Error;
use super::file::SopsFile;
use super::session::{Session, read_locked};
use crate::edge::atomic::{self, Unsynced, WriteError};

/// The mode of a file that another process has removed in the meantime.
const MODE_IF_NEW: u32 = 0o600;

/// Rewrites a sops file in place. `work` returns its new text, or `None` to leave it unchanged, and a result to pass on.
///
/// # Errors
/// As [`transform`].
pub fn rewrite<T>(
    session: &Session,
    path: &Path,
    work: impl Fn(SopsFile) -> Result<(Option<Vec<u8>>, T), Error>,
) -> Result<T, Error> {
    transform(path, |text| work(SopsFile::parse(session, path, text)?))
}

/// Rewrites a file in place. `work` returns its new text, or `None` to leave it unchanged, and a result to pass on.
///
/// If another process has written the file in the meantime, `work` is run again on the new content, so no concurrent
/// change is lost.
///
/// # Errors
/// The file cannot be read or written, or what `work` finds. The file is as it was then.
pub fn transform<T, B: AsRef<[u8]>, E: From<Error>>(
    path: &Path,
    work: impl Fn(&[u8]) -> Result<(Option<B>, T), E>,
) -> Result<T, E> {
    retry(path, work, |before, after| write_if_unchanged(path, before, after))
}

/// The same for one of many files, whose directories the caller syncs behind them.
///
/// # Errors
/// As [`transform`].
pub(super) fn transform_unsynced<T>(
    path: &Path,
    unsynced: &Unsynced,
    work: impl Fn(&[u8]) -> Result<(Option<Vec<u8>>, T), Error>,
) -> Result<T, Error> {
    retry(path, work, |before, after| atomic::swap_unsynced(path, before, after, MODE_IF_NEW, unsynced))
}

fn retry<T, B: AsRef<[u8]>, E: From<Error>>(
    path: &Path,
    work: impl Fn(&[u8]) -> Result<(Option<B>, T), E>,
    write: impl Fn(&[u8], &[u8]) -> Result<bool, WriteError>,
) -> Result<T, E> {
    loop {
        let before = Zeroizing::new(read_locked(path)?);
        let (after, result) = work(&before)?;
        match after {
            Some(after) if !write(&before, after.as_ref()).map_err(Error::Write)? => {}
            _ => return Ok(result),
        }
    }
}

/// Replaces the text that was read with a new one; false if another process has written the file in the meantime. For
/// commands that ask the user in between.
///
/// # Errors
/// The file cannot be written. It is as it was then.
pub fn write_if_unchanged(path: &Path, before: &[u8], after: &[u8]) -> Result<bool, WriteError> {
    atomic::swap(path, Some(before), after, MODE_IF_NEW)
}

//! A file's content replaced by what becomes of it, one change after the other.
//!
//! Every verb that writes a sops file works like this: read, make the new text, and put it in place of what was read
//! if that is still there. Nobody is kept waiting while a person is asked for a passphrase or an answer.

use std::path::Path;

use zeroize::Zeroizing;

use super::error::Error;
use super::file::SopsFile;
use super::session::{Session, read_locked};
use crate::edge::atomic::{self, WriteError};

/// Rewrites a sops file in place: `work` gives its new text, or none where it is to stay, and what there is to say.
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

/// Rewrites a file in place: `work` gives its new text, or none where it is to stay, and what there is to say.
///
/// Where somebody else wrote the file in the meantime, the work is done again on what they wrote: of several changes
/// at the same time none is lost.
///
/// # Errors
/// The file cannot be read or written, or what `work` finds. The file is as it was then.
pub fn transform<T, B: AsRef<[u8]>, E: From<Error>>(
    path: &Path,
    work: impl Fn(&[u8]) -> Result<(Option<B>, T), E>,
) -> Result<T, E> {
    loop {
        let before = Zeroizing::new(read_locked(path)?);
        let (after, result) = work(&before)?;
        match after {
            Some(after) if !write_if_unchanged(path, &before, after.as_ref()).map_err(Error::Write)? => {}
            _ => return Ok(result),
        }
    }
}

/// Puts a new text in place of the one that was read; false where somebody else has written meanwhile. For verbs
/// that ask somebody in between.
///
/// # Errors
/// The file cannot be written. It is as it was then.
pub fn write_if_unchanged(path: &Path, before: &[u8], after: &[u8]) -> Result<bool, WriteError> {
    atomic::swap(path, Some(before), after, 0o600)
}

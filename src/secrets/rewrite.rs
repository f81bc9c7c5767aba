//! A file's content replaced by what becomes of it.

use std::fs;
use std::path::Path;

use super::error::Error;
use super::file::SopsFile;
use super::session::{Session, read};
use crate::edge::atomic;
use crate::edge::lock::Lock;

/// Rewrites a file in place: `work` gives its new text, or none where it is to stay, and what there is to say.
///
/// Where somebody else wrote the file in the meantime, the work is done again on what they wrote: of several changes
/// at the same time none is lost.
///
/// # Errors
/// The file cannot be read or written, or what `work` finds. The file is as it was then.
pub fn rewrite<T>(
    session: &Session,
    path: &Path,
    work: impl Fn(SopsFile) -> Result<(Option<Vec<u8>>, T), Error>,
) -> Result<T, Error> {
    loop {
        let before = read(path)?;
        let (after, result) = work(SopsFile::parse(session, path, &before)?)?;
        let Some(after) = after else { return Ok(result) };
        let _lock = lock(path)?;
        if read(path)? == before {
            atomic::replace(path, &after, 0o600)?;
            return Ok(result);
        }
    }
}

/// The directory's lock: the file itself becomes another one.
fn lock(path: &Path) -> Result<Lock, Error> {
    let failed = |source| Error::NotWritable { path: path.to_path_buf(), source };
    let real = fs::canonicalize(path).map_err(failed)?;
    Lock::exclusive(real.parent().unwrap_or(Path::new("/"))).map_err(failed)
}

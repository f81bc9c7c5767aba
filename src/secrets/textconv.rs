//! The text of a file for `git diff` and `git log -p`.

use std::path::Path;

use zeroize::Zeroizing;

use super::error::Error;
use super::file::SopsFile;
use super::session::Session;
use crate::sops::document::MacCheck;
use crate::store::{Format, Indents};

/// The plaintext of a file, if it can be decrypted without asking anybody. A log must not stop at one file: the caller
/// prints the text itself where this fails.
///
/// # Errors
/// It is no sops file, or none that an identity at hand opens.
pub fn textconv(
    session: &Session,
    format: Format,
    path: &Path,
    text: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let session = session.unattended();
    // An old revision is no place to stumble over the rules of today.
    let store = session.store(format, path).unwrap_or_else(|_| format.store(Indents::default()));
    let file = SopsFile::of_store(store, path, text)?;
    // Each value has its own authentication; how they went together is not the question here.
    file.open(session.identities(), MacCheck::Ignore)?.plaintext()
}

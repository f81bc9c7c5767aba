//! What `git diff` compares and `git log -p` shows of a file.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::error::Error;
use super::file::SopsFile;
use super::merge::{Recorded, recorded_in};
use super::session::Session;
use crate::sops::document::MacCheck;
use crate::store::{Format, Indents};

/// The plaintext of a file, without asking anybody for a passphrase. Where this fails, callers print the text itself,
/// so that `git log` goes on.
///
/// # Errors
/// It is not a sops file, or no identity opens it.
pub fn textconv(
    session: &Session,
    format: Format,
    path: &Path,
    text: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let session = session.unattended();
    // An old revision is no place to stumble over the rules of today.
    let store = session.store(format, path).unwrap_or_else(|_| format.store(Indents::default()));
    let plaintext = |text: &[u8]| {
        let file = SopsFile::of_store(Arc::clone(&store), path, text)?;
        // Each value has its own authentication; how they went together is not the question here.
        file.open(session.identities(), MacCheck::Ignore)?.plaintext()
    };
    match recorded_in(text).filter(Recorded::is_sops) {
        // A conflict is shown as one.
        Some(recorded) => recorded.marked(plaintext),
        None => plaintext(text),
    }
}

//! The text of a file for `git diff` and `git log -p`.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::error::Error;
use super::file::SopsFile;
use super::merge::{Recorded, recorded_in};
use super::session::Session;
use crate::sops::document::MacCheck;
use crate::store::{Format, Indents};

/// The plaintext of a file, if it can be decrypted without asking anybody. A log must not stop at one file: the caller
/// prints the text itself where this fails.
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
    let recorded = recorded_in(text).filter(Recorded::is_sops);
    // A text with conflict markers has no format of its own; its versions have one.
    let format = recorded
        .as_ref()
        .map_or(format, |recorded| session.format_of_encrypted(path, recorded.versions().ours));
    // An old revision is no place to stumble over the rules of today.
    let store = session.store(format, path).unwrap_or_else(|_| format.store(Indents::default()));
    let plaintext = |text: &[u8]| {
        let file = SopsFile::of_store(Arc::clone(&store), path, text)?;
        // Each value has its own authentication; how they went together is not the question here.
        file.open(session.identities(), MacCheck::Ignore)?.plaintext()
    };
    match recorded {
        // A conflict is shown as one.
        Some(recorded) => recorded.marked(plaintext),
        None => plaintext(text),
    }
}

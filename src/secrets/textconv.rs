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

/// The plaintext of a file, if it can be decrypted without asking the user. A log must not stop at one file: if this
/// fails, the caller prints the text itself.
///
/// # Errors
/// It is not a sops file, or no identity can decrypt it.
pub fn textconv(
    session: &Session,
    format: Format,
    path: &Path,
    text: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let session = session.unattended();
    let recorded = recorded_in(text).filter(Recorded::is_sops);
    // A text with conflict markers has no valid format; its versions do.
    let format = recorded
        .as_ref()
        .map_or(format, |recorded| session.format_of_encrypted(path, recorded.versions().ours));
    // Invalid rules today must not prevent showing an old revision.
    let store = session.store(format, path).unwrap_or_else(|_| format.store(Indents::default()));
    let plaintext = |text: &[u8]| {
        let file = SopsFile::of_store(Arc::clone(&store), path, text)?;
        // Each value is authenticated by itself; the MAC over all of them does not matter here.
        file.open_to_read(session.identities(), MacCheck::Ignore)?.plaintext()
    };
    match recorded {
        // A conflict is shown as a conflict.
        Some(recorded) => recorded.marked(plaintext),
        None => plaintext(text),
    }
}

//! `civm secrets textconv`: what `git diff` compares and `git log -p` shows.

use sha2::{Digest as _, Sha256};

use super::failure::failure;
use crate::cli::secrets_git::Textconv;
use crate::commands::Context;
use crate::outcome::Outcome;
use crate::secrets::Session;
use crate::secrets::session::read;
use crate::secrets::textconv::textconv;

/// Prints the plaintext, or the file unchanged if it cannot be decrypted: `git log` must not stop, and nobody is asked.
pub(super) fn run(args: &Textconv, session: &Session, context: &Context) -> Outcome {
    let text = read(&args.file).map_err(failure)?;
    match textconv(session, session.format_of_encrypted(&args.file, &text), &args.file, &text) {
        Ok(plain) => context.screen.data(&plain)?,
        Err(error) => {
            context.screen.detail(format!("shown encrypted: {error}"));
            match is_binary(&text) {
                true => context.screen.line(format!(
                    "binary file, {} bytes, SHA-256 {:x}",
                    text.len(),
                    Sha256::digest(&text)
                ))?,
                false => context.screen.data(&text)?,
            }
        }
    }
    Ok(0)
}

/// Whether git itself would treat the content as binary: the pattern matched a file that is not a sops file.
fn is_binary(text: &[u8]) -> bool {
    text.iter().take(8000).any(|byte| *byte == 0)
}

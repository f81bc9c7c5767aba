//! `civm secrets textconv`: what `git diff` compares and `git log -p` shows.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::failure::failure;
use crate::cli::secrets_git::Textconv;
use crate::commands::Context;
use crate::edge::terminal::Nobody;
use crate::outcome::Outcome;
use crate::secrets::file::SopsFile;
use crate::secrets::session::read;
use crate::secrets::{Error, Session};
use crate::sops::document::MacCheck;
use crate::store::{Format, Indents};

/// A log goes on whatever a file of it is: one that cannot be opened is shown as it is, and nobody is asked.
pub(super) fn run(args: &Textconv, session: &Session, context: &Context) -> Outcome {
    let text = read(&args.file).map_err(failure)?;
    let unattended = Session::new(context.environment.clone(), Arc::new(Nobody), session.directory.clone());
    match plaintext(&unattended, &args.file, &text) {
        Ok(plain) => context.screen.data(&plain)?,
        Err(error) => {
            context.screen.detail(format!("shown as it is: {error}"));
            context.screen.data(&text)?;
        }
    }
    Ok(0)
}

fn plaintext(session: &Session, path: &Path, text: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let format = Format::of_path(path);
    // An old revision is no place to stumble over the rules of today.
    let store = session.store(format, path).unwrap_or_else(|_| format.store(Indents::default()));
    let file = SopsFile::of_store(store, path, text)?;
    // Each value has its own authentication; how they went together is not the question here.
    file.open(session.identities(), MacCheck::Ignore)?.plaintext()
}

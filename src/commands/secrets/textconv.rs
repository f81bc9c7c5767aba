//! `civm secrets textconv`: what `git diff` compares and `git log -p` shows.

use super::failure::failure;
use crate::cli::secrets_git::Textconv;
use crate::commands::Context;
use crate::outcome::Outcome;
use crate::secrets::Session;
use crate::secrets::session::read;
use crate::secrets::textconv::textconv;

/// A file that cannot be opened is shown as it is, so that `git log` goes on; nobody is asked for anything.
pub(super) fn run(args: &Textconv, session: &Session, context: &Context) -> Outcome {
    let text = read(&args.file).map_err(failure)?;
    match textconv(session, session.format_of_encrypted(&args.file, &text), &args.file, &text) {
        Ok(plain) => context.screen.data(&plain)?,
        Err(error) => {
            context.screen.detail(format!("shown as it is: {error}"));
            context.screen.data(&text)?;
        }
    }
    Ok(0)
}

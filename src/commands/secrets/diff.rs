//! `civm secrets diff`.
use crate::cli::secrets_git::Diff;
use crate::commands::Context;
use crate::outcome::Outcome;
use crate::secrets::Session;

pub(super) fn run(_args: &Diff, _session: &Session, _context: &Context) -> Outcome {
    Ok(0)
}

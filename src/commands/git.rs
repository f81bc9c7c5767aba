//! `civm git …`.
use super::Context;
use crate::cli::git::Git;
use crate::outcome::Outcome;

pub(super) fn run(_args: &Git, _context: &Context) -> Outcome {
    Ok(0)
}

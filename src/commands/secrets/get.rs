//! `civm secrets get`.

use super::failure::failure;
use super::key_path;
use crate::cli::secrets::Get;
use crate::commands::Context;
use crate::edge::terminal;
use crate::outcome::{Code, Outcome};
use crate::secrets::Session;

pub(super) fn run(args: &Get, session: &Session, context: &Context) -> Outcome {
    let path = key_path(&args.path, Code::InvalidTreePath)?;
    let (open, _) = super::open(&args.file, args.output_type, session, context)?;
    let value = open.extract(&path).map_err(failure)?;
    context.screen.data(&value)?;
    // On a terminal, the next prompt should start on a new line; a pipe gets only the value.
    if terminal::stdout_is_terminal() && !value.ends_with(b"\n") {
        context.screen.line("")?;
    }
    Ok(0)
}

//! `civm secrets get`.

use super::failure::failure;
use super::key_path;
use crate::cli::secrets::Get;
use crate::commands::Context;
use crate::edge::terminal;
use crate::outcome::{Code, Outcome};
use crate::secrets::Session;
use crate::secrets::file::SopsFile;
use crate::sops::document::MacCheck;

pub(super) fn run(args: &Get, session: &Session, context: &Context) -> Outcome {
    let path = key_path(&args.path, Code::InvalidTreePath)?;
    let open = SopsFile::load(session, &args.file)
        .and_then(|file| file.open(session.identities(), MacCheck::Verify))
        .map_err(failure)?;
    super::warn(context, &args.file, &open.warnings);
    let value = open.extract(&path).map_err(failure)?;
    context.screen.data(&value)?;
    // On a terminal the prompt starts on a line of its own; a pipe gets the value and nothing else.
    if terminal::stdout_is_terminal() && !value.ends_with(b"\n") {
        context.screen.line("")?;
    }
    Ok(0)
}

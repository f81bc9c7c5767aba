//! `civm secrets edit`.

use std::path::Path;

use super::failure::failure;
use crate::cli::secrets::Edit;
use crate::commands::Context;
use crate::edge::terminal;
use crate::outcome::Outcome;
use crate::secrets::edit::{Notice, Watch, edit};
use crate::secrets::{Error, Session};
use crate::sops::document::MacCheck;

pub(super) fn run(args: &Edit, session: &Session, context: &Context) -> Outcome {
    let mac = if args.ignore_mac { MacCheck::Ignore } else { MacCheck::Verify };
    watched(&args.file, context, |watch| edit(session, &args.file, mac, watch)).map_err(failure)?;
    Ok(0)
}

/// Runs an edit and reports its notices to the user.
pub(super) fn watched<T>(file: &Path, context: &Context, work: impl FnOnce(&Watch<'_>) -> T) -> T {
    let tell = |notice: Notice| match notice {
        Notice::NotInMemory(refused) => super::warn_on_disk(context, "while it is edited", &refused),
        Notice::Doubt(doubt) => context.screen.warn(doubt.to_string()),
        Notice::EditorMayFork(hint) => context.screen.warn(hint.text),
        Notice::Warning(warning) => super::warn(context, file, &[warning]),
    };
    let again = |error: &Error| {
        context.screen.warn(format!("{error}\nPress enter to return to the editor, or Ctrl+C to exit."));
        // At end of input, nobody can press it.
        std::io::stdin().read_line(&mut String::new()).is_ok_and(|read| read > 0)
    };
    let retry = |error: &Error| {
        let words = "Press enter to try to write it again, or Ctrl+C to exit and lose your changes.";
        let asks = terminal::stdin_is_terminal();
        if asks {
            context.screen.warn(format!("{error}\n{words}"));
        }
        asks && std::io::stdin().read_line(&mut String::new()).is_ok_and(|read| read > 0)
    };
    work(&Watch { tell: &tell, again: &again, retry: &retry })
}

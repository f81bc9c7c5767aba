//! `sops edit`, and sops without a mode.

use std::path::Path;

use super::context::{Context, is_missing};
use super::encrypt::{named, of_one_value, plan};
use super::end::{End, Outcome};
use super::flags::SHOW_MASTER_KEYS;
use crate::edge::terminal;
use crate::outcome::Code;
use crate::secrets::Error;
use crate::secrets::edit::{Form, Notice, Watch, change, create};
use crate::secrets::file::Doubt;
use crate::store;

/// What the error is followed by where the editor can be opened again.
const AGAIN: &str = "Press enter to return to the editor, or Ctrl+C to exit.";

pub(super) fn run(context: &Context) -> Outcome {
    let path = context.session.absolute(Path::new(context.file()?));
    context.warn_of_more();
    edit(context, &path)
}

/// Edits a file, or makes one.
pub(super) fn edit(context: &Context, path: &Path) -> Outcome {
    let name = named(context, path);
    let stores = context.stores_at(&name, path)?;
    context.check_order()?;
    let format = stores.input_format;
    let tell = |notice: Notice| match notice {
        Notice::NotInMemory(refused) => context.on_disk("edited", &refused),
        // Of others sops says nothing, and neither does this.
        Notice::EditorMayFork(hint) if hint.is_known => context.log.warn(&hint.text),
        Notice::EditorMayFork(_) => {}
        Notice::Warning(warning) => context.odd(&warning),
        Notice::Doubt(Doubt::Ignored(selector)) => {
            context.log.warn(&of_one_value(selector.name(), format));
        }
        Notice::Doubt(doubt) => context.log.warn(&doubt.to_string()),
    };
    let again = |error: &Error| {
        context.log.error(&format!("{} {AGAIN}", what_is_wrong(error)), Some(&error.to_string()));
        // Nobody there to press it: the end of the input.
        std::io::stdin().read_line(&mut String::new()).is_ok_and(|read| read > 0)
    };
    let retry = |error: &Error| {
        // Where nobody can answer, it ends as with sops.
        let asks = terminal::stdin_is_terminal();
        if asks {
            let words = "Could not write the file. Press enter to try again, or Ctrl+C to exit and lose your changes.";
            context.log.error(words, Some(&error.to_string()));
        }
        asks && std::io::stdin().read_line(&mut String::new()).is_ok_and(|read| read > 0)
    };
    let watch = Watch { tell: &tell, again: &again, retry: &retry };
    let with_metadata = context.given.is_on(&SHOW_MASTER_KEYS);
    let new = if is_missing(path) { Some(plan(context, &name, &stores)?) } else { None };
    let form = Form { input: stores.input, output: stores.output, with_metadata };
    let done = match new {
        Some(plan) => create(&context.session, path, &form, &plan, &watch),
        None => change(&context.session, path, &form, context.mac(), &watch),
    };
    match done {
        Ok(()) => {
            context.log.info("File written successfully");
            Ok(0)
        }
        Err(error @ Error::Store { error: store::Error::Syntax { .. } | store::Error::Limit { .. }, .. }) => {
            Err(End::loading(error))
        }
        Err(Error::Write(error)) => Err(End::writing("in-place file", &error)),
        // The data key is made on the way, and cannot be had.
        Err(error @ (Error::EmptyGroup { .. } | Error::BadThreshold { .. } | Error::Split(_))) => {
            let words = End::from(error).into_message();
            let words = words.strip_prefix("Could not generate data key: ").unwrap_or(&words);
            let words = format!("Error encrypting the data key with one or more master keys: {words}");
            Err(End::Exit(Code::CouldNotRetrieveKey, words))
        }
        Err(error @ Error::EditorLostFile) => {
            Err(End::Exit(Code::CouldNotReadInput, format!("Could not hash file: {error}")))
        }
        Err(error) => Err(context.colour(error)),
    }
}

fn what_is_wrong(error: &Error) -> &'static str {
    match error {
        Error::Store { error: store::Error::Empty, .. } | Error::AlreadyEncrypted(_) => {
            "Tree not valid for encryption."
        }
        Error::Store { .. } => "Could not load tree, probably due to invalid syntax.",
        Error::MetadataEdited(_) => "SOPS metadata is invalid.",
        _ => "The edited text cannot be encrypted.",
    }
}

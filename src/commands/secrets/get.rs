//! `civm secrets get`.

use super::failure::failure;
use crate::cli::secrets::Get;
use crate::commands::Context;
use crate::edge::terminal;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::Session;
use crate::secrets::file::SopsFile;
use crate::sops::document::MacCheck;
use crate::sops::key_path::{KeyPath, Step};

pub(super) fn run(args: &Get, session: &Session, context: &Context) -> Outcome {
    let path = parse(&args.path)?;
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

/// sops' brackets, or keys and list indices with slashes between them. A part that is a number is a list
/// index; a key that is a number or holds a slash needs the brackets.
fn parse(text: &str) -> Result<KeyPath, Failure> {
    let wrong = |why: String| {
        Failure::new(Code::InvalidTreePath, format!("key path `{text}`: {why}"))
            .help("it is key, key/inner/0, or '[\"key\"][\"inner\"][0]'")
    };
    if text.starts_with('[') {
        return KeyPath::parse(text).map_err(|error| wrong(error.to_string()));
    }
    if text.is_empty() || text.split('/').any(str::is_empty) {
        return Err(wrong("a part is empty".to_owned()));
    }
    let steps = text.split('/').map(|part| part.parse().map_or_else(|_| Step::Key(part.into()), Step::Index));
    Ok(KeyPath::from(steps.collect::<Vec<_>>()))
}

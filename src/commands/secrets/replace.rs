//! `civm secrets replace`.

use std::path::Path;

use zeroize::Zeroizing;

use super::failure::failure;
use crate::cli::secrets_git::Replace;
use crate::commands::Context;
use crate::edge::terminal;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::Session;
use crate::secrets::rewrite::rewrite;
use crate::secrets::session::read;
use crate::sops::document::MacCheck;

pub(super) fn run(args: &Replace, session: &Session, context: &Context) -> Outcome {
    let named = super::named(args.from.as_ref());
    let from = named.unwrap_or(Path::new("standard input"));
    let text = match named {
        Some(from) => Zeroizing::new(read(from).map_err(failure)?),
        None if args.from.is_none() && terminal::stdin_is_terminal() => {
            return Err(Failure::new(Code::NoFileSpecified, "no new plaintext was given")
                .help("give a file with --from, or pipe the plaintext in"));
        }
        None => super::stdin()?,
    };
    let mac = if args.ignore_mac { MacCheck::Ignore } else { MacCheck::Verify };
    let input =
        args.input_type.map(|format| session.store(format, &args.file)).transpose().map_err(failure)?;
    let (same, warnings) = rewrite(session, &args.file, |file| {
        let mut open = file.open(session.identities(), mac)?;
        let warnings = std::mem::take(&mut open.warnings);
        let text = open.replaced(input.as_deref(), from, &text, session)?;
        let same = text.is_none();
        Ok((text, (same, warnings)))
    })
    .map_err(failure)?;
    super::warn(context, &args.file, &warnings);
    if same {
        let file = args.file.display();
        context.screen.note(format!("`{file}` already has this content; it was not changed"));
    }
    Ok(0)
}

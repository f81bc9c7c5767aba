//! `civm secrets replace`.

use zeroize::Zeroizing;

use super::failure::failure;
use crate::cli::secrets_git::Replace;
use crate::commands::Context;
use crate::edge::{atomic, terminal};
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::file::SopsFile;
use crate::secrets::session::read;
use crate::secrets::{Error, Session};
use crate::sops::document::MacCheck;
use crate::store::Format;

pub(super) fn run(args: &Replace, session: &Session, context: &Context) -> Outcome {
    let input = args.input_type.as_deref().map(format).transpose()?;
    let text = match &args.from {
        Some(from) => Zeroizing::new(read(from).map_err(failure)?),
        None if terminal::stdin_is_terminal() => {
            return Err(Failure::new(Code::NoFileSpecified, "no new plaintext is given")
                .help("name a file with --from, or pipe the plaintext in"));
        }
        None => super::stdin()?,
    };
    let mac = if args.ignore_mac { MacCheck::Ignore } else { MacCheck::Verify };
    let sealed = SopsFile::load(session, &args.file)
        .and_then(|file| file.open(session.identities(), mac))
        .and_then(|open| {
            super::warn(context, &args.file, &open.warnings);
            let input = input.map(|format| session.store(format, &args.file)).transpose()?;
            let tree = open.read_replacement(input.as_deref(), &text)?;
            // Compared as it would be written: how the new text was laid out is no change.
            let same = open.plaintext_of(&tree)? == open.plaintext()?;
            if same { Ok(None) } else { open.seal(tree, session).map(Some) }
        })
        .map_err(failure)?;
    let Some(sealed) = sealed else {
        context
            .screen
            .note(format!("`{}` has this content already; it is left as it is", args.file.display()));
        return Ok(0);
    };
    atomic::replace(&args.file, &sealed, 0o600).map_err(|error| failure(Error::Write(error)))?;
    Ok(0)
}

fn format(name: &str) -> Result<Format, Failure> {
    Format::of_name(name).ok_or_else(|| {
        Failure::new(Code::CouldNotReadInput, format!("`{name}` is no format"))
            .help("the formats are yaml, json, dotenv, ini and binary")
    })
}

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

pub(super) fn run(args: &Replace, session: &Session, context: &Context) -> Outcome {
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
            let input = args.input_type.map(|format| session.store(format, &args.file)).transpose()?;
            open.replaced(input.as_deref(), &text, session)
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

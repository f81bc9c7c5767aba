//! `civm secrets edit`.

use super::failure::failure;
use crate::cli::secrets::Edit;
use crate::commands::Context;
use crate::outcome::Outcome;
use crate::secrets::edit::{Notice, edit};
use crate::secrets::Session;
use crate::sops::document::MacCheck;

pub(super) fn run(args: &Edit, session: &Session, context: &Context) -> Outcome {
    let mac = if args.ignore_mac { MacCheck::Ignore } else { MacCheck::Verify };
    let tell = |notice: Notice| match notice {
        Notice::NotInMemory(refused) => {
            let places: Vec<String> =
                refused.iter().map(|one| format!("{}: {}", one.place.display(), one.reason)).collect();
            context.screen.warn(format!(
                "the plaintext lies on a disk while it is edited, for no place in memory is private ({})",
                places.join("; ")
            ));
        }
        Notice::Odd(warning) => super::warn(context, &args.file, &[warning]),
        Notice::Invalid(error) => {
            context.screen.warn(format!("{error}\nPress enter to return to the editor, or Ctrl+C to exit."));
        }
    };
    edit(session, &args.file, mac, &tell).map_err(failure)?;
    Ok(0)
}

//! `civm secrets updatekeys`.

use std::path::Path;

use super::failure::failure;
use crate::cli::secrets::Updatekeys;
use crate::commands::Context;
use crate::edge::terminal;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::file::SopsFile;
use crate::secrets::recipients::{Plan, as_sops_shows_them};
use crate::secrets::rewrite::write_if_unchanged;
use crate::secrets::session::read_locked;
use crate::secrets::{Error, Session};

pub(super) fn run(args: &Updatekeys, session: &Session, context: &Context) -> Outcome {
    let mut failed = 0;
    for file in &args.files {
        if let Err(error) = one(file, args.yes, session, context) {
            context.screen.failure(&error);
            failed += 1;
        }
    }
    if failed == 0 {
        return Ok(0);
    }
    Err(Failure::new(Code::Generic, format!("failed updating {failed} of {} file(s)", args.files.len())))
}

fn one(path: &Path, yes: bool, session: &Session, context: &Context) -> Result<(), Failure> {
    let shown = session.absolute(path);
    context.screen.note(format!("Syncing keys for file {}", shown.display()));
    let mut agreed_to = None;
    loop {
        let before = read_locked(path).map_err(failure)?;
        let file = SopsFile::parse(session, path, &before).map_err(failure)?;
        let plan = Plan::of_rules(session, path).map_err(failure)?;
        let change = file.metadata.changes(&plan.groups);
        if change.is_empty() {
            context.screen.note(format!("File {} already up to date", shown.display()));
            return Ok(());
        }
        plan.check(session, change.threshold_after).map_err(failure)?;
        if agreed_to.as_ref() != Some(&change) {
            let colours = terminal::colours(&context.environment, terminal::stdout_is_terminal());
            context.screen.data(as_sops_shows_them(&change, colours).as_bytes())?;
            if !yes && !agreed(context)? {
                context.screen.note(format!("File {} left unchanged", shown.display()));
                return Ok(());
            }
        }
        let text = file.with_recipients(&plan, session).map_err(failure)?;
        if write_if_unchanged(path, &before, &text).map_err(|error| failure(Error::Write(error)))? {
            context.screen.note(format!("File {} synced with new keys", shown.display()));
            return Ok(());
        }
        context
            .screen
            .note(format!("File {} was changed by another process; checking it again", shown.display()));
        agreed_to = Some(change);
    }
}

/// sops' question: it accepts only `y` and `n`.
fn agreed(context: &Context) -> Result<bool, Failure> {
    loop {
        context.screen.data(b"Is this okay? (y/n):")?;
        let mut answer = String::new();
        let read = std::io::stdin()
            .read_line(&mut answer)
            .map_err(|error| Failure::new(Code::Generic, format!("cannot read the answer: {error}")))?;
        match answer.trim_end() {
            _ if read == 0 => {
                return Err(Failure::new(
                    Code::Generic,
                    "end of input instead of an answer; the file was not changed",
                )
                .help("use --yes to update without asking"));
            }
            "y" => return Ok(true),
            "n" => return Ok(false),
            _ => {}
        }
    }
}

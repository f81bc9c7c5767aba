//! `sops updatekeys`.

use std::io::{self, BufRead as _};
use std::path::Path;

use super::context::{Context, print};
use super::end::{End, Outcome};
use super::flags::YES;
use crate::edge::atomic::{self, WriteError};
use crate::outcome::Code;
use crate::personas::go_text::reason;
use crate::secrets::Error;
use crate::secrets::file::SopsFile;
use crate::secrets::recipients::{Plan, as_sops_shows_them};
use crate::secrets::session::read;

pub(super) fn run(context: &Context) -> Outcome {
    let files = &context.given.positional;
    if files.is_empty() {
        // Where there are no rules either, sops says that first.
        let none = context.file().map(|_| 0);
        return if context.finds_rules()? { none } else { Err(no_config()) };
    }
    let mut failed = 0;
    for file in files {
        let ended = one(context, &context.session.absolute(Path::new(file)));
        match ended {
            Ok(()) => {}
            Err(end) if files.len() == 1 => return Err(end),
            Err(end) => {
                failed += 1;
                context.log.error(&end.into_words(), None);
            }
        }
    }
    if failed > 0 {
        return Err(End::generic(format!("failed updating {failed} key(s)")));
    }
    Ok(0)
}

fn no_config() -> End {
    End::generic("config file not found")
}

fn one(context: &Context, path: &Path) -> Result<(), End> {
    let session = &context.session;
    let rules = session.rules(path)?.ok_or_else(no_config)?;
    let shown = path.display();
    let kind =
        std::fs::metadata(path).map_err(|error| End::generic(format!("stat {shown}: {}", reason(&error))))?;
    if kind.is_dir() {
        return Err(End::generic("can't operate on a directory"));
    }
    let store = context.stores(path)?.input;
    context.log.note(&format!("Syncing keys for file {shown}"));
    let on_disk = read(path)?;
    let file = SopsFile::of_store(store, path, &on_disk).map_err(End::loading)?;
    let plan = Plan::of_rules(session, path).map_err(|error| match error {
        Error::NoConfig(_) => {
            let rules = rules.path.display();
            End::generic(format!("The config file {rules} does not contain any creation rule"))
        }
        other => other.into(),
    })?;
    let change = file.metadata.changes(&plan.groups);
    if change.is_empty() {
        context.log.note(&format!("File {shown} already up to date"));
        return Ok(());
    }
    print(as_sops_shows_them(&change, context.log.colours).as_bytes())?;
    if !context.given.is_on(&YES) && !agreed()? {
        context.log.note(&format!("File {shown} left unchanged"));
        return Ok(());
    }
    let text = file.with_recipients(&plan, session).map_err(|error| context.colour(error))?;
    // The answer may have taken its time: what was changed meanwhile must not be undone.
    if read(path)? != on_disk {
        return Err(End::generic(format!(
            "{shown} was changed by somebody else meanwhile; it is left as it is now"
        )));
    }
    atomic::replace(path, &text, 0o600).map_err(|error| match error {
        WriteError::Io { path, source } => End::generic(format!(
            "could not open file for writing: open {}: {}",
            path.display(),
            reason(&source)
        )),
        other => End::generic(format!("could not open file for writing: {other}")),
    })?;
    context.log.note(&format!("File {shown} synced with new keys"));
    Ok(())
}

/// The question: only `y` and `n` are answers; a line that is no single word ends it.
fn agreed() -> Result<bool, End> {
    let mut input = io::stdin().lock();
    loop {
        print(b"Is this okay? (y/n):")?;
        let mut answer = String::new();
        let read = input.read_line(&mut answer).map_err(|error| {
            End::Said(Code::Generic, format!("cannot read the answer: {}", reason(&error)))
        })?;
        let mut words = answer.split_whitespace();
        match (words.next(), words.next()) {
            _ if read == 0 => return Err(End::generic("EOF")),
            (None, _) => return Err(End::generic("unexpected newline")),
            (Some(_), Some(_)) => return Err(End::generic("expected newline")),
            (Some("y"), None) => return Ok(true),
            (Some("n"), None) => return Ok(false),
            _ => {}
        }
    }
}

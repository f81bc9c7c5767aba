//! `sops updatekeys`.

use std::io::{self, BufRead as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::context::{Context, print};
use super::end::{End, Outcome};
use super::flags::{ALL, CHECK_KEYS, INPUT_TYPE, YES};
use crate::edge::atomic::WriteError;
use crate::outcome::Code;
use crate::personas::go_text::reason;
use crate::secrets::Error;
use crate::secrets::file::SopsFile;
use crate::secrets::recipients::{Plan, as_sops_shows_them};
use crate::secrets::rewrite::write_if_unchanged;
use crate::secrets::session::read_locked;
use crate::secrets::update_all::{Mode, as_rules_see, update_all};
use crate::sops::metadata::Changes;

/// What is said of a file that got its recipients.
const SYNCED: &str = "synced with new keys";
/// What is said of one that was only looked at.
const BEHIND: &str = "is not up to date";

pub(super) fn run(context: &Context) -> Outcome {
    context.in_front(&[CHECK_KEYS, ALL])?;
    if context.given.is_on(&ALL) {
        return all(context);
    }
    let files = &context.given.positional;
    if files.is_empty() {
        // Where there are no rules either, sops says that first.
        let none = context.file().map(|_| 0);
        return if context.finds_rules()? { none } else { Err(no_config()) };
    }
    let mut tally = Tally::default();
    for file in files {
        let path = context.session.absolute(Path::new(file));
        match one(context, &path, &path) {
            Err(end) if files.len() == 1 => return Err(end),
            ended => tally.count(context, ended),
        }
    }
    tally.outcome()
}

/// Every sops file of a tree.
fn all(context: &Context) -> Outcome {
    context.alone(&ALL, &[INPUT_TYPE])?;
    let session = &context.session;
    let mut paths: Vec<PathBuf> =
        context.given.positional.iter().map(|path| session.absolute(Path::new(path))).collect();
    paths.iter().try_for_each(|path| Context::must_exist(path))?;
    if paths.is_empty() {
        paths.push(session.root().unwrap_or_else(|| session.directory.clone()));
    }
    let checks = context.given.is_on(&CHECK_KEYS);
    let asks = !checks && !context.given.is_on(&YES);
    let mode = if checks || asks { Mode::Check } else { Mode::Write };
    let mut tally = Tally::default();
    for looked in update_all(session, &paths, mode, &|_| {}) {
        let (path, shown, unruled) = (&looked.path, looked.path.display(), looked.has_no_rule());
        let ended = match looked.result {
            Ok(change) if change.is_empty() => Ok(false),
            Ok(_) if asks => {
                as_rules_see(session, path).map_err(End::from).and_then(|seen| one(context, path, &seen))
            }
            Ok(change) => {
                context.log.note(&format!("Syncing keys for file {shown}"));
                show(context, &change)?;
                context.log.note(&format!("File {shown} {}", if checks { BEHIND } else { SYNCED }));
                Ok(checks)
            }
            Err(_) if unruled => {
                context.log.info(&format!("no rule for {shown}"));
                Ok(false)
            }
            Err(error) => Err(context.colour(error)),
        };
        tally.count(context, ended);
    }
    tally.outcome()
}

/// What became of several files.
#[derive(Default)]
struct Tally {
    failed: usize,
    behind: bool,
}

impl Tally {
    /// Whether a file is left behind, or why it could not be dealt with.
    fn count(&mut self, context: &Context, ended: Result<bool, End>) {
        match ended {
            Ok(behind) => self.behind |= behind,
            Err(end) => {
                self.failed += 1;
                context.log.error(&end.into_message(), None);
            }
        }
    }

    fn outcome(self) -> Outcome {
        if self.failed > 0 {
            return Err(End::generic(format!("failed updating {} key(s)", self.failed)));
        }
        Ok(u8::from(self.behind))
    }
}

fn no_config() -> End {
    End::generic("config file not found")
}

/// One file, by its path and by that which the rules match; says whether it was only found to be behind.
fn one(context: &Context, path: &Path, seen: &Path) -> Result<bool, End> {
    let session = &context.session;
    let rules = session.rules(seen)?.ok_or_else(no_config)?;
    let shown = path.display();
    let kind =
        std::fs::metadata(path).map_err(|error| End::generic(format!("stat {shown}: {}", reason(&error))))?;
    if kind.is_dir() {
        return Err(End::generic("can't operate on a directory"));
    }
    let store = context.stores_at(path, path)?.input;
    context.log.note(&format!("Syncing keys for file {shown}"));
    let mut agreed_to = None;
    loop {
        let before = read_locked(path)?;
        let file = SopsFile::of_store(Arc::clone(&store), path, &before).map_err(End::loading)?;
        let plan = Plan::of_rules(session, seen).map_err(|error| match error {
            Error::NoConfig(_) => {
                let rules = rules.path.display();
                End::generic(format!("The config file {rules} does not contain any creation rule"))
            }
            other => other.into(),
        })?;
        let change = file.metadata.changes(&plan.groups);
        if change.is_empty() {
            context.log.note(&format!("File {shown} already up to date"));
            return Ok(false);
        }
        if agreed_to.as_ref() != Some(&change) {
            show(context, &change)?;
            if context.given.is_on(&CHECK_KEYS) {
                context.log.note(&format!("File {shown} {BEHIND}"));
                return Ok(true);
            }
            if !context.given.is_on(&YES) && !agreed()? {
                context.log.note(&format!("File {shown} left unchanged"));
                return Ok(false);
            }
        }
        let text = file.with_recipients(&plan, session).map_err(|error| context.colour(error))?;
        if write_if_unchanged(path, &before, &text).map_err(unwritten)? {
            context.log.note(&format!("File {shown} {SYNCED}"));
            return Ok(false);
        }
        // The answer may have taken its time.
        context.log.note(&format!("File {shown} was changed by another process; checking it again"));
        agreed_to = Some(change);
    }
}

fn unwritten(error: WriteError) -> End {
    match error {
        WriteError::Io { path, source } => End::generic(format!(
            "could not open file for writing: open {}: {}",
            path.display(),
            reason(&source)
        )),
        other => End::generic(format!("could not open file for writing: {other}")),
    }
}

fn show(context: &Context, change: &Changes) -> Outcome {
    print(as_sops_shows_them(change, context.log.colours).as_bytes())
}

/// The question: only `y` and `n` are answers; a line that is not a single word ends it.
fn agreed() -> Result<bool, End> {
    let mut input = io::stdin().lock();
    loop {
        print(b"Is this okay? (y/n):")?;
        let mut answer = String::new();
        let read = input.read_line(&mut answer).map_err(|error| {
            End::Exit(Code::Generic, format!("cannot read the answer: {}", reason(&error)))
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

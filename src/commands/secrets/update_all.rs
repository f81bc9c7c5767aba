//! `civm secrets update-all`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::failure::failure;
use super::progress::progress;
use super::rotate::rotate;
use crate::cli::secrets::UpdateAll;
use crate::commands::Context;
use crate::edge::index::Index;
use crate::edge::walk;
use crate::host::project::Project;
use crate::keys::recipient::same_key;
use crate::outcome::{Code, Failure, Outcome};
use crate::rules::FILE;
use crate::secrets::discover::is_sops;
use crate::secrets::recipients::{added, removed};
use crate::secrets::rotate::{Rotation, Which};
use crate::secrets::update_all::{FileUpdate, Mode, update_all};
use crate::secrets::who::{FileReaders, Standing, who};
use crate::secrets::{Error, Session};
use crate::sops::metadata::Changes;

/// If more files than this match no rule, that is assumed to be intended.
const MANY: usize = 5;

/// A reminder of what neither new recipients nor new data keys can undo.
pub(in crate::commands) const CHANGE_THEM_TOO: &str =
    "anyone who was removed may have kept the old files: change the secrets themselves as well";

/// The files that still have a recipient that their rules no longer list. Files that match no rule are left alone.
struct FilesToUpdate {
    session: Session,
    root: PathBuf,
    files: Vec<PathBuf>,
    /// How many files keep it because nested rules that govern them still list it.
    elsewhere: BTreeMap<PathBuf, usize>,
    /// Files of git's index that have it and were not looked at: a sparse checkout or `.civmignore` leaves them out.
    unseen: Vec<PathBuf>,
}

impl FilesToUpdate {
    fn of(recipient: &str, context: &Context) -> Result<Self, Failure> {
        let session = super::session(context, None)?;
        let root = root(&session, context);
        let root = root.canonicalize().unwrap_or(root);
        let key = same_key(recipient);
        let own = session.own_rules_path();
        let (mut files, mut elsewhere) = (Vec::new(), BTreeMap::new());
        let mut unseen = tracked_with(recipient, &root, &session);
        for FileReaders { path, rules, readers } in who(&session, std::slice::from_ref(&root)) {
            unseen.remove(&path);
            match readers.ok().and_then(|readers| readers.standing(&key)) {
                Some(Standing::Removed) => files.push(path),
                Some(Standing::Reads) => {
                    let other = rules.filter(|rules| own.as_ref() != Some(&rules.path));
                    other
                        .into_iter()
                        .for_each(|rules| *elsewhere.entry(rules.path.clone()).or_insert(0) += 1);
                }
                Some(Standing::Added) | None => {}
            }
        }
        let unseen = unseen.into_iter().collect();
        Ok(Self { session, root, files, elsewhere, unseen })
    }
}

/// The sops files in git's index that name a recipient, below a directory; none outside of a repository.
fn tracked_with(recipient: &str, root: &Path, session: &Session) -> BTreeSet<PathBuf> {
    let Ok(index) = Index::of(root, &session.environment) else { return BTreeSet::new() };
    let mut paths = index.with(recipient).unwrap_or_default();
    let is_store =
        |path: &PathBuf| index.text(path).is_ok_and(|text| text.is_some_and(|text| is_sops(path, &text)));
    paths.retain(|path| path.starts_with(root) && is_store(path));
    paths
}

/// The commands that remove a recipient from its files; `None` if no file has it.
pub(in crate::commands) fn to_forget(recipient: &str, context: &Context) -> Result<Option<String>, Failure> {
    let left = FilesToUpdate::of(recipient, context)?;
    for (rules, count) in &left.elsewhere {
        let rules = below(rules, &left.root);
        context
            .screen
            .note(format!("`{rules}` still lists it, so {count} file(s) governed by those rules keep it"));
    }
    for path in &left.unseen {
        let path = below(path, &left.root);
        context.screen.warn(format!(
            "`{path}` has it too and stays as it is: it is not checked out, or .civmignore names it"
        ));
    }
    let files: Vec<String> = left.files.iter().map(|path| quoted(&below(path, &left.root))).collect();
    Ok((!files.is_empty()).then(|| {
        let recipient = quoted(recipient);
        format!("  civm secrets rotate --rm-age {recipient} {}\n  civm secrets update-all", files.join(" "))
    }))
}

/// Removes a recipient from its files, which get new data keys, and updates all other files.
pub(in crate::commands) fn forget(recipient: &str, context: &Context) -> Outcome {
    let FilesToUpdate { session, root, files, .. } = FilesToUpdate::of(recipient, context)?;
    let rotation = Rotation { remove: vec![recipient.to_owned()], ..Rotation::default() };
    let rotated = rotate(&files, &root, &rotation, Which::Readable, &session, context);
    // Even if some files could not be rotated, the others can be updated.
    let updated = run(&UpdateAll::default(), &session, context)?;
    rotated.map(|code| code.max(updated))
}

pub(super) fn run(args: &UpdateAll, session: &Session, context: &Context) -> Outcome {
    let mode = match (args.check, args.dry_run) {
        (true, _) => Mode::Check,
        (_, true) => Mode::DryRun,
        _ => Mode::Write,
    };
    let root = root(session, context);
    let root = root.canonicalize().unwrap_or(root);
    let paths = if args.paths.is_empty() { vec![root.clone()] } else { args.paths.clone() };
    if let Some(missing) = paths.iter().find(|path| !path.exists()) {
        return Err(failure(Error::Missing(missing.clone())));
    }

    let (bar, tick) = progress(context);
    let looked = update_all(session, &paths, mode, &tick);
    bar.finish_and_clear();
    if looked.is_empty()
        && args.paths.is_empty()
        && let Some(failure) = wrong_directory(&root, session)
    {
        return Err(failure);
    }

    if args.json {
        context.screen.line(to_json(&looked, mode).to_string())?;
    } else {
        for one in &looked {
            report(one, mode, session, &root, args.strict, context)?;
        }
    }
    summary(&looked, mode, args, &root, context)
}

/// The directory to search: the given project, else the directory of the rules found from here, else the project found
/// from here.
pub(super) fn root(session: &Session, context: &Context) -> PathBuf {
    if let Some(project) = &context.project {
        return session.absolute(project);
    }
    session
        .root()
        .or_else(|| Project::find(&session.directory).ok().map(|project| project.root().to_path_buf()))
        .unwrap_or_else(|| session.directory.clone())
}

/// The names of the recipients in the rules that govern a file.
pub(super) fn names(session: &Session, file: &Path) -> BTreeMap<String, String> {
    session.rules(file).ok().flatten().map(|rules| rules.names().clone()).unwrap_or_default()
}

fn report(
    looked: &FileUpdate,
    mode: Mode,
    session: &Session,
    root: &Path,
    strict: bool,
    context: &Context,
) -> Result<(), Failure> {
    let path = below(&looked.path, root);
    match &looked.result {
        Ok(change) if change.is_empty() => context.screen.detail(format!("current {path}")),
        Ok(change) => {
            let word = match mode {
                Mode::Check => "behind",
                Mode::DryRun => "would update",
                Mode::Write => "updated",
            };
            context
                .screen
                .line(format!("{word} {path}: {}", in_words(change, &names(session, &looked.path))))?;
        }
        Err(_) if looked.has_no_rule() && !strict => {}
        Err(error) => context.screen.warn(error.to_string()),
    }
    Ok(())
}

/// Where there are neither rules nor hosts, somebody is in the wrong directory: that nothing was found there is no answer.
pub(super) fn wrong_directory(root: &Path, session: &Session) -> Option<Failure> {
    let has_rules = || {
        let is_rules = |entry: walk::Entry| entry.path.ends_with(FILE);
        session.own_rules_path().is_some()
            || walk::walk(root, &session.environment).into_iter().flatten().any(is_rules)
    };
    if Project::find(root).is_ok() || has_rules() {
        return None;
    }
    let message = format!(
        "there is no .sops.yaml in `{}`, above or below: nothing says which files are secrets",
        root.display()
    );
    let failure = Failure::new(Code::Generic, message);
    Some(failure.help("start it in the project, or name the project with --project"))
}

pub(super) fn below(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

/// `+anchor -age1…`: the name from .sops.yaml, if there is one, else the recipient itself.
fn in_words(change: &Changes, names: &BTreeMap<String, String>) -> String {
    let name = |recipient: &str| names.get(recipient).cloned().unwrap_or_else(|| recipient.to_owned());
    let plus = added(change).map(|one| format!("+{}", name(one)));
    let minus = removed(change).map(|one| format!("-{}", name(one)));
    let mut words: Vec<String> = plus.chain(minus).collect();
    let (before, after) = (change.threshold_before, change.threshold_after);
    if before != after {
        words.push(format!("threshold {before} -> {after}"));
    }
    words.join(" ")
}

fn to_json(looked: &[FileUpdate], mode: Mode) -> serde_json::Value {
    let files: Vec<_> = looked
        .iter()
        .map(|one| match &one.result {
            Ok(change) => json!({
                "path": one.path.to_string_lossy(),
                "state": match (change.is_empty(), mode) {
                    (true, _) => "current",
                    (false, Mode::Write) => "updated",
                    (false, _) => "behind",
                },
                "recipients": one.recipients,
                "added": added(change).collect::<Vec<_>>(),
                "removed": removed(change).collect::<Vec<_>>(),
            }),
            Err(error) => json!({
                "path": one.path.to_string_lossy(),
                "state": if one.has_no_rule() { "no-rule" } else { "failed" },
                "error": error.to_string(),
            }),
        })
        .collect();
    json!({ "files": files })
}

fn summary(looked: &[FileUpdate], mode: Mode, args: &UpdateAll, root: &Path, context: &Context) -> Outcome {
    let passed_over = looked.iter().filter(|one| one.has_no_rule() && !args.strict);
    let unruled: Vec<String> = passed_over.map(|one| below(&one.path, root)).collect();
    let failed = looked.iter().filter(|one| one.result.is_err()).count() - unruled.len();
    let changed: Vec<(&FileUpdate, &Changes)> = looked
        .iter()
        .filter_map(|one| Some((one, one.result.as_ref().ok()?)))
        .filter(|(_, change)| !change.is_empty())
        .collect();
    let word = if mode == Mode::Write { "updated" } else { "behind" };
    if !args.json {
        let without = without_rule(&unruled, context);
        context.screen.note(format!(
            "{} files: {} {word}, {} current, {failed} failed{without}",
            looked.len(),
            changed.len(),
            looked.len() - changed.len() - failed - unruled.len()
        ));
        let lost: Vec<String> = changed
            .iter()
            .filter(|(_, change)| removed(change).next().is_some())
            .map(|(one, _)| quoted(&below(&one.path, root)))
            .collect();
        if mode == Mode::Write && !lost.is_empty() {
            context
                .screen
                .note("anyone who was removed may know the data keys of these files; to rotate them:");
            context.screen.note(format!("  civm secrets rotate {}", lost.join(" ")));
            context.screen.note(CHANGE_THEM_TOO);
        }
    }
    let behind = mode == Mode::Check && !changed.is_empty();
    Ok(if failed > 0 || behind { Code::Generic as u8 } else { 0 })
}

/// Lists the files that were skipped because they match no rule, unless there are many, and returns their part of the
/// summary.
pub(super) fn without_rule(paths: &[String], context: &Context) -> String {
    let many = paths.len() > MANY;
    for path in paths {
        let line = format!("no rule matches {path}");
        if many { context.screen.detail(line) } else { context.screen.note(line) }
    }
    match paths.len() {
        0 => String::new(),
        count if many => format!(", {count} without a rule (-v lists them)"),
        count => format!(", {count} without a rule"),
    }
}

/// A path quoted for a shell.
fn quoted(path: &str) -> String {
    shlex::try_quote(path).map_or_else(|_| path.to_owned(), std::borrow::Cow::into_owned)
}

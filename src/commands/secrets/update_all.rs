//! `civm secrets update-all`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde_json::json;

use super::failure::failure;
use crate::cli::secrets::UpdateAll;
use crate::commands::Context;
use crate::host::project::Project;
use crate::keys::recipient::same_key;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::recipients::{added, removed};
use crate::secrets::rotate::{Rotation, Which, rotate_file};
use crate::secrets::update_all::{Looked, Mode, update_all};
use crate::secrets::who::{Standing, who};
use crate::secrets::{Error, Session};
use crate::sops::metadata::Changes;

/// More files than these without a rule are no slip: a project has them on purpose.
const MANY: usize = 5;

/// What neither new recipients nor new data keys undo.
pub(in crate::commands) const CHANGE_THEM_TOO: &str =
    "who was removed may have kept the old files: change the secrets themselves, too";

/// Takes a recipient that the rules no longer name out of their files, which get new data keys with it, and brings all
/// others in line.
pub(in crate::commands) fn forget(recipient: &str, context: &Context) -> Outcome {
    let session = super::session(context, None)?;
    let root = root(&session, context);
    let root = root.canonicalize().unwrap_or(root);
    let key = same_key(recipient);
    let files: Vec<(PathBuf, Rotation)> = who(&session, std::slice::from_ref(&root))
        .into_iter()
        .filter_map(|read| {
            let readers =
                read.readers.ok().filter(|readers| readers.standing(&key) == Some(Standing::Removed))?;
            let spelled = readers.groups.into_iter().flatten().filter(|reader| reader.key == key);
            let remove = spelled.map(|reader| reader.recipient).collect();
            Some((read.path, Rotation { add: Vec::new(), remove }))
        })
        .collect();
    let rotated: Vec<(PathBuf, Result<_, Error>)> = files
        .into_par_iter()
        .map(|(path, rotation)| {
            let result = rotate_file(&session, &path, &rotation, Which::Readable);
            (path, result)
        })
        .collect();
    let mut failed = false;
    for (path, result) in rotated {
        match result {
            Ok(_) => context.screen.line(format!("rotated {}", below(&path, &root)))?,
            Err(error) => {
                failed = true;
                context.screen.failure(&failure(error));
            }
        }
    }
    let code = run(&UpdateAll::default(), &session, context)?;
    context.screen.note(CHANGE_THEM_TOO);
    Ok(if failed { Code::Generic as u8 } else { code })
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
    let names = names(session, &root);

    let bar = if context.screen.draws() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} files");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let looked = update_all(session, &paths, mode, &|total, _| {
        bar.set_length(total as u64);
        bar.inc(1);
    });
    bar.finish_and_clear();

    if args.json {
        context.screen.line(to_json(&looked, mode).to_string())?;
    } else {
        for one in &looked {
            report(one, mode, &names, &root, args.strict, context)?;
        }
    }
    summary(&looked, mode, args, &root, context)
}

/// Where to look: the project as named, else the directory of the rules that are found from here, else the
/// project that is. A rules' file that was named elsewhere says nothing about where the files are.
pub(super) fn root(session: &Session, context: &Context) -> PathBuf {
    if let Some(project) = &context.project {
        return session.absolute(project);
    }
    let rules = session.rules(&session.directory).ok().flatten().filter(|_| !session.has_named_config());
    let beside = rules.and_then(|rules| rules.path.parent().map(Path::to_path_buf));
    beside
        .or_else(|| Project::find(&session.directory).ok().map(|project| project.root().to_path_buf()))
        .unwrap_or_else(|| session.directory.clone())
}

/// The names that .sops.yaml gives its recipients.
pub(super) fn names(session: &Session, root: &Path) -> BTreeMap<String, String> {
    session
        .rules(&root.join("any"))
        .ok()
        .flatten()
        .map(|rules| crate::rules::names(&rules.text))
        .unwrap_or_default()
}

fn report(
    looked: &Looked,
    mode: Mode,
    names: &BTreeMap<String, String>,
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
            context.screen.line(format!("{word} {path}: {}", in_words(change, names)))?;
        }
        Err(_) if looked.has_no_rule() && !strict => {}
        Err(error) => context.screen.warn(error.to_string()),
    }
    Ok(())
}

fn below(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

/// `+anchor -age1…`: the name where .sops.yaml has one, else the recipient itself.
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

fn to_json(looked: &[Looked], mode: Mode) -> serde_json::Value {
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

fn summary(looked: &[Looked], mode: Mode, args: &UpdateAll, root: &Path, context: &Context) -> Outcome {
    let passed_over = looked.iter().filter(|one| one.has_no_rule() && !args.strict);
    let unruled: Vec<String> = passed_over.map(|one| below(&one.path, root)).collect();
    let failed = looked.iter().filter(|one| one.result.is_err()).count() - unruled.len();
    let changed: Vec<(&Looked, &Changes)> = looked
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
            context.screen.note("who was removed knows the data keys of the files; new ones come with");
            context.screen.note(format!("  civm secrets rotate -i {}", lost.join(" ")));
            context.screen.note(CHANGE_THEM_TOO);
        }
    }
    let behind = mode == Mode::Check && !changed.is_empty();
    Ok(if failed > 0 || behind { Code::Generic as u8 } else { 0 })
}

/// Names the files that were passed over because no rule is for them, unless they are many; and what a summary says
/// of them.
pub(super) fn without_rule(paths: &[String], context: &Context) -> String {
    let many = paths.len() > MANY;
    for path in paths {
        let line = format!("no rule for {path}");
        if many { context.screen.detail(line) } else { context.screen.note(line) }
    }
    match paths.len() {
        0 => String::new(),
        count if many => format!(", {count} without a rule (-v names them)"),
        count => format!(", {count} without a rule"),
    }
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    shlex::try_quote(path).map_or_else(|_| path.to_owned(), std::borrow::Cow::into_owned)
}

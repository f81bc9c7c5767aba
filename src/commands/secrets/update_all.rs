//! `civm secrets update-all`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::failure::failure;
use crate::cli::secrets::UpdateAll;
use crate::commands::Context;
use crate::host::project::Project;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::Session;
use crate::secrets::recipients::{added, removed};
use crate::secrets::update_all::{Looked, Mode, update_all};
use crate::sops::metadata::Changes;

/// What neither new recipients nor new data keys undo.
pub(in crate::commands) const CHANGE_THEM_TOO: &str =
    "who was removed may have kept the old files: change the secrets themselves, too";

/// Brings the files of the project in line with rules that no longer name a recipient.
pub(in crate::commands) fn forget(_recipient: &str, context: &Context) -> Outcome {
    run(&UpdateAll::default(), &super::session(context, None)?, context)
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
        return Err(failure(crate::secrets::Error::Missing(missing.clone())));
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
        Err(_) if looked.has_no_rule() && !strict => context.screen.note(format!("no rule for {path}")),
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
    let unruled = looked.iter().filter(|one| one.has_no_rule() && !args.strict).count();
    let failed = looked.iter().filter(|one| one.result.is_err()).count() - unruled;
    let changed: Vec<(&Looked, &Changes)> = looked
        .iter()
        .filter_map(|one| Some((one, one.result.as_ref().ok()?)))
        .filter(|(_, change)| !change.is_empty())
        .collect();
    let word = if mode == Mode::Write { "updated" } else { "behind" };
    if !args.json {
        let without = if unruled > 0 { format!(", {unruled} without a rule") } else { String::new() };
        context.screen.note(format!(
            "{} files: {} {word}, {} current, {failed} failed{without}",
            looked.len(),
            changed.len(),
            looked.len() - changed.len() - failed - unruled
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

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    shlex::try_quote(path).map_or_else(|_| path.to_owned(), std::borrow::Cow::into_owned)
}

//! `civm secrets check`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;
use zeroize::Zeroizing;

use super::failure::failure;
use super::merge::of_git;
use super::update_all::{root, without_rule, wrong_directory};
use crate::cli::secrets::Check;
use crate::commands::Context;
use crate::commands::git::uncovered;
use crate::commands::screen::counted;
use crate::edge::index::Index;
use crate::outcome::{Code, Failure, Outcome};
use crate::rules::FILE;
use crate::secrets::check::{Content, Report, Source, check, take_staged_rules, wants_encrypted};
use crate::secrets::discover::{candidates, no_secrets};
use crate::secrets::{Error, Session};

/// How every encrypted value starts.
const TOKEN: &str = "ENC[AES256_GCM,";

pub(super) fn run(args: &Check, session: &Session, context: &Context) -> Outcome {
    if let Some(missing) = args.paths.iter().find(|path| !args.staged && !path.exists()) {
        return Err(failure(Error::Missing(missing.clone())));
    }
    let sources = if args.staged { staged(args, session)? } else { files(args, session, context) };
    let report = check(session, sources, args.strict);
    let is_whole_project = !args.staged && args.paths.is_empty();
    let found_none = report.files.is_empty() && report.unruled.is_empty() && report.findings.is_empty();
    if is_whole_project
        && found_none
        && let Some(failure) = wrong_directory(&root(session, context), session)
    {
        return Err(failure);
    }
    let uncovered = without_driver(&report, args, session)?;
    if args.json {
        context.screen.line(to_json(&report, &uncovered).to_string())?;
    } else {
        tell(&report, session, context)?;
        for path in &uncovered {
            let shown = session.shown(path);
            context
                .screen
                .warn(format!("git would merge `{shown}` as text: no line in .gitattributes matches it"));
        }
        if !uncovered.is_empty() {
            context.screen.note("help: `civm git install` adds one; then commit .gitattributes");
        }
    }
    let fails = report.fails() || (!uncovered.is_empty() && args.strict);
    Ok(if fails { Code::Generic as u8 } else { 0 })
}

/// The given files, or without any those of the project; all of them if a rules file is among those given.
fn files(args: &Check, session: &Session, context: &Context) -> Vec<Source> {
    let root = root(session, context);
    let mut paths = args.paths.clone();
    if paths.is_empty() || names_rules(paths.iter(), session) {
        paths.push(root);
    }
    candidates(&paths, &session.environment).into_iter().map(Source::of).collect()
}

/// The staged files, with the rules as staged.
fn staged(args: &Check, session: &Session) -> Result<Vec<Source>, Failure> {
    let wrong =
        |error| Failure::new(Code::Generic, format!("{error}")).help("--staged requires a git repository");
    let index = Index::of(&session.directory, &session.environment).map_err(wrong)?;
    let staged = index.staged(&args.paths).map_err(wrong)?;
    let encrypted = index.with(TOKEN).map_err(wrong)?;
    let files = staged.iter().chain(&encrypted);
    let mut of_rules = Ok(());
    let staged_rules = |path: &Path| {
        let text = index.text(path).unwrap_or_else(|error| {
            of_rules = Err(wrong(error));
            None
        });
        text.map(|text| text.to_vec())
    };
    take_staged_rules(session, files, staged_rules).map_err(failure)?;
    of_rules?;
    let all = names_rules(staged.iter(), session);
    let others = encrypted.iter().filter(|path| all && !staged.contains(*path));
    // Only the text of relevant files is read from git.
    let matter = staged.iter().filter(|path| encrypted.contains(*path) || wants_encrypted(session, path));
    let mut no_secrets = no_secrets(index.root());
    let paths: Vec<&PathBuf> = matter.chain(others).filter(|path| !no_secrets.leaves_out(path)).collect();
    let texts = index.texts(&paths).map_err(wrong)?;
    let source = |(path, mut text): (PathBuf, Zeroizing<Vec<u8>>)| {
        let content = Content::Text(std::mem::take(&mut *text));
        Source { path, content }
    };
    Ok(texts.into_iter().map(source).collect())
}

/// The sops files that git would merge as text although the repository is set up for civm.
fn without_driver(report: &Report, args: &Check, session: &Session) -> Result<Vec<PathBuf>, Failure> {
    let files: BTreeSet<&Path> = report.files.iter().chain(&report.unruled).map(PathBuf::as_path).collect();
    uncovered(&session.directory, &session.environment, files, args.staged).map_err(of_git)
}

/// Whether a rules file is among the paths.
fn names_rules<'a>(mut paths: impl Iterator<Item = &'a PathBuf>, session: &Session) -> bool {
    let own = session.own_rules_path().and_then(|rules| rules.canonicalize().ok());
    paths.any(|path| path.ends_with(FILE) || own.is_some() && path.canonicalize().ok() == own)
}

fn tell(report: &Report, session: &Session, context: &Context) -> Result<(), Failure> {
    for finding in &report.findings {
        context.screen.line(finding.line(session))?;
    }
    let unruled: Vec<String> = report.unruled.iter().map(|path| session.shown(path)).collect();
    let without = without_rule(&unruled, context);
    for line in report.help() {
        context.screen.note(format!("help: {line}"));
    }
    let (files, warnings) =
        (report.files.len(), report.findings.iter().filter(|finding| finding.is_warning).count());
    let findings = report.findings.len() - warnings;
    let mut found = counted(findings, "finding");
    if warnings > 0 {
        found = format!("{found}, {}", counted(warnings, "warning"));
    }
    context.screen.note(format!("{} checked{without}: {found}", counted(files, "sops file")));
    Ok(())
}

fn to_json(report: &Report, uncovered: &[PathBuf]) -> serde_json::Value {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "path": finding.path.to_string_lossy(),
                "line": finding.line,
                "kind": finding.kind.name(),
                "severity": if finding.is_warning { "warning" } else { "error" },
                "key": finding.key.as_ref().map(ToString::to_string),
                "message": finding.message,
                "help": finding.kind.help(),
            })
        })
        .collect();
    let shown = |paths: &[PathBuf]| -> Vec<_> {
        paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
    };
    let (unruled, uncovered) = (shown(&report.unruled), shown(uncovered));
    json!({ "files": report.files.len(), "findings": findings, "without_rule": unruled, "merged_as_text": uncovered })
}

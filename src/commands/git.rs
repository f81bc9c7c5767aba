//! `civm git …`: sets up git to merge sops files value by value and to show their plaintext.

use std::fs;
use std::path::{Path, PathBuf};

use super::Context;
use super::secrets::of_git;
use crate::cli::git::{Command, Git as Args, Install, Uninstall};
use crate::edge::atomic;
use crate::edge::git::Git;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::{Error, session};

mod attributes;
mod configuration;
mod patterns;
mod uncovered;

use configuration::{HOOK_HEAD, SECTIONS};
pub(super) use uncovered::uncovered;

/// The file in which git looks for a tree's attributes.
const ATTRIBUTES: &str = ".gitattributes";
/// The hook that checks before a commit.
const HOOK: &str = "pre-commit";

/// Runs one of the git commands.
pub(super) fn run(args: &Args, context: &Context) -> Outcome {
    let directory = match &context.project {
        Some(project) => project.clone(),
        None => PathBuf::from("."),
    };
    let git = Git::here(&context.environment, &directory);
    match &args.command {
        Command::Install(args) => install(args, &git, context),
        Command::Uninstall(args) => uninstall(args, &git, context),
    }
}

fn install(args: &Install, git: &Git, context: &Context) -> Outcome {
    let missing = set_up(args, git, context)?;
    if missing.is_empty() {
        context.screen.note("git is set up for sops files");
        return Ok(0);
    }
    let missing = missing.join(", ");
    if args.check {
        return Err(Failure::new(Code::Generic, format!("git is not set up for sops files: {missing}"))
            .help("`civm git install` sets it up"));
    }
    context.screen.note(format!("set up: {missing}"));
    Ok(0)
}

/// What is not set up for a repository; empty where all is. Nothing is changed.
pub(super) fn missing(directory: &Path, context: &Context) -> Result<Vec<String>, Failure> {
    let args = Install { check: true, global: false, hooks: false };
    set_up(&args, &Git::here(&context.environment, directory), context)
}

/// Sets git up unless it is only to be checked, and says what was missing.
fn set_up(args: &Install, git: &Git, context: &Context) -> Result<Vec<String>, Failure> {
    let top = top(git, args.global)?;
    let finder = configuration::finder()?;
    let mut settings = Vec::new();
    for (key, value) in configuration::settings(&finder, configuration::has_labels(git)?) {
        let known = git.output(["config", scope(args.global), "--get-all", &key]);
        if known.is_ok_and(|known| known.strip_suffix(b"\n") == Some(value.as_bytes())) {
            continue;
        }
        if !args.check {
            let set = ["config", scope(args.global), "--replace-all", &key, &value];
            git.output(set).map_err(of_git)?;
        }
        settings.push(key);
    }
    let mut missing = Vec::new();
    if !settings.is_empty() {
        missing.push(format!("{} in git's configuration", settings.join(", ")));
    }
    if let Some(top) = top {
        let path = top.join(ATTRIBUTES);
        let patterns = patterns::patterns(&top, &super::secrets::session(context, None)?, context);
        let before = existing(&path)?;
        let after =
            attributes::with_block(&before, &patterns).map_err(|reason| attributes_failure(&path, reason))?;
        if before != after {
            if !args.check {
                atomic::replace(&path, &after, 0o666).map_err(|error| failure(Error::Write(error)))?;
            }
            missing.push(format!("{ATTRIBUTES} ({} patterns; commit it)", patterns.len()));
        }
        missing.extend(hook(args, git, &finder, context)?);
    }
    Ok(missing)
}

fn uninstall(args: &Uninstall, git: &Git, context: &Context) -> Outcome {
    let top = top(git, args.global)?;
    for section in SECTIONS {
        // A missing section is not an error.
        let _ = git.output(["config", scope(args.global), "--remove-section", section]);
    }
    if let Some(top) = top {
        let path = top.join(ATTRIBUTES);
        let before = existing(&path)?;
        let after = attributes::without_block(&before).map_err(|reason| attributes_failure(&path, reason))?;
        if before != after {
            if after.is_empty() {
                fs::remove_file(&path)
                    .map_err(|source| failure(Error::NotWritable { path: path.clone(), source }))?;
            } else {
                atomic::replace(&path, &after, 0o666).map_err(|error| failure(Error::Write(error)))?;
            }
        }
        let hook = hook_path(git)?;
        if existing(&hook)?.starts_with(HOOK_HEAD.as_bytes()) {
            fs::remove_file(&hook)
                .map_err(|source| failure(Error::NotWritable { path: hook.clone(), source }))?;
        }
    }
    context.screen.note("civm was removed from git's configuration");
    Ok(0)
}

fn scope(global: bool) -> &'static str {
    if global { "--global" } else { "--local" }
}

/// The root of the work tree; `None` outside a repository, where only the user's configuration can be set up.
fn top(git: &Git, global: bool) -> Result<Option<PathBuf>, Failure> {
    match git.top() {
        Ok(top) => Ok(Some(top)),
        Err(_) if global => Ok(None),
        Err(error) => Err(of_git(error).help("run this inside a repository, or with --global")),
    }
}

fn hook_path(git: &Git) -> Result<PathBuf, Failure> {
    git.path(["rev-parse", "--git-path", &format!("hooks/{HOOK}")]).map_err(of_git)
}

/// Writes the hook if there is none, or if an earlier civm wrote it.
fn hook(args: &Install, git: &Git, finder: &str, context: &Context) -> Result<Option<String>, Failure> {
    let path = hook_path(git)?;
    let text = configuration::hook(finder);
    let before = existing(&path)?;
    let ours = before.starts_with(HOOK_HEAD.as_bytes());
    if before == text.as_bytes() || !(args.hooks || ours) {
        return Ok(None);
    }
    let elsewhere = git.output(["config", "core.hooksPath"]).is_ok();
    if !ours && (!before.is_empty() || elsewhere) {
        configuration::leave_hook(&path, before.is_empty(), context);
        return Ok(None);
    }
    if !args.check {
        let written = path.parent().map_or(Ok(()), fs::create_dir_all);
        written.map_err(|source| failure(Error::NotWritable { path: path.clone(), source }))?;
        atomic::replace(&path, text.as_bytes(), 0o755).map_err(|error| failure(Error::Write(error)))?;
    }
    Ok(Some(format!("the {HOOK} hook")))
}

/// A file's text; empty if there is no such file.
fn existing(path: &Path) -> Result<Vec<u8>, Failure> {
    match session::read(path) {
        Err(Error::Missing(_)) => Ok(Vec::new()),
        text => text.map_err(failure),
    }
}

fn failure(error: Error) -> Failure {
    super::secrets::failure(error)
}

fn attributes_failure(path: &Path, reason: attributes::OpenBlock) -> Failure {
    Failure::new(Code::Generic, format!("`{}`: {reason}", path.display()))
        .help(format!("add the line `{}` after civm's lines, or remove them all", attributes::END))
}

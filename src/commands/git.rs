//! `civm git …`: the merge driver and the view of differences, set up in git.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::Context;
use super::secrets::of_git;
use crate::cli::git::{Command, Git as Args, Install, Uninstall};
use crate::edge::atomic;
use crate::edge::git::Git;
use crate::host::project::{HOSTS, SECRETS_FILE};
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::discover::sops_files;
use crate::secrets::{Error, session};

mod attributes;

/// Where git looks for a tree's attributes.
const ATTRIBUTES: &str = ".gitattributes";
/// The sections of git's configuration that are civm's.
const SECTIONS: [&str; 3] = ["merge.civm", "merge.civm-inner", "diff.civm"];
/// The hook that checks before a commit, and its first lines.
const HOOK: &str = "pre-commit";
const HOOK_HEAD: &str = "#!/bin/sh\n# By `civm git install --hooks`; `civm git uninstall` takes it away.\n";

/// Runs one of the git commands.
pub(super) fn run(args: &Args, context: &Context) -> Outcome {
    let directory = match &context.project {
        Some(project) => project.clone(),
        None => PathBuf::from("."),
    };
    let git = Git::new(&context.environment, &directory);
    match &args.command {
        Command::Install(args) => install(args, &git, context),
        Command::Uninstall(args) => uninstall(args, &git, context),
    }
}

fn install(args: &Install, git: &Git<'_>, context: &Context) -> Outcome {
    let top = top(git, args.global)?;
    let program = program(context)?;
    let mut settings = Vec::new();
    for (key, value) in configuration(&program) {
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
        let patterns = patterns(&top, context);
        let before = existing(&path)?;
        let after =
            attributes::with_block(&before, &patterns).map_err(|reason| attributes_failure(&path, reason))?;
        if before != after {
            if !args.check {
                atomic::replace(&path, &after, 0o666).map_err(|error| failure(Error::Write(error)))?;
            }
            missing.push(format!("{ATTRIBUTES}, to be committed (patterns: {})", patterns.len()));
        }
        if args.hooks {
            missing.extend(hook(args, git, &program, context)?);
        }
        if patterns.is_empty() {
            context
                .screen
                .warn("there are no sops files in this repository yet; run this again when there are");
        }
    }
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

fn uninstall(args: &Uninstall, git: &Git<'_>, context: &Context) -> Outcome {
    let top = top(git, args.global)?;
    for section in SECTIONS {
        // What is not there needs no removing.
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
    context.screen.note("git knows nothing of civm any more");
    Ok(0)
}

fn scope(global: bool) -> &'static str {
    if global { "--global" } else { "--local" }
}

/// The root of the work tree; to set git up for a user needs none.
fn top(git: &Git<'_>, global: bool) -> Result<Option<PathBuf>, Failure> {
    match git.top() {
        Ok(top) => Ok(Some(top)),
        Err(_) if global => Ok(None),
        Err(error) => Err(of_git(error).help("run this inside a repository, or with --global")),
    }
}

/// civm as a shell calls it: by its name where that is found, so that the configuration outlives an update.
fn program(context: &Context) -> Result<String, Failure> {
    if context.environment.find_program("civm").is_some() {
        return Ok("civm".to_owned());
    }
    let unknown = |reason: String| {
        Failure::new(Code::Generic, format!("civm does not know where it is itself: {reason}"))
            .help("put it into a directory of PATH")
    };
    let path = std::env::current_exe().map_err(|error| unknown(error.to_string()))?;
    let path = path.to_str().ok_or_else(|| unknown("its path is no UTF-8".to_owned()))?;
    let quoted = shlex::try_quote(path).map_err(|error| unknown(error.to_string()))?;
    // git takes a percent sign for the start of a name.
    Ok(quoted.replace('%', "%%"))
}

/// What git has to know.
fn configuration(program: &str) -> Vec<(String, String)> {
    let driver = |how: &str| format!("{program} secrets merge-driver{how} --marker-size %L -- %O %A %B %P");
    let [merge, inner, diff] = SECTIONS;
    [
        (merge, "name", "sops files, by value".to_owned()),
        (merge, "driver", driver("")),
        // Where common ancestors are merged first, nobody can say what is right.
        (merge, "recursive", "civm-inner".to_owned()),
        (inner, "name", "sops files, by value, of common ancestors".to_owned()),
        (inner, "driver", driver(" --no-edit")),
        (diff, "textconv", format!("{} secrets textconv --", program.replace("%%", "%"))),
        // A cache would put the plaintext into the repository, whatever the user's own configuration says.
        (diff, "cachetextconv", "false".to_owned()),
    ]
    .into_iter()
    .map(|(section, key, value)| (format!("{section}.{key}"), value))
    .collect()
}

/// Patterns for the sops files of a tree: one for the secrets of all hosts, those to come as well.
fn patterns(top: &Path, context: &Context) -> Vec<String> {
    let top = top.canonicalize().unwrap_or_else(|_| top.to_path_buf());
    let mut patterns: Vec<String> = sops_files(std::slice::from_ref(&top), &context.environment)
        .into_iter()
        .filter(|found| found.text.is_ok())
        .filter_map(|found| found.path.strip_prefix(&top).ok().map(pattern))
        .collect();
    if top.join(HOSTS).is_dir() {
        patterns.push(format!("/{HOSTS}/*/{SECRETS_FILE}"));
    }
    patterns.sort();
    patterns.dedup();
    patterns
}

fn pattern(path: &Path) -> String {
    let hosts = path.parent().and_then(Path::parent);
    if path.ends_with(SECRETS_FILE)
        && let Some(hosts) = hosts.filter(|hosts| hosts.ends_with(HOSTS))
    {
        let rest = format!("/*/{SECRETS_FILE}");
        return attributes::pattern(hosts.as_os_str().as_bytes(), &rest);
    }
    attributes::pattern(path.as_os_str().as_bytes(), "")
}

fn hook_path(git: &Git<'_>) -> Result<PathBuf, Failure> {
    git.path(["rev-parse", "--git-path", &format!("hooks/{HOOK}")]).map_err(of_git)
}

/// A hook is written only where there is none.
fn hook(args: &Install, git: &Git<'_>, program: &str, context: &Context) -> Result<Option<String>, Failure> {
    let path = hook_path(git)?;
    let check = format!("{} secrets check --staged", program.replace("%%", "%"));
    let text = format!("{HOOK_HEAD}exec {check}\n");
    let before = existing(&path)?;
    if before == text.as_bytes() {
        return Ok(None);
    }
    let elsewhere = git.output(["config", "core.hooksPath"]).is_ok();
    if !before.is_empty() || elsewhere {
        context.screen.warn(format!(
            "`{}` is left as it is; add `{check}` to it to have the files checked before each commit",
            path.display()
        ));
        return Ok(None);
    }
    if !args.check {
        let written = path.parent().map_or(Ok(()), fs::create_dir_all);
        written.map_err(|source| failure(Error::NotWritable { path: path.clone(), source }))?;
        atomic::create(&path, text.as_bytes(), 0o755, false).map_err(|error| failure(Error::Write(error)))?;
    }
    Ok(Some(format!("the hook {HOOK}")))
}

/// A file's text; nothing where there is none.
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
        .help(format!("put the line `{}` behind civm's lines, or take them all out", attributes::END))
}

//! `civm secrets merge` and `civm secrets merge-driver`.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::Path;

use super::edit::watched;
use super::failure::failure;
use crate::cli::secrets_git::{Editing, Merge as Args, MergeDriver};
use crate::commands::Context;
use crate::edge::git::{Git, Stages};
use crate::edge::process::ProcessError;
use crate::edge::{atomic, terminal};
use crate::outcome::{Code, Failure, Outcome};
use crate::rules;
use crate::secrets::discover::is_sops;
use crate::secrets::merge::{MARKERS, Merge, MergeError, Versions, merge, record, recorded_in};
use crate::secrets::session::{read, read_locked};
use crate::secrets::{Error, Session};
use crate::sops::document::MacCheck;
use crate::store::Indents;

/// git's merge driver: returns 0 if the file was merged, else 1. A file that cannot be merged, whatever the reason, is a
/// conflict and holds all versions; an exit code above 128 would make git abort the whole merge.
pub(super) fn driver(args: &MergeDriver, session: &Session, context: &Context) -> u8 {
    match driven(args, session, context) {
        Ok(merged) => u8::from(!merged),
        Err(failure) => {
            context.screen.failure(&failure);
            1
        }
    }
}

/// Whether the file is merged.
fn driven(args: &MergeDriver, session: &Session, context: &Context) -> Result<bool, Failure> {
    let name = args.pathname.as_deref().unwrap_or(&args.ours);
    let [base, ours, theirs] = [&args.base, &args.ours, &args.theirs].map(|path| read(path).map_err(failure));
    let (base, ours, theirs) = (base?, ours?, theirs?);
    let versions =
        Versions { base: Some(&*base).filter(|base| !base.is_empty()), ours: &ours, theirs: &theirs };
    // It is not encrypted.
    if name.file_name() == Some(OsStr::new(rules::FILE)) {
        return merge_rules(args, &versions, session, context);
    }
    if ![&base, &ours, &theirs].iter().any(|text| is_sops(name, text)) {
        return merge_text(args, session, context);
    }
    let how = How {
        editing: args.editing,
        markers: args.marker_size,
        mac: MacCheck::Verify,
        ancestors: args.common_ancestors,
    };
    match merged(session, name, &versions, &how, context) {
        Ok(text) => write(&args.ours, &text).map(|()| true),
        Err(Refusal::Plain) => merge_text(args, session, context),
        // git uses this as the base of the actual merge. With the older base, every difference shows up there.
        Err(Refusal::Failure { left, .. }) if args.common_ancestors => {
            write(&args.ours, left.as_deref().unwrap_or(&base)).map(|()| true)
        }
        Err(Refusal::Failure { failure, left }) => {
            write(&args.ours, &left.unwrap_or_else(|| record(&versions, args.marker_size)))?;
            Err(failure)
        }
    }
}

/// Merges any other file as git itself would; git reports the conflicts.
fn merge_text(args: &MergeDriver, session: &Session, context: &Context) -> Result<bool, Failure> {
    let size = format!("--marker-size={}", args.marker_size);
    let [base, ours, theirs] = match args.labels.as_slice() {
        [base, ours, theirs] => [base, ours, theirs].map(String::as_str),
        _ => ["base", "ours", "theirs"],
    };
    let words = ["merge-file", "--quiet", &size, "-L", ours, "-L", base, "-L", theirs, "--"].map(OsStr::new);
    let files = [&args.ours, &args.base, &args.theirs].map(|path| path.as_os_str());
    match Git::here(&context.environment, &session.directory).output(words.into_iter().chain(files)) {
        Ok(_) => Ok(true),
        // The number of conflicts; from 128 on, an error.
        Err(ProcessError::Failed { status, .. }) if status.code().is_some_and(|code| code < 128) => Ok(false),
        Err(error) => Err(of_git(error)),
    }
}

/// Merges rules as text or, if both sides changed the same lines, by the keys that each side added and removed.
fn merge_rules(
    args: &MergeDriver,
    versions: &Versions<'_>,
    session: &Session,
    context: &Context,
) -> Result<bool, Failure> {
    if merge_text(args, session, context)? {
        return Ok(true);
    }
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).ok();
    let texts = (text(versions.base.unwrap_or_default()), text(versions.ours), text(versions.theirs));
    let (Some(base), Some(ours), Some(theirs)) = texts else { return Ok(false) };
    match rules::merge(&base, &ours, &theirs) {
        Some(merged) => write(&args.ours, merged.as_bytes()).map(|()| true),
        None => Ok(false),
    }
}

/// Merges a file in conflict: from the versions in git's index or, if they are gone, from those in the file itself.
pub(super) fn run(args: &Args, session: &Session, context: &Context) -> Outcome {
    let path = session.absolute(&args.file);
    let directory = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().map(Path::new).unwrap_or(&path);
    let git = Git::here(&context.environment, directory);
    let shown = args.file.display();
    let before = read_locked(&path).ok();
    let on_disk = before.as_deref().unwrap_or_default();
    let recorded = recorded_in(on_disk);
    let stages = match git.stages(name) {
        // With the versions in the file, git is not needed.
        Err(_) if recorded.is_some() => Stages::default(),
        stages => stages.map_err(of_git)?,
    };
    let texts = match (stages.ours, stages.theirs) {
        (Some(ours), Some(theirs)) => {
            let base = stages.base.map(|base| git.blob(base)).transpose().map_err(of_git)?;
            Some((base, git.blob(ours).map_err(of_git)?, git.blob(theirs).map_err(of_git)?))
        }
        (None, None) => None,
        (ours, _) => {
            let (side, other) = if ours.is_some() { ("theirs", "ours") } else { ("ours", "theirs") };
            return Err(Failure::new(
                Code::Generic,
                format!("`{shown}` was removed on one side ({side}) and changed on the other"),
            )
            .help(format!(
                "keep it with `git checkout --{other} {shown}` and `git add`, or `git rm {shown}`"
            )));
        }
    };
    let versions = match (&texts, &recorded) {
        (Some((base, ours, theirs)), recorded) => {
            if recorded.is_none()
                && ![ours, theirs].iter().any(|side| ***side == *on_disk)
                && !on_disk.is_empty()
            {
                return Err(Failure::new(
                    Code::Generic,
                    format!("`{shown}` was changed since the merge and no longer has a conflict"),
                )
                .help(format!(
                    "`git add {shown}` accepts its current content; `git checkout -m {shown}` restores the conflict"
                )));
            }
            Versions { base: base.as_deref().map(Vec::as_slice), ours, theirs }
        }
        (None, Some(recorded)) => recorded.versions(),
        (None, None) => {
            return Err(Failure::new(Code::Generic, format!("`{shown}` has no merge conflict")));
        }
    };
    let mac = if args.ignore_mac { MacCheck::Ignore } else { MacCheck::Verify };
    let how = How { editing: args.editing, markers: MARKERS, mac, ancestors: false };
    let put = |text: &[u8]| match atomic::swap(&path, before.as_deref(), text, 0o666) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(
            Code::Generic,
            format!("`{shown}` was changed by another process in the meantime; it was left unchanged"),
        )
        .help("merge it again")),
        Err(error) => Err(failure(Error::Write(error))),
    };
    let whole = |side, text| settled(session, &args.file, side, text, &how, context);
    let result = whole("ours", versions.ours).and_then(|ours| {
        let theirs = whole("theirs", versions.theirs)?;
        // Without a base nothing is taken for a change of one side only.
        let base = versions.base.filter(|base| recorded_in(base).is_none());
        merged(session, &args.file, &Versions { base, ours: &ours, theirs: &theirs }, &how, context)
    });
    match result {
        Ok(text) => put(&text)?,
        Err(Refusal::Plain) => {
            return Err(Failure::new(Code::Generic, format!("`{shown}` is not encrypted in any version"))
                .help("resolve the conflict as in any other file"));
        }
        Err(Refusal::Failure { failure, left }) => {
            // Never leave a file without markers: it would hide the conflict.
            if recorded.is_none() {
                put(&left.unwrap_or_else(|| record(&versions, MARKERS)))?;
            }
            return Err(failure);
        }
    }
    context.screen.note(format!("merged `{shown}`; next: `git add {shown}`"));
    Ok(0)
}

/// A version without a conflict: git commits a file with one during a rebase, and merges it with the next commit.
fn settled<'a>(
    session: &Session,
    path: &Path,
    side: &str,
    text: &'a [u8],
    how: &How,
    context: &Context,
) -> Result<Cow<'a, [u8]>, Refusal> {
    let Some(recorded) = recorded_in(text) else { return Ok(Cow::Borrowed(text)) };
    let Versions { base, ours, theirs } = recorded.versions();
    context.screen.note(format!("`{}`: {side} has an older conflict, which comes first", path.display()));
    let ours = settled(session, path, "ours", ours, how, context)?;
    let theirs = settled(session, path, "theirs", theirs, how, context)?;
    let base = base.filter(|base| recorded_in(base).is_none());
    merged(session, path, &Versions { base, ours: &ours, theirs: &theirs }, how, context)
        .map(Cow::Owned)
        .map_err(|refusal| match refusal {
            // What is left of this conflict is not the whole file.
            Refusal::Failure { failure, .. } => Refusal::Failure { failure, left: None },
            Refusal::Plain => Refusal::Plain,
        })
}

/// The options of a merge.
struct How {
    editing: Editing,
    markers: usize,
    mac: MacCheck,
    /// Whether the versions are common ancestors, which git merges first.
    ancestors: bool,
}

impl How {
    /// Whether to open an editor: somebody must be there to use it.
    fn may_edit(&self) -> bool {
        let at_terminal = terminal::stdin_is_terminal() && terminal::stdout_is_terminal();
        !self.ancestors && (self.editing.edit || (at_terminal && !self.editing.no_edit))
    }
}

/// Why there is no merged text.
enum Refusal {
    /// There is nothing to decrypt.
    Plain,
    /// Anything else.
    Failure {
        /// What to say.
        failure: Failure,
        /// The content to leave in the file until the conflict is resolved; `None` for the three versions.
        left: Option<Vec<u8>>,
    },
}

fn merged(
    session: &Session,
    path: &Path,
    versions: &Versions<'_>,
    how: &How,
    context: &Context,
) -> Result<Vec<u8>, Refusal> {
    // Invalid rules, perhaps because they too have a conflict, need not be repaired first.
    let format = session.format_of_encrypted(path, versions.ours);
    let store = session.store(format, path).unwrap_or_else(|_| format.store(Indents::default()));
    let of_merge = |left: Option<Vec<u8>>| {
        move |error| match error {
            MergeError::Plain => Refusal::Plain,
            error => Refusal::Failure { failure: merge_failure(path, error), left },
        }
    };
    let unmerged = match merge(session, path, &store, versions, how.mac).map_err(of_merge(None))? {
        Merge::Clean(text) => return Ok(text),
        Merge::Conflict(unmerged) => unmerged,
    };
    let left =
        if how.ancestors { unmerged.as_before(session) } else { unmerged.record(session, how.markers) };
    // If a side cannot be written by itself, the three versions are kept.
    let left = left.ok();
    let places: Vec<String> = unmerged.conflicts.iter().map(ToString::to_string).collect();
    let told = format!("`{}`: both sides changed {}", path.display(), places.join(", "));
    if how.may_edit() {
        context.screen.note(&told);
        return watched(path, context, |watch| unmerged.resolve(session, how.markers, watch))
            .map_err(of_merge(left));
    }
    let advice =
        format!("resolve it in your editor with `civm secrets merge {}`, then `git add` it", path.display());
    Err(Refusal::Failure { failure: Failure::new(Code::Generic, told).help(advice), left })
}

fn write(path: &Path, text: &[u8]) -> Result<(), Failure> {
    atomic::replace(path, text, 0o666).map_err(|error| failure(Error::Write(error)))
}

fn merge_failure(path: &Path, error: MergeError) -> Failure {
    match error {
        MergeError::Version { version, error } => {
            let inner = failure(*error);
            Failure { message: format!("{version}: {}", inner.message), ..inner }
        }
        MergeError::File(error) => match *error {
            Error::Unchanged => failure(Error::Unresolved),
            error => failure(error),
        },
        other => Failure::new(Code::Generic, format!("`{}`: {other}", path.display())).help(
            "take one side with `git checkout --ours` or `--theirs`, and redo the other side's changes by hand",
        ),
    }
}

/// A failure in git's own words.
pub(in crate::commands) fn of_git(error: ProcessError) -> Failure {
    Failure::new(Code::Generic, error.to_string())
}

//! `civm secrets merge` and `civm secrets merge-driver`.

use std::ffi::OsStr;
use std::path::Path;

use super::edit::watched;
use super::failure::failure;
use crate::cli::secrets_git::{Editing, Merge as Args, MergeDriver};
use crate::commands::Context;
use crate::edge::git::Git;
use crate::edge::{atomic, terminal};
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::merge::{Merge, MergeError, Versions, merge};
use crate::secrets::session::{read, read_locked};
use crate::secrets::{Error, Session};
use crate::sops::document::MacCheck;

/// The signs of a marker, as git has them where nothing else is said.
const MARKER: usize = 7;

/// For git: 0 where the file is merged, 1 for everything else. git takes a number above 128 for a reason to stop
/// altogether; a file that could not be merged is a conflict, whatever the reason, and stays as it was.
pub(super) fn driver(args: &MergeDriver, session: &Session, context: &Context) -> u8 {
    let result = driven(args, session, context);
    if let Err(failure) = &result {
        context.screen.failure(failure);
    }
    u8::from(result.is_err())
}

fn driven(args: &MergeDriver, session: &Session, context: &Context) -> Result<(), Failure> {
    let name = args.pathname.as_deref().unwrap_or(&args.ours);
    let [base, ours, theirs] = [&args.base, &args.ours, &args.theirs].map(|path| read(path).map_err(failure));
    let (base, ours, theirs) = (base?, ours?, theirs?);
    let versions =
        Versions { base: Some(&*base).filter(|base| !base.is_empty()), ours: &ours, theirs: &theirs };
    let how = How { editing: args.editing, markers: args.marker_size, mac: MacCheck::Verify };
    match merged(session, name, &versions, how, context) {
        Ok(text) => write(&args.ours, &text),
        Err(Refusal::Plain) => merge_plain(args, session, name, context),
        Err(Refusal::Failure(failure)) => Err(failure),
    }
}

/// A file that is not encrypted merges as git itself would have merged it.
fn merge_plain(args: &MergeDriver, session: &Session, name: &Path, context: &Context) -> Result<(), Failure> {
    let size = format!("--marker-size={}", args.marker_size);
    let labels = ["-L", "ours", "-L", "base", "-L", "theirs", "--"];
    let words = ["merge-file", &size].into_iter().chain(labels).map(OsStr::new);
    let files = [&args.ours, &args.base, &args.theirs].map(|path| path.as_os_str());
    let merged = Git::new(&context.environment, &session.directory).output(words.chain(files));
    merged.map(drop).map_err(|_| {
        Failure::new(Code::Generic, format!("`{}`: both sides changed the same lines", name.display()))
            .help("it is not encrypted in any version, so it was merged as text")
    })
}

/// A file that git left unmerged, from what its index holds of it.
pub(super) fn run(args: &Args, session: &Session, context: &Context) -> Outcome {
    let path = session.absolute(&args.file);
    let directory = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().map(Path::new).unwrap_or(&path);
    let git = Git::new(&context.environment, directory);
    let before = read_locked(&args.file).ok();
    let stages = git.stages(name).map_err(of_git)?;
    let shown = args.file.display();
    let (base, ours, theirs) = match stages {
        [base, Some(ours), Some(theirs)] => (base, ours, theirs),
        [_, None, None] => {
            return Err(Failure::new(
                Code::Generic,
                format!("`{shown}` is not unmerged: there is nothing to merge"),
            ));
        }
        [_, ours, _] => {
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
    let base = base.map(|base| git.blob(base)).transpose().map_err(of_git)?;
    let (ours, theirs) = (git.blob(ours).map_err(of_git)?, git.blob(theirs).map_err(of_git)?);
    let versions = Versions { base: base.as_deref().map(Vec::as_slice), ours: &ours, theirs: &theirs };
    let mac = if args.ignore_mac { MacCheck::Ignore } else { MacCheck::Verify };
    let how = How { editing: args.editing, markers: MARKER, mac };
    let text = merged(session, &args.file, &versions, how, context).map_err(|refusal| match refusal {
        Refusal::Failure(failure) => failure,
        Refusal::Plain => Failure::new(Code::Generic, format!("`{shown}` is not encrypted in any version"))
            .help("resolve it as any other file"),
    })?;
    if !atomic::swap(&args.file, before.as_deref(), &text, 0o666)
        .map_err(|error| failure(Error::Write(error)))?
    {
        return Err(Failure::new(
            Code::Generic,
            format!("`{shown}` was changed by somebody else meanwhile; it is left as it is now"),
        )
        .help("merge it again"));
    }
    context.screen.note(format!("merged `{shown}`; go on with `git add {shown}`"));
    Ok(0)
}

/// How far a merge may go.
struct How {
    editing: Editing,
    markers: usize,
    mac: MacCheck,
}

impl How {
    /// An editor needs somebody in front of it.
    fn may_edit(&self) -> bool {
        let at_terminal = terminal::stdin_is_terminal() && terminal::stdout_is_terminal();
        self.editing.edit || (at_terminal && !self.editing.no_edit)
    }
}

/// Why there is no merged text.
enum Refusal {
    /// There is nothing to decrypt.
    Plain,
    /// Anything else.
    Failure(Failure),
}

fn merged(
    session: &Session,
    path: &Path,
    versions: &Versions<'_>,
    how: How,
    context: &Context,
) -> Result<Vec<u8>, Refusal> {
    let store = session.store_for(path).map_err(|error| Refusal::Failure(failure(error)))?;
    let of_merge = |error| match error {
        MergeError::Plain => Refusal::Plain,
        error => Refusal::Failure(merge_failure(path, error)),
    };
    let unmerged = match merge(session, path, &store, versions, how.mac).map_err(of_merge)? {
        Merge::Clean(text) => return Ok(text),
        Merge::Conflict(unmerged) => unmerged,
    };
    let places: Vec<String> = unmerged.conflicts.iter().map(ToString::to_string).collect();
    let told = format!("`{}`: both sides changed {}", path.display(), places.join(", "));
    if how.may_edit() {
        context.screen.note(&told);
        return watched(path, context, |watch| unmerged.resolve(session, how.markers, watch))
            .map_err(of_merge);
    }
    let advice =
        format!("resolve it in your editor with `civm secrets merge {}`, then `git add` it", path.display());
    Err(Refusal::Failure(Failure::new(Code::Generic, told).help(advice)))
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
            "take one side with `git checkout --ours` or `--theirs` and bring the other's changes in by hand",
        ),
    }
}

/// git's own words.
pub(in crate::commands) fn of_git(error: crate::edge::process::ProcessError) -> Failure {
    Failure::new(Code::Generic, error.to_string())
}

//! Comparing git revisions: the files that differ, and their content in each.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::super::failure::failure;
use super::super::of_git;
use super::{Pair, Side};
use crate::cli::secrets_git::Diff;
use crate::commands::Context;
use crate::edge::git::Git;
use crate::outcome::{Code, Failure};
use crate::secrets::Session;
use crate::secrets::session::read;

/// Whether git recognises a word as a revision.
pub(super) fn is_one(word: &str, session: &Session, context: &Context) -> bool {
    tree(word, &Git::here(&context.environment, &session.directory))
}

fn tree(word: &str, git: &Git) -> bool {
    let object = format!("{word}^{{tree}}");
    git.output(["rev-parse", "--verify", "--quiet", "--end-of-options", &object]).is_ok()
}

/// The files that differ between the given revisions: HEAD and the work tree, one revision and the work tree, or two
/// revisions.
pub(super) fn pairs(args: &Diff, session: &Session, context: &Context) -> Result<Vec<Pair>, Failure> {
    let git = Git::here(&context.environment, &session.directory);
    let top = git.top().map_err(of_git)?;
    let (mut revisions, paths) = named(args, &git)?;
    if revisions.is_empty() && !args.staged {
        revisions.push("HEAD".to_owned());
    }
    let mut words: Vec<OsString> =
        ["diff", "--raw", "-z", "--no-abbrev", "-M", "--no-ext-diff", "--no-relative"]
            .map(OsString::from)
            .to_vec();
    words.extend(args.staged.then(|| "--cached".into()));
    words.push("--end-of-options".into());
    words.extend(revisions.into_iter().map(OsString::from));
    words.push("--".into());
    words.extend(paths.into_iter().map(PathBuf::into_os_string));
    let listed = git.records(&words, None).map_err(of_git)?;
    let mut fields = listed.iter().map(OsString::as_os_str);
    let mut pairs = Vec::new();
    while let Some(head) = fields.next().and_then(OsStr::to_str).and_then(|head| head.strip_prefix(':')) {
        let mut words = head.split(' ');
        let mut next = || words.next().unwrap_or_default();
        let (old_mode, new_mode, old, new, status) = (next(), next(), next(), next(), next());
        let mut name = || fields.next().map(Path::new).unwrap_or(Path::new(""));
        let from = name();
        let to = if status.starts_with(['R', 'C']) { name() } else { from };
        let old = Version { mode: old_mode, object: old };
        let new = Version { mode: new_mode, object: new };
        // Links and submodules hold no secrets; an unmerged file has no single version.
        if status == "U" || !(old.may_be_sops() && new.may_be_sops()) {
            continue;
        }
        let shown = if from == to {
            to.display().to_string()
        } else {
            format!("{} -> {}", from.display(), to.display())
        };
        pairs.push(Pair {
            old: Side { path: from.into(), text: old.text(&git, &top.join(from))? },
            new: Side { path: to.into(), text: new.text(&git, &top.join(to))? },
            shown,
            file: top.join(to),
        });
    }
    Ok(pairs)
}

/// A file in a revision, in the index or in the work tree.
struct Version<'a> {
    mode: &'a str,
    object: &'a str,
}

impl Version<'_> {
    fn is_missing(&self) -> bool {
        self.mode == "000000"
    }

    fn may_be_sops(&self) -> bool {
        self.is_missing() || self.mode.starts_with("100")
    }

    /// Its text. git has no object ID for what is only in the work tree.
    fn text(&self, git: &Git, path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
        if self.is_missing() {
            return Ok(None);
        }
        if self.object.bytes().all(|byte| byte == b'0') {
            return read(path).map(|text| Some(Zeroizing::new(text))).map_err(failure);
        }
        git.blob(self.object).map(Some).map_err(of_git)
    }
}

/// Separates revisions from paths as git does: revisions come first.
fn named(args: &Diff, git: &Git) -> Result<(Vec<String>, Vec<PathBuf>), Failure> {
    let mut revisions = Vec::new();
    let mut paths = Vec::new();
    for word in &args.args {
        let ends: Vec<&str> = match word.split_once("..") {
            Some((from, to)) if !to.starts_with('.') => {
                [from, to].map(|end| if end.is_empty() { "HEAD" } else { end }).to_vec()
            }
            _ => vec![word],
        };
        if paths.is_empty() && ends.iter().all(|end| tree(end, git)) {
            revisions.extend(ends.into_iter().map(str::to_owned));
        } else if Path::new(word).exists() {
            paths.push(PathBuf::from(word));
        } else {
            return Err(Failure::new(
                Code::NoFileSpecified,
                format!("`{word}` is neither a revision nor a file"),
            )
            .help("put a file that no longer exists after `--`"));
        }
    }
    let most = if args.staged { 1 } else { 2 };
    if revisions.len() > most {
        return Err(Failure::new(
            Code::ConflictingParameters,
            format!("{} revisions were given, but at most {most} can be compared", revisions.len()),
        ));
    }
    paths.extend(args.paths.iter().cloned());
    Ok((revisions, paths))
}

//! What one repository says of its files: which it ignores, and which it tracks even so.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::WalkError;
use crate::edge::environment::Environment;
use crate::edge::git::Git;
use crate::edge::process::ProcessError;

/// The name of a repository's own directory; in worktrees and submodules of a file that points to it.
pub(super) const GIT: &str = ".git";
/// The name of the files that say what is ignored.
pub(super) const IGNORE_FILE: &str = ".gitignore";

/// One repository, or a tree that is in none, as seen from one of its directories.
pub(super) struct Scope {
    /// `info/exclude`, then one for each directory from the repository's root to the present one.
    rules: Vec<Gitignore>,
    /// Files, and submodules.
    tracked: HashSet<PathBuf>,
    /// The directories that lead to them.
    ways: HashSet<PathBuf>,
}

/// Whether a directory is the root of a repository.
pub(super) fn is_repository(directory: &Path) -> bool {
    directory.join(GIT).symlink_metadata().is_ok()
}

impl Scope {
    /// The repository that a directory lies in, as seen from its parent. With what could not be read
    /// on the way.
    pub(super) fn around(directory: &Path, environment: &Environment) -> (Self, Vec<WalkError>) {
        let mut errors = Vec::new();
        let Some(root) = directory.ancestors().find(|directory| is_repository(directory)) else {
            return (Self { rules: Vec::new(), tracked: HashSet::new(), ways: HashSet::new() }, errors);
        };
        let (mut scope, untold) = Self::with_tracked(root, directory, environment);
        errors.extend(untold);
        let mut parents: Vec<_> =
            directory.ancestors().skip(1).take_while(|parent| parent.starts_with(root)).collect();
        parents.reverse();
        for parent in parents {
            if let Err(source) = scope.enter(parent) {
                errors.push(WalkError { path: parent.join(IGNORE_FILE), source });
            }
        }
        (scope, errors)
    }

    /// A repository, as seen from outside of its root. With the error where git does not say what it tracks.
    pub(super) fn of_repository(root: &Path, environment: &Environment) -> (Self, Option<WalkError>) {
        Self::with_tracked(root, root, environment)
    }

    fn with_tracked(root: &Path, directory: &Path, environment: &Environment) -> (Self, Option<WalkError>) {
        let (tracked, error) = match tracked(root, directory, environment) {
            Ok(tracked) => (tracked, None),
            Err(error) => {
                let source = io::Error::other(format!("cannot determine which files git tracks: {error}"));
                (HashSet::new(), Some(WalkError { path: root.join(GIT), source }))
            }
        };
        let ways = tracked
            .iter()
            .flat_map(|path| path.ancestors().skip(1).take_while(|way| *way != directory))
            .map(Path::to_path_buf)
            .collect();
        // Only git writes there; an `exclude` that cannot be read hides nothing.
        let exclude = rules(root, &exclude_file(root)).unwrap_or_else(|_| Gitignore::empty());
        (Self { rules: vec![exclude], tracked, ways }, error)
    }

    /// Goes into a directory: its `.gitignore` counts until [`Scope::leave`].
    ///
    /// # Errors
    /// There is one that cannot be read. The directory is entered even so.
    pub(super) fn enter(&mut self, directory: &Path) -> io::Result<()> {
        let (rules, result) = match rules(directory, &directory.join(IGNORE_FILE)) {
            Ok(rules) => (rules, Ok(())),
            Err(error) => (Gitignore::empty(), Err(error)),
        };
        self.rules.push(rules);
        result
    }

    /// Leaves the directory that was entered last.
    pub(super) fn leave(&mut self) {
        self.rules.pop();
    }

    /// Whether something in the present directory is ignored: the innermost rule decides.
    pub(super) fn ignores(&self, path: &Path, is_dir: bool) -> bool {
        let decided = self.rules.iter().rev().map(|rules| rules.matched(path, is_dir));
        decided
            .into_iter()
            .find(|found| !found.is_none())
            .is_some_and(|found| matches!(found, Match::Ignore(_)))
    }

    /// Whether git tracks a file, or something in a directory.
    pub(super) fn tracks(&self, path: &Path, is_dir: bool) -> bool {
        self.tracked.contains(path) || is_dir && self.ways.contains(path)
    }
}

/// The rules of one file, for paths below a directory. A missing file has none.
pub(super) fn rules(directory: &Path, file: &Path) -> io::Result<Gitignore> {
    let text = match fs::symlink_metadata(file) {
        // As git does it: a link or a directory of that name says nothing.
        Ok(metadata) if metadata.is_file() => fs::read(file)?,
        Ok(_) => return Ok(Gitignore::empty()),
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(Gitignore::empty());
        }
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&text);
    let mut builder = GitignoreBuilder::new(directory);
    for line in text.trim_start_matches('\u{feff}').lines() {
        // A pattern that makes no sense matches nothing, as in git.
        let _ = builder.add_line(None, line);
    }
    builder.build().map_err(io::Error::other)
}

/// The directory of a repository that git writes in; a worktree has one of its own.
fn git_directory(root: &Path) -> PathBuf {
    let git = root.join(GIT);
    match line(&git).as_deref().and_then(|text| text.strip_prefix("gitdir: ")) {
        Some(elsewhere) => root.join(elsewhere),
        None => git,
    }
}

/// What worktrees share with their main one.
fn common(mut git_directory: PathBuf) -> PathBuf {
    if let Some(common) = line(&git_directory.join("commondir")) {
        git_directory.push(common);
    }
    git_directory
}

/// A repository's `info/exclude`.
fn exclude_file(root: &Path) -> PathBuf {
    common(git_directory(root)).join("info/exclude")
}

fn line(path: &Path) -> Option<String> {
    fs::read_to_string(path).map(|text| text.trim_end().to_owned()).ok()
}

/// The files below a directory that git tracks. Where git is not installed, nothing is known to be tracked.
fn tracked(
    root: &Path,
    directory: &Path,
    environment: &Environment,
) -> Result<HashSet<PathBuf>, ProcessError> {
    // Something of this name that is not a repository, to git either.
    let own = git_directory(root);
    if own.join("HEAD").symlink_metadata().is_err() || !common(own).join("objects").is_dir() {
        return Ok(HashSet::new());
    }
    let git = Git::in_repository_of(directory, environment);
    match git.records(["ls-files", "-z"], None) {
        Ok(names) => Ok(names.into_iter().map(|name| directory.join(name)).collect()),
        Err(ProcessError::Start { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(HashSet::new())
        }
        Err(error) => Err(error),
    }
}

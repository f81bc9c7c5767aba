//! What git's index holds: the files of the next commit as they will be.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::environment::Environment;
use super::git::Git;
use super::process::ProcessError;

/// The index of the repository that a directory is in; inside a hook, the one that is about to be committed.
pub struct Index {
    git: Git,
    root: PathBuf,
}

/// Files, and what they hold.
pub type Texts = Vec<(PathBuf, Zeroizing<Vec<u8>>)>;

impl Index {
    /// Finds the index.
    ///
    /// # Errors
    /// git is missing, or the directory is not in a repository.
    pub fn of(directory: &Path, environment: &Environment) -> Result<Self, ProcessError> {
        let git = Git::here(environment, directory);
        let root = git.top()?;
        Ok(Self { git, root })
    }

    /// The root of the work tree.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The files that differ from the last commit, by their paths in the work tree; below paths where some are
    /// given. Links, submodules and what the next commit removes are not among them.
    ///
    /// # Errors
    /// git fails.
    pub fn staged(&self, paths: &[PathBuf]) -> Result<BTreeSet<PathBuf>, ProcessError> {
        let diff = [
            "--literal-pathspecs",
            "diff",
            "--cached",
            "--raw",
            "-z",
            "--no-renames",
            "--no-relative",
            "--diff-filter=d",
        ];
        let mut args: Vec<&OsStr> = diff.iter().map(OsStr::new).collect();
        if !paths.is_empty() {
            args.push(OsStr::new("--"));
            args.extend(paths.iter().map(|path| path.as_os_str()));
        }
        let mut fields = self.git.records(args, None)?.into_iter();
        let mut staged = BTreeSet::new();
        // `:100644 100644 … … M`, then the path.
        while let (Some(entry), Some(path)) = (fields.next(), fields.next()) {
            let mode = entry.as_bytes().split(|byte| *byte == b' ').nth(1).unwrap_or_default();
            if mode.starts_with(b"100") {
                staged.insert(self.root.join(path));
            }
        }
        Ok(staged)
    }

    /// The files that hold a text.
    ///
    /// # Errors
    /// git fails.
    pub fn with(&self, text: &str) -> Result<BTreeSet<PathBuf>, ProcessError> {
        let grep =
            ["grep", "--cached", "--no-color", "-l", "-z", "-F", "--full-name", "-e", text, "--", ":/"];
        let names = match self.git.records(grep, None) {
            // git's word for none.
            Err(ProcessError::Failed { status, .. }) if status.code() == Some(1) => Vec::new(),
            names => names?,
        };
        Ok(names.into_iter().map(|name| self.root.join(name)).collect())
    }

    /// What the index has of a file; `None` where it has nothing.
    ///
    /// # Errors
    /// git fails.
    pub fn text(&self, path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, ProcessError> {
        let Ok(inside) = path.strip_prefix(&self.root) else { return Ok(None) };
        let mut pathspec = OsString::from(":(top,literal)");
        pathspec.push(inside);
        let entries = self.entries(&pathspec)?;
        entries.get(path).map(|object| self.git.blob(object)).transpose()
    }

    /// What the index has of many files, without those of which it has nothing. git runs twice, however many they are.
    ///
    /// # Errors
    /// git fails.
    pub fn texts(&self, paths: &[&PathBuf]) -> Result<Texts, ProcessError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let mut entries = self.entries(OsStr::new(":/"))?;
        let known = paths.iter().filter_map(|path| entries.remove_entry(*path));
        let (paths, objects): (Vec<_>, Vec<_>) = known.unzip();
        Ok(paths.into_iter().zip(self.git.blobs(&objects)?).collect())
    }

    /// The objects of the files that a pathspec matches, by path.
    fn entries(&self, pathspec: &OsStr) -> Result<HashMap<PathBuf, String>, ProcessError> {
        let args = ["ls-files", "--stage", "-z", "--full-name", "--"].map(OsStr::new);
        let entries = self.git.records(args.into_iter().chain([pathspec]), None)?;
        // `mode object stage`, a tab, and the path. Only merged entries have the stage 0.
        let parsed = entries.iter().filter_map(|entry| {
            let text = entry.as_bytes();
            let tab = text.iter().position(|byte| *byte == b'\t')?;
            let mut words = std::str::from_utf8(&text[..tab]).ok()?.split(' ').skip(1);
            let (object, stage) = (words.next()?, words.next()?);
            let path = self.root.join(OsStr::from_bytes(&text[tab + 1..]));
            (stage == "0").then(|| (path, object.to_owned()))
        });
        Ok(parsed.collect())
    }
}

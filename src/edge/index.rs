//! What git's index holds: the files of the next commit as they will be.
//!
//! git is asked where the run was started and with the variables of the run: inside a hook they name the index that
//! is about to be committed.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::environment::Environment;
use super::process::{self, ProcessError};

/// The index of the repository that a directory is in.
pub struct Index<'a> {
    directory: &'a Path,
    environment: &'a Environment,
    root: PathBuf,
}

impl<'a> Index<'a> {
    /// Finds the index.
    ///
    /// # Errors
    /// git is missing, or the directory is in no repository.
    pub fn of(directory: &'a Path, environment: &'a Environment) -> Result<Self, ProcessError> {
        let mut index = Self { directory, environment, root: PathBuf::new() };
        let mut root = index.run(&["rev-parse", "--show-toplevel"], &[])?;
        if root.last() == Some(&b'\n') {
            root.pop();
        }
        index.root = PathBuf::from(OsString::from_vec(root));
        Ok(index)
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
        let diff = ["diff", "--cached", "--raw", "-z", "--no-renames", "--no-relative", "--diff-filter=d"];
        let list = self.run(&diff, paths)?;
        let mut fields = list.split(|byte| *byte == 0);
        let mut staged = BTreeSet::new();
        // `:100644 100644 … … M`, then the path.
        while let (Some(entry), Some(path)) = (fields.next(), fields.next()) {
            let mode = entry.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
            if mode.starts_with(b"100") {
                staged.insert(self.root.join(OsStr::from_bytes(path)));
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
        let list = match self.run(&grep, &[]) {
            // git's word for none.
            Err(ProcessError::Failed { status, .. }) if status.code() == Some(1) => Vec::new(),
            list => list?,
        };
        let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(|name| self.root.join(OsStr::from_bytes(name))).collect())
    }

    /// What the index has of a file; `None` where it has nothing.
    #[must_use]
    pub fn text(&self, path: &Path) -> Option<Vec<u8>> {
        let inside = path.strip_prefix(&self.root).ok()?;
        let mut object = OsString::from(":");
        object.push(inside);
        let mut git = self.git();
        git.args(["cat-file", "blob"]).arg(object);
        process::capture(&mut git, None).ok().map(|text| text.to_vec())
    }

    fn git(&self) -> Command {
        let mut git = process::command("git", self.environment);
        // No program that the repository names is started for this.
        git.args(["-c", "core.fsmonitor=false"]).current_dir(self.directory);
        git
    }

    fn run(&self, args: &[&str], paths: &[PathBuf]) -> Result<Vec<u8>, ProcessError> {
        let mut git = self.git();
        git.args(args);
        if !paths.is_empty() {
            git.arg("--").args(paths);
        }
        process::capture(&mut git, None).map(|text| text.to_vec())
    }
}

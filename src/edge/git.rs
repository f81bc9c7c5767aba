//! git, run for what it knows: objects, the index, its configuration. Every run of git goes through here.
//!
//! git gets the variables of the run. Inside a hook these name the repository and the index that are about to be
//! committed, which is right for questions about that commit ([`Git::here`]), and wrong for a directory that was
//! found on the way ([`Git::in_repository_of`]). No pager, no file system monitor and no lock is used for reading.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use zeroize::Zeroizing;

use super::environment::Environment;
use super::process::{self, ProcessError};

/// Variables by which git tells a hook about the repository that it runs for.
const OF_HOOKS: [&str; 7] = [
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
];
/// No file of secrets is larger: 256 MiB.
const LARGEST_BLOB: u64 = 256 << 20;

/// git in a directory.
#[derive(Clone, Debug)]
pub struct Git {
    environment: Environment,
    directory: PathBuf,
}

/// The versions of a file that the index holds unmerged, as objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// The common base.
    pub base: Option<String>,
    /// Ours.
    pub ours: Option<String>,
    /// Theirs.
    pub theirs: Option<String>,
}

impl Git {
    /// git as if started in a directory, for the repository that the run is about.
    #[must_use]
    pub fn here(environment: &Environment, directory: &Path) -> Self {
        let environment = environment.clone().with("GIT_OPTIONAL_LOCKS", "0");
        Self { environment, directory: directory.to_path_buf() }
    }

    /// git for the repository that a directory lies in, whatever repository a hook was started for.
    #[must_use]
    pub fn in_repository_of(directory: &Path, environment: &Environment) -> Self {
        let environment = OF_HOOKS.iter().fold(environment.clone(), |all, name| all.without(name));
        Self::here(&environment, directory)
    }

    /// What a command prints, up to 16 MiB.
    ///
    /// # Errors
    /// git is missing or fails; the error has its words.
    pub fn output<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Zeroizing<Vec<u8>>, ProcessError> {
        process::capture(&mut self.command(args), None)
    }

    /// Every record that a command prints with `-z`, however many there are.
    ///
    /// # Errors
    /// As [`Git::output`].
    pub fn records<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: Option<&[u8]>,
    ) -> Result<Vec<OsString>, ProcessError> {
        let mut records = Vec::new();
        process::records(&mut self.command(args), input, |record| {
            records.push(OsStr::from_bytes(record).to_owned());
        })?;
        Ok(records)
    }

    /// The path that a command prints, on a line of its own.
    ///
    /// # Errors
    /// As [`Git::output`].
    pub fn path<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<PathBuf, ProcessError> {
        let output = self.output(args)?;
        let line = output.strip_suffix(b"\n").unwrap_or(&output);
        Ok(self.directory.join(OsStr::from_bytes(line)))
    }

    /// The root of the work tree.
    ///
    /// # Errors
    /// The directory is in none.
    pub fn top(&self) -> Result<PathBuf, ProcessError> {
        self.path(["rev-parse", "--show-toplevel"])
    }

    /// The content of an object, as it was committed.
    ///
    /// # Errors
    /// There is no such object, or it is not a file.
    pub fn blob(&self, object: impl AsRef<OsStr>) -> Result<Zeroizing<Vec<u8>>, ProcessError> {
        let args = [OsStr::new("cat-file"), OsStr::new("blob"), object.as_ref()];
        process::capture_up_to(LARGEST_BLOB, &mut self.command(args), None)
    }

    /// The versions of a file that the index holds unmerged.
    ///
    /// # Errors
    /// The file's directory is not in a repository.
    pub fn stages(&self, file: &Path) -> Result<Stages, ProcessError> {
        let args = ["--literal-pathspecs", "ls-files", "--unmerged", "-z", "--"].map(OsStr::new);
        let mut stages = Stages::default();
        for entry in self.records(args.into_iter().chain([file.as_os_str()]), None)? {
            // `mode object stage`, a tab, and the path.
            let head = entry.as_bytes().split(|byte| *byte == b'\t').next().unwrap_or_default();
            let mut words = std::str::from_utf8(head).unwrap_or_default().split(' ').skip(1);
            let (Some(object), Some(stage)) = (words.next(), words.next()) else { continue };
            let version = match stage {
                "1" => &mut stages.base,
                "2" => &mut stages.ours,
                "3" => &mut stages.theirs,
                _ => continue,
            };
            *version = Some(object.to_owned());
        }
        Ok(stages)
    }

    /// The value of an attribute for each of some paths; those for which it is not specified have `unspecified`.
    ///
    /// # Errors
    /// As [`Git::output`]; a path outside of the work tree.
    pub fn attribute(
        &self,
        name: &str,
        paths: &[&Path],
        staged: bool,
    ) -> Result<Vec<(PathBuf, OsString)>, ProcessError> {
        let mut args = vec!["check-attr", "-z", "--stdin"];
        args.extend(staged.then_some("--cached"));
        args.push(name);
        let mut input = Vec::new();
        for path in paths {
            input.extend_from_slice(path.as_os_str().as_bytes());
            input.push(0);
        }
        let records = self.records(&args, Some(&input))?;
        let mut values = Vec::new();
        let mut records = records.into_iter();
        // Path, name of the attribute, value.
        while let (Some(path), Some(_), Some(value)) = (records.next(), records.next(), records.next()) {
            values.push((path.into(), value));
        }
        Ok(values)
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        // No program that the repository names is started.
        let mut command = process::command("git", &self.environment);
        command.args(["--no-pager", "-c", "core.fsmonitor=false"]).args(args).current_dir(&self.directory);
        command
    }
}

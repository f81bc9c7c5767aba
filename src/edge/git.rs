//! git, run for what it knows: objects, the index, its configuration.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::environment::Environment;
use super::process::{self, ProcessError};

/// git in a directory.
#[derive(Clone, Debug)]
pub struct Git<'a> {
    environment: &'a Environment,
    directory: PathBuf,
}

impl<'a> Git<'a> {
    /// git as if started in a directory.
    #[must_use]
    pub fn new(environment: &'a Environment, directory: &Path) -> Self {
        Self { environment, directory: directory.to_path_buf() }
    }

    /// What a command prints.
    ///
    /// # Errors
    /// git is missing or fails; the error has its words.
    pub fn output<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Zeroizing<Vec<u8>>, ProcessError> {
        // Reading is all that is wanted: no monitor that the repository names is started for it.
        let mut command = process::command("git", self.environment);
        command.args(["-c", "core.fsmonitor=false"]).args(args).current_dir(&self.directory);
        process::capture(&mut command, None)
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
    /// There is none of this name, or it is no file.
    pub fn blob(&self, object: impl AsRef<OsStr>) -> Result<Zeroizing<Vec<u8>>, ProcessError> {
        self.output([OsStr::new("cat-file"), OsStr::new("blob"), object.as_ref()])
    }

    /// The versions of a file that the index holds unmerged: the common base, ours and theirs, as objects.
    ///
    /// # Errors
    /// The file's directory is in no repository.
    pub fn stages(&self, file: &Path) -> Result<[Option<String>; 3], ProcessError> {
        let args = ["--literal-pathspecs", "ls-files", "--unmerged", "-z", "--"].map(OsStr::new);
        let listed = self.output(args.into_iter().chain([file.as_os_str()]))?;
        let mut stages = [const { None }; 3];
        for entry in listed.split(|byte| *byte == 0) {
            // `mode object stage`, a tab, and the path.
            let head = entry.split(|byte| *byte == b'\t').next().unwrap_or_default();
            let mut words = std::str::from_utf8(head).unwrap_or_default().split(' ').skip(1);
            let (Some(object), Some(stage)) = (words.next(), words.next()) else { continue };
            let slot = stage.parse().ok().and_then(|stage: usize| stages.get_mut(stage.checked_sub(1)?));
            if let Some(slot) = slot {
                *slot = Some(object.to_owned());
            }
        }
        Ok(stages)
    }
}

//! git, run for what it knows: objects, the index, its configuration. Every run of git goes through here.
//!
//! git gets its own variables, and none that could hold a key. Inside a hook they name the repository and the index of
//! the commit. That is right for questions about the commit ([`Git::here`]) and wrong for any other directory
//! ([`Git::in_repository_of`]). civm reads without a pager, a file system monitor or a lock. Everything else in git's
//! configuration counts as in any other run of git: what a repository's owner may start there is what they may start
//! with `git status`.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use zeroize::Zeroizing;

use super::environment::Environment;
use super::process::{self, ProcessError};

/// Variables that belong to one repository, as `git rev-parse --local-env-vars` lists them, without those for
/// configuration; and the namespace.
const OF_HOOKS: [&str; 13] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
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
        let environment = environment.for_git().with("GIT_OPTIONAL_LOCKS", "0");
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

    /// The contents of many objects, in their order, by one run of git.
    ///
    /// # Errors
    /// One of them is not there, or is too large.
    pub fn blobs(&self, objects: &[String]) -> Result<Vec<Zeroizing<Vec<u8>>>, ProcessError> {
        let input = objects.iter().map(|object| format!("{object}\n")).collect::<String>();
        let mut command = self.command(["cat-file", "--batch"]);
        process::read_with(&mut command, Some(input.as_bytes()), |mut pipe| {
            objects.iter().map(|_| blob_in(&mut pipe)).collect()
        })
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

/// The next object that `cat-file --batch` prints: `object blob size`, the content, and a newline.
fn blob_in(pipe: &mut impl BufRead) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut head = String::new();
    pipe.read_line(&mut head)?;
    let size = head.trim_end().rsplit_once(" blob ").and_then(|(_, size)| size.parse::<u64>().ok());
    let size = size.filter(|size| *size <= LARGEST_BLOB).and_then(|size| usize::try_from(size).ok());
    let size = size.ok_or_else(|| io::Error::other(format!("git says `{}`", head.trim_end())))?;
    let mut content = Zeroizing::new(vec![0; size]);
    pipe.read_exact(&mut content)?;
    pipe.read_exact(&mut [0])?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_sees_its_own_variables_and_no_keys() {
        let run = Environment::of_process()
            .with("SOPS_AGE_KEY", "a key")
            .with("GIT_DIR", "/elsewhere")
            .with("GIT_LITERAL_PATHSPECS", "1")
            .with("GIT_AUTHOR_NAME", "me");
        let names = |git: &Git| -> Vec<String> {
            let command = git.command(["version"]);
            command.get_envs().map(|(name, _)| name.to_string_lossy().into_owned()).collect()
        };
        let here = names(&Git::here(&run, Path::new("/")));
        let there = names(&Git::in_repository_of(Path::new("/"), &run));
        for (name, is_here, is_there) in [
            ("SOPS_AGE_KEY", false, false),
            ("GIT_LITERAL_PATHSPECS", false, false),
            ("GIT_DIR", true, false),
            ("GIT_AUTHOR_NAME", true, true),
            ("PATH", true, true),
        ] {
            let has = |names: &[String]| names.iter().any(|known| known == name);
            assert_eq!((has(&here), has(&there)), (is_here, is_there), "{name}");
        }
    }

    #[test]
    fn many_objects_come_in_their_order_whatever_they_hold() {
        let directory = tempfile::tempdir().expect("a directory");
        let git = Git::in_repository_of(directory.path(), &Environment::of_process());
        if git.output(["init", "-q"]).is_err() {
            return eprintln!("skipped: git is not installed");
        }
        let contents = [&b"one\n"[..], b"", b"\0\n\n", b"x blob 3\nabc", &[b'y'; 100_000]];
        let objects = contents.map(|content| {
            std::fs::write(directory.path().join("file"), content).expect("written");
            let object = git.output(["hash-object", "-w", "file"]).expect("stored");
            String::from_utf8_lossy(&object).trim_end().to_owned()
        });
        let read = git.blobs(&objects).expect("read");
        assert!(read.iter().map(|content| content.as_slice()).eq(contents));
        assert_eq!(git.blobs(&[]).expect("nothing").len(), 0);
        let missing = git.blobs(&[objects[0].clone(), "0".repeat(40)]).expect_err("missing").to_string();
        assert!(missing.contains("missing"), "{missing}");
    }

    #[test]
    fn what_git_lists_as_a_repositorys_own_variables_stays_behind() {
        let git = Git::here(&Environment::of_process(), Path::new("/"));
        let Ok(listed) = git.output(["rev-parse", "--local-env-vars"]) else {
            return eprintln!("skipped: git is not installed");
        };
        let listed = String::from_utf8_lossy(&listed).into_owned();
        for name in listed.lines().filter(|name| !name.starts_with("GIT_CONFIG")) {
            assert!(OF_HOOKS.contains(&name) || name == "GIT_INTERNAL_SUPER_PREFIX", "{name}");
        }
    }
}

//! Child processes of a build: their output goes to one log file, an error quotes its end.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{Error, tools};
use crate::edge::environment::Environment;
use crate::edge::process;

/// How often the log is looked at for new lines while a child runs.
const POLL: Duration = Duration::from_millis(200);
/// How many lines of the log an error quotes.
const QUOTED_LINES: usize = 6;

/// What the programs of one build have in common.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// The log that their output goes to.
    log: PathBuf,
    /// The variables that they see.
    environment: Environment,
    /// What is removed if this process dies.
    remains: Vec<PathBuf>,
}

impl Job {
    /// A job with an empty log at that path, whose programs see these variables. If this process dies, `remains`
    /// is removed.
    pub(super) fn new(log: PathBuf, environment: &Environment, remains: &[PathBuf]) -> Result<Self, Error> {
        File::create(&log).map_err(Error::io("create", &log))?;
        Ok(Self { log, environment: environment.clone(), remains: remains.to_vec() })
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    fn append(&self) -> Result<File, Error> {
        OpenOptions::new().append(true).open(&self.log).map_err(Error::io("open", &self.log))
    }

    /// Where a program is that another one runs.
    pub(super) fn find(&self, program: &'static str) -> Result<PathBuf, Error> {
        tools::find(program, &self.environment)
    }

    /// All that was said so far.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines that say something.
    fn last_lines(&self) -> Vec<String> {
        let text = self.text();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let from = lines.len().saturating_sub(QUOTED_LINES);
        lines[from..].iter().map(|line| (*line).to_owned()).collect()
    }
}

/// One program of a build.
pub(super) struct Tool<'a> {
    step: &'static str,
    program: &'static str,
    job: &'a Job,
    command: Command,
    leashed: bool,
}

impl<'a> Tool<'a> {
    /// A program that runs in `/`, without input.
    pub(super) fn new(step: &'static str, program: &'static str, job: &'a Job) -> Result<Self, Error> {
        let file = tools::find(program, &job.environment)?;
        Ok(Self { step, program, job, command: plain(&file, &job.environment), leashed: false })
    }

    /// A program that ends with this process, however that ends, and its children with it.
    pub(super) fn leashed(step: &'static str, program: &'static str, job: &'a Job) -> Result<Self, Error> {
        let mut tool = Self::new(step, program, job)?;
        // A group of its own, which can be told as a whole; a parent alone may wait for its children.
        tool.command.process_group(0);
        tool.leashed = true;
        Ok(tool)
    }

    /// Named in errors as another program, which it runs.
    pub(super) fn named(mut self, program: &'static str) -> Self {
        self.program = program;
        self
    }

    pub(super) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(super) fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Another working directory than `/`.
    pub(super) fn in_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Runs it to its end, its output becoming a file.
    pub(super) fn into_file(mut self, path: &Path) -> Result<(), Error> {
        let file = File::create(path).map_err(Error::io("create", path))?;
        let errors = self.job.append()?;
        let status =
            self.command.stdout(file).stderr(errors).status().map_err(Error::io("run", self.program))?;
        if status.success() { Ok(()) } else { Err(self.failed(&status.to_string())) }
    }

    /// Runs it to its end.
    pub(super) fn run(self) -> Result<(), Error> {
        self.watch(|_| {})
    }

    /// Runs it to its end and shows its output, line by line.
    pub(super) fn watch(mut self, mut line: impl FnMut(&str)) -> Result<(), Error> {
        let mut log = self.job.append()?;
        writeln!(log, "== {}: {}", self.step, self.words()).map_err(Error::io("write", self.job.log()))?;
        let mut reader = File::open(self.job.log()).map_err(Error::io("open", self.job.log()))?;
        reader.seek(SeekFrom::End(0)).map_err(Error::io("read", self.job.log()))?;
        let errors = log.try_clone().map_err(Error::io("open", self.job.log()))?;
        let mut child = self
            .command
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(errors))
            .spawn()
            .map_err(Error::io("run", self.program))?;
        let _leash = if self.leashed { Some(Leash::tie(child.id(), &self.job.remains)?) } else { None };
        let mut pending = String::new();
        let status = loop {
            let ended = child.try_wait().map_err(Error::io("wait for", self.program))?;
            let mut bytes = Vec::new();
            let _ = reader.read_to_end(&mut bytes);
            pending.push_str(&String::from_utf8_lossy(&bytes));
            while let Some(end) = pending.find('\n') {
                line(pending[..end].trim_end());
                pending.drain(..=end);
            }
            match ended {
                Some(status) => break status,
                None => thread::sleep(POLL),
            }
        };
        if status.success() { Ok(()) } else { Err(self.failed(&status.to_string())) }
    }

    /// Runs it to its end and returns what it printed; only its errors go to the log.
    pub(super) fn output(mut self) -> Result<String, Error> {
        let log = self.job.append()?;
        let output =
            self.command.stderr(Stdio::from(log)).output().map_err(Error::io("run", self.program))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(self.failed(&output.status.to_string()))
        }
    }

    /// The command as it would be typed.
    fn words(&self) -> String {
        let words = [self.command.get_program()].into_iter().chain(self.command.get_args());
        let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| self.program.to_owned())
    }

    fn failed(&self, status: &str) -> Error {
        Error::Tool {
            step: self.step,
            program: self.program.to_owned(),
            status: status.to_owned(),
            log: self.job.log.clone(),
            last: self.job.last_lines(),
        }
    }
}

/// What the shell of a [`Leash`] does once its input ends: the group `$0` is asked to end, and made to where it has
/// not in ten seconds; then what the build has made is removed.
const CLEAN_UP: &str = "read -r _; kill -s TERM -- \"-$0\"; for _ in 0 1 2 3 4 5 6 7 8 9; do \
    kill -s 0 -- \"-$0\" || break; sleep 1; done; kill -s KILL -- \"-$0\"; rm -rf -- \"$@\"";

/// A shell that waits for the end of its input, which is the end of this process, and then ends a group
/// of processes. It is in a group of its own, out of reach of Ctrl-C.
struct Leash {
    shell: Child,
}

impl Leash {
    fn tie(group: u32, remains: &[PathBuf]) -> Result<Self, Error> {
        let environment = Environment::empty().with_system_dirs();
        let shell = process::command("/bin/sh", &environment)
            .args(["-c", CLEAN_UP])
            .arg(group.to_string())
            .args(remains)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("run", "/bin/sh"))?;
        Ok(Self { shell })
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        // Before its input ends: the group is done by itself.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// A command in `/` (other users of a namespace cannot enter ours), without input.
pub(super) fn plain(program: &Path, environment: &Environment) -> Command {
    let mut command = process::command(program, environment);
    command.current_dir("/").stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> (tempfile::TempDir, Job) {
        let dir = tempfile::tempdir().expect("tempdir");
        let environment = Environment::of_process().for_package_tools();
        let job = Job::new(dir.path().join("log"), &environment, &[]).expect("log");
        (dir, job)
    }

    #[test]
    fn a_failure_quotes_the_end_of_the_output() {
        let (_dir, job) = job();
        let tool = Tool::new("trying", "sh", &job).expect("sh");
        let error = tool.args(["-c", "echo one; echo two >&2; exit 3"]).run().expect_err("fails");
        let text = error.to_string();
        assert!(text.contains("trying: sh failed (exit status: 3)"), "{text}");
        assert!(text.contains("\n  one") && text.contains("\n  two"), "{text}");
    }

    #[test]
    fn every_line_is_shown_once() {
        let (_dir, job) = job();
        let mut lines = Vec::new();
        let tool = Tool::new("trying", "sh", &job).expect("sh").args(["-c", "echo a; sleep 0.3; echo b"]);
        tool.watch(|line| lines.push(line.to_owned())).expect("runs");
        assert_eq!(lines, ["a", "b"]);
    }

    #[test]
    fn a_leashed_program_runs_as_usual() {
        let (_dir, job) = job();
        let tool = Tool::leashed("trying", "sh", &job).expect("sh");
        let mut lines = Vec::new();
        tool.args(["-c", "echo $PWD"]).watch(|line| lines.push(line.to_owned())).expect("runs");
        assert_eq!(lines, ["/"]);
    }

    #[test]
    fn a_program_sees_no_key_of_the_caller() {
        let dir = tempfile::tempdir().expect("tempdir");
        let caller = Environment::of_process().with("SOPS_AGE_KEY", "k").with("http_proxy", "http://p");
        let job = Job::new(dir.path().join("log"), &caller.for_package_tools(), &[]).expect("log");
        let seen = Tool::new("trying", "env", &job).expect("env").output().expect("runs");
        assert!(!seen.contains("SOPS") && seen.contains("http_proxy=http://p\n"), "{seen}");
        assert!(seen.contains("LC_ALL=C.UTF-8\n"), "{seen}");
    }

    #[test]
    fn when_its_holder_is_gone_the_leash_ends_a_group_with_its_children_and_removes_what_it_made() {
        let dir = tempfile::tempdir().expect("tempdir");
        let remains = [dir.path().join("one"), dir.path().join("two of them")];
        for dir in &remains {
            std::fs::create_dir_all(dir.join("sub")).expect("mkdir");
        }
        // One that does not want to end at once.
        for script in ["sleep 60 & wait", "trap '' TERM; sleep 2"] {
            let mut group = Command::new("sh");
            group.args(["-c", script]).process_group(0);
            let mut group = group.spawn().expect("sh");
            let mut leash = Leash::tie(group.id(), &remains).expect("leash");
            // What the kernel does with the pipes of a process that is killed.
            drop(leash.shell.stdin.take());
            assert!(group.wait().is_ok());
            assert!(leash.shell.wait().is_ok());
        }
        assert!(remains.iter().all(|dir| !dir.exists()));
    }
}

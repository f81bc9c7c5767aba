//! A scene for a test: a private directory, a scrubbed environment, and civm run in it.

#![allow(dead_code, reason = "every test binary uses its own part")]

pub mod fidelity;
pub mod https;
pub mod shape;
pub mod traces;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A private directory with a home, a runtime directory and nothing of the machine's own environment.
pub struct Scene {
    dir: TempDir,
}

/// How a program ended.
pub struct Ran {
    /// What was run, for messages.
    pub what: String,
    /// Exit code; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Scene {
    pub fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        for sub in ["home", "tmp", "run", "project"] {
            fs::create_dir(dir.path().join(sub)).expect("a directory");
        }
        Self { dir }
    }

    /// Below the scene; the project and working directory is `project`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file of the project.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path("project").join(name)
    }

    /// Writes a file of the project, with its directories.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(&path, content).expect("a file");
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A program in the project with the scene's environment.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .current_dir(self.path("project"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// git in the project, as somebody with a name; false where it fails or is not installed.
    pub fn git(&self, args: &[&str]) -> bool {
        let mut command = self.command("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(args);
        command.output().is_ok_and(|ran| ran.status.success())
    }

    /// civm itself.
    pub fn civm(&self, args: &[&str]) -> Command {
        let mut command = self.command(assert_cmd::cargo::cargo_bin!("civm"));
        command.args(args);
        command
    }

    /// Runs civm on a terminal at which somebody types a line. `script`, of every Debian, makes the terminal; what
    /// is shown there is the standard output.
    pub fn on_terminal(&self, words: &str, typed: &str) -> Ran {
        let civm = self.civm(&[]).get_program().to_owned();
        let mut command = self.command("script");
        command.args(["-qec", &format!("{} {words}", civm.display()), "/dev/null"]).env("TERM", "dumb");
        run_with(&mut command, format!("{typed}\n").as_bytes())
    }
}

/// Runs to the end.
pub fn run(command: &mut Command) -> Ran {
    run_with(command, b"")
}

/// Runs to the end with bytes on standard input.
pub fn run_with(command: &mut Command, stdin: &[u8]) -> Ran {
    use std::io::Write as _;
    use std::process::Stdio;
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut input = child.stdin.take().expect("piped");
    let bytes = stdin.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().expect("output");
    // A program that does not read its input closes it early.
    let _ = writer.join().expect("the writer does not panic");
    Ran {
        what,
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Ran {
    /// Standard output as text.
    pub fn out(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8 on stdout")
    }

    /// Demands an exit code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            code,
            "{}\nstdout: {}\nstderr: {}",
            self.what,
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        );
        self
    }

    /// Demands success.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Demands a piece of stderr.
    #[track_caller]
    pub fn says(self, piece: &str) -> Self {
        assert!(self.stderr.contains(piece), "{}\nno {piece:?} in stderr:\n{}", self.what, self.stderr);
        self
    }

    /// Demands that something is said nowhere.
    #[track_caller]
    pub fn silent_on(self, secret: &str) -> Self {
        let out = String::from_utf8_lossy(&self.stdout);
        assert!(!out.contains(secret) && !self.stderr.contains(secret), "{} tells a secret", self.what);
        self
    }
}

/// The civm that stands in for another tool: `$CIVM_BINARY` where that is set, as for the tests with guests.
pub fn civm_binary() -> PathBuf {
    let built = || assert_cmd::cargo::cargo_bin!("civm").to_path_buf();
    std::env::var_os("CIVM_BINARY").map_or_else(built, PathBuf::from)
}

/// A tool that tests compare with: in `$CIVM_PEERS` (as `devshell/test` sets it), else in PATH.
pub fn peer(name: &str) -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("CIVM_PEERS") {
        let path = Path::new(&dir).join(name);
        if path.is_file() {
            return Some(path);
        }
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())
}

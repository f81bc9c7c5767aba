//! Where instances keep what outlives a process, and how one finds out which are alive.
//!
//! An instance belongs to a project and has a name there. Below the state directory it has `PROJECT/NAME/` with its logs,
//! its record and a lock; while it runs, a directory in memory holds its sockets. Alive is whose lock is
//! held; a process number alone is never trusted.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use sha2::{Digest, Sha256};

use crate::edge::environment::Environment;
use crate::edge::hex;
use crate::edge::lock::is_held;
use crate::edge::private_dir;
use crate::instance::error::{Error, Tail};
use crate::vm::agent::printable;
use crate::vm::spec::check_name;

mod garbage;
mod lock;
mod process;
mod record;
mod stages;
mod view;

pub use garbage::{Garbage, Limits};
pub(crate) use lock::{lock_patiently, try_lock};
pub use process::Process;
pub(crate) use record::{CONSOLE_SOCKET, CONTROL_SOCKET, read_small};
pub use record::{Phase, Record};
pub(crate) use stages::StageProcess;
use stages::Stages;
pub use view::View;

/// Name of the directory for an instance's sockets where no place in memory can be had.
pub(crate) const RUN: &str = "run";
/// Lines of the console that an error repeats.
const CONSOLE_TAIL_LINES: usize = 20;
/// Lines of QEMU's messages that an error repeats.
const QEMU_TAIL_LINES: usize = 10;
/// Bytes at a log's end in which those lines are looked for.
const TAIL_BYTES: u64 = 16 << 10;

/// The state directory of this user.
#[derive(Clone, Debug)]
pub struct Home {
    path: PathBuf,
}

/// The state of one project.
#[derive(Clone, Debug)]
pub struct ProjectState {
    /// The project's own directory.
    pub project: PathBuf,
    /// Its directory below the state directory.
    pub path: PathBuf,
}

/// The state of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The project's own directory.
    pub project: PathBuf,
    /// Its name, unique in the project.
    pub name: String,
    /// The instance's directory below the state directory.
    pub path: PathBuf,
}

impl Home {
    /// `$XDG_STATE_HOME/civm`, else `~/.local/state/civm`; made if need be.
    ///
    /// # Errors
    /// No home, it cannot be written, or it is another user's.
    pub fn find(environment: &Environment) -> Result<Self, Error> {
        let path = environment.state_dir().ok_or(Error::NoHome)?.join("civm");
        make_directory(&path)?;
        let own = Uid::effective().as_raw();
        match fs::metadata(&path).map_err(Error::file("cannot read", &path))?.uid() {
            owner if owner == own => Ok(Self { path }),
            owner => Err(Error::ForeignState { path, owner, own }),
        }
    }

    /// The same, if it is there; nothing is made.
    #[must_use]
    pub fn existing(environment: &Environment) -> Option<Self> {
        let path = environment.state_dir()?.join("civm");
        path.is_dir().then_some(Self { path })
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state of a project; made if need be.
    ///
    /// # Errors
    /// The project is not there, or the state cannot be written.
    pub fn project(&self, project: &Path) -> Result<ProjectState, Error> {
        let project = project.canonicalize().map_err(Error::file("cannot find project", project))?;
        let path = self.directory_of(&project);
        make_directory(&path)?;
        Ok(ProjectState { project, path })
    }

    /// Whether anything was ever started in a project.
    #[must_use]
    pub fn knows(&self, project: &Path) -> bool {
        project.canonicalize().is_ok_and(|project| self.directory_of(&project).is_dir())
    }

    /// Where the state of a project is, whose path has no links.
    fn directory_of(&self, project: &Path) -> PathBuf {
        let name = project.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let readable: String =
            name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(24).collect();
        let digest = Sha256::digest(project.as_os_str().as_encoded_bytes());
        self.path.join(format!("{readable}-{}", hex::encode(&digest[..4])))
    }

    /// All instances as they are now.
    #[must_use]
    pub fn view(&self) -> View {
        View::of(self)
    }

    /// The running instances of this user. What dead ones left is swept.
    #[must_use]
    pub fn running(&self) -> Vec<Record> {
        let view = self.view();
        view.sweep();
        view.running()
    }
}

impl ProjectState {
    /// The names of the instances that were ever started, sorted.
    #[must_use]
    pub fn instances(&self) -> Vec<String> {
        let started = directories(&self.path).into_iter().filter(|path| Record::is_in(path));
        let mut names: Vec<String> = started.map(|path| name_of(&path)).collect();
        names.sort();
        names
    }

    /// The state of one of the project's instances; made if need be.
    ///
    /// # Errors
    /// An impossible name, or the state cannot be written.
    pub fn place(&self, name: &str) -> Result<Place, Error> {
        check_name(name)?;
        let path = self.path.join(name);
        make_directory(&path)?;
        Ok(Place { project: self.project.clone(), name: name.to_owned(), path })
    }
}

impl Place {
    /// The lock that the instance's keeper holds.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// The lock that the instance's supervisor holds.
    #[must_use]
    pub fn supervisor_lock(&self) -> PathBuf {
        self.path.join("supervisor.lock")
    }

    /// What the serial console printed.
    #[must_use]
    pub fn console_log(&self) -> PathBuf {
        self.path.join("console.log")
    }

    /// What QEMU and the stage had to say.
    #[must_use]
    pub fn qemu_log(&self) -> PathBuf {
        self.path.join("qemu.log")
    }

    /// What happened, a JSON object a line.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    /// The disk of an instance that is thrown away.
    #[must_use]
    pub fn ephemeral_disk(&self) -> PathBuf {
        self.path.join("ephemeral.qcow2")
    }

    /// The host keys that ssh accepts for this instance.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.path.join("known_hosts")
    }

    /// The host key of an instance that has none among its secrets.
    #[must_use]
    pub fn host_key(&self) -> PathBuf {
        self.path.join("ssh_host_ed25519_key")
    }

    /// The record of the running instance; `None` where it does not run.
    ///
    /// # Errors
    /// There is a record that this civm cannot read.
    pub fn running(&self) -> Result<Option<Record>, Error> {
        let record = self.load()?;
        Ok(if self.is_alive() { record } else { None })
    }

    /// The record of the last run, be it over; `None` also where this civm cannot read it.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        self.load().ok().flatten()
    }

    /// The record of the last run, be it over: in the state directory, or beside the sockets of a machine that has
    /// lost its directory.
    ///
    /// # Errors
    /// There is one that this civm cannot read.
    pub fn load(&self) -> Result<Option<Record>, Error> {
        if let Some(record) = Record::load(&self.path)? {
            return Ok(Some(record));
        }
        let stages = Stages::now();
        stages.of(self).find_map(|stage| stage.runtime.as_deref()).map_or(Ok(None), Record::load)
    }

    /// Whether a keeper or a supervisor lives.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.holds_locks() || Stages::now().has(self)
    }

    fn holds_locks(&self) -> bool {
        is_held(&self.lock()) || is_held(&self.supervisor_lock())
    }

    /// What to say of a machine that runs without its state directory.
    #[must_use]
    pub fn lost_directory(&self) -> Option<String> {
        // Most have not, which is seen without a look at all processes.
        if Record::is_in(&self.path) { None } else { self.lost_directory_of(&Stages::now()) }
    }

    fn lost_directory_of(&self, stages: &Stages) -> Option<String> {
        // One that has just started has its locks a moment later.
        let lost = |stage: &StageProcess| {
            stage.runtime.is_some() && Record::load(&self.path).is_ok_and(|r| r.is_none())
        };
        (stages.of(self).any(lost) && !self.holds_locks()).then(|| {
            format!(
                "the state directory {} was removed while `{}` ran: `civm down {}` stops the machine",
                self.path.display(),
                self.name,
                self.name
            )
        })
    }

    /// The record of a living instance. One that says `ended` is that of a run which the keeper still
    /// cleans up after, or of the run before the one whose supervisor is coming up.
    fn alive(&self, mut record: Record) -> Record {
        if record.phase == Phase::Ended {
            let starting = is_held(&self.supervisor_lock());
            record.phase = if starting { Phase::Starting } else { Phase::Stopping };
        }
        record
    }

    /// Removes what a dead instance left in memory, and says what it was. A living one is spared.
    #[must_use = "it says what was removed"]
    pub fn sweep_report(&self) -> Vec<String> {
        let mut swept = Vec::new();
        let remains = |record: &Record| record.phase != Phase::Ended || record.runtime.is_some();
        if !self.record().is_some_and(|record| remains(&record)) {
            return swept;
        }
        // The lock is held while sweeping, so that nobody starts meanwhile.
        let Ok(Some(_lock)) = try_lock(&self.lock()) else { return swept };
        if is_held(&self.supervisor_lock()) || Stages::now().has(self) {
            return swept;
        }
        let Some(mut record) = self.record().filter(remains) else { return swept };
        if let Some(runtime) = record.runtime.take().filter(|runtime| self.owns(runtime))
            && fs::remove_dir_all(&runtime).is_ok()
        {
            swept.push(format!("removed {}", runtime.display()));
        }
        if record.phase != Phase::Ended {
            record.phase = Phase::Ended;
            record.remove_ephemeral_disk(&self.path);
            self.remove_runner_files();
            record.reason.get_or_insert_with(|| "killed".to_owned());
        }
        // Without it the next sweep does the same again.
        let _ = record.save(&self.path);
        swept
    }

    /// Removes the directory in memory that a run of this instance had, and says so. A living one is spared.
    pub(crate) fn sweep_runtime(&self, runtime: &Path) -> Option<String> {
        // The lock is held while sweeping, so that nobody starts meanwhile.
        let _lock = try_lock(&self.lock()).ok().flatten()?;
        let is_over = !is_held(&self.supervisor_lock()) && !Stages::now().has(self);
        let removed = is_over && self.owns(runtime) && fs::remove_dir_all(runtime).is_ok();
        removed.then(|| format!("removed {}", runtime.display()))
    }

    /// Whether a path that a record names is a directory which civm makes for the sockets of an instance. Nothing else
    /// is removed, whatever a record says.
    fn owns(&self, runtime: &Path) -> bool {
        (runtime == self.path.join(RUN) && runtime.is_dir()) || private_dir::is_ours(runtime)
    }

    /// The link to the runner of an instance that is a machine of a NixOS configuration; Nix keeps what it leads to.
    #[must_use]
    pub fn runner(&self) -> PathBuf {
        self.path.join("runner")
    }

    /// Where the runner of a NixOS machine has what it makes for one run.
    #[must_use]
    pub fn runner_files(&self) -> PathBuf {
        self.path.join("runner-files")
    }

    /// Removes it, once that run is over.
    pub(crate) fn remove_runner_files(&self) {
        let _ = fs::remove_dir_all(self.runner_files());
    }

    /// The same without a report.
    pub fn sweep(&self) {
        drop(self.sweep_report());
    }

    /// The last lines of QEMU's messages and of the console.
    #[must_use]
    pub fn tail(&self) -> Tail {
        Tail {
            qemu: last_lines(&self.qemu_log(), QEMU_TAIL_LINES),
            console: last_lines(&self.console_log(), CONSOLE_TAIL_LINES),
        }
    }
}

pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::file("cannot create", path))
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|t| t.is_dir());
    entries.flatten().filter(is_directory).map(|entry| entry.path()).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let mut bytes = Vec::new();
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    // Control characters of a guest stay away from the terminal.
    let lines: Vec<String> = text.lines().map(printable).filter(|line| !line.trim().is_empty()).collect();
    lines.into_iter().rev().take(count).rev().collect()
}

#[cfg(test)]
mod tests;

//! The stages that run, found in the list of processes: even those whose state directory is gone.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use crate::instance::stage::{KEEPER, SUPERVISOR};
use crate::instance::state::Place;
use crate::instance::state::process::started;

/// Bytes of a process's arguments in which the first two of a stage's are.
const HEAD: usize = 256;

/// A keeper or a supervisor of this user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StageProcess {
    pid: Pid,
    /// When it started, in the kernel's ticks: number and start together name one process only.
    started: u64,
    /// The state that it was started for.
    pub(crate) place: Place,
    /// The instance's directory in memory, where a supervisor's arguments name it.
    pub(crate) runtime: Option<PathBuf>,
}

/// Every keeper and supervisor of this user at one moment. A look at all processes of the machine takes longer than
/// anything else that an instance is asked: who asks for many looks once.
#[derive(Debug)]
pub(super) struct Stages(Vec<StageProcess>);

impl Stages {
    pub(super) fn now() -> Self {
        let Ok(processes) = fs::read_dir("/proc") else { return Self(Vec::new()) };
        let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Self(numbers.filter_map(|pid| StageProcess::read(Pid::from_raw(pid))).collect())
    }

    pub(super) fn all(&self) -> &[StageProcess] {
        &self.0
    }

    /// Those of one instance.
    pub(super) fn of(&self, place: &Place) -> impl Iterator<Item = &StageProcess> {
        self.0.iter().filter(|stage| stage.place.path == place.path)
    }

    pub(super) fn has(&self, place: &Place) -> bool {
        self.of(place).next().is_some()
    }
}

impl StageProcess {
    /// Those of one instance.
    pub(crate) fn of(place: &Place) -> Vec<Self> {
        Stages::now().of(place).cloned().collect()
    }

    fn read(pid: Pid) -> Option<Self> {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let (place, runtime) = parse(&arguments(&directory)?)?;
        // The owner of its files says nothing: those of a process that dumps no core belong to root.
        let status = fs::read_to_string(directory.join("status")).ok()?;
        let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        let user: u32 = users.split_whitespace().next()?.parse().ok()?;
        (user == Uid::current().as_raw()).then_some(())?;
        Some(Self { pid, started: started(&directory)?, place, runtime })
    }

    /// Ends this very process, and no other that has its number by now. Says whether it was there.
    pub(crate) fn kill(&self) -> bool {
        Self::read(self.pid).as_ref() == Some(self) && kill(self.pid, Signal::SIGKILL).is_ok()
    }

    /// Its number.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }
}

/// A process's arguments, if the first of them are a stage's: most processes are other ones, and are read no further.
fn arguments(directory: &Path) -> Option<Vec<u8>> {
    let mut file = File::open(directory.join("cmdline")).ok()?;
    let mut arguments = vec![0; HEAD];
    let length = file.read(&mut arguments).ok()?;
    arguments.truncate(length);
    let part = arguments.split(|byte| *byte == 0).nth(1)?;
    if ![KEEPER, SUPERVISOR].iter().any(|stage| part == stage.as_bytes()) {
        return None;
    }
    file.read_to_end(&mut arguments).ok()?;
    Some(arguments)
}

/// `civm __keeper MODE STATE PROJECT NAME`, `civm __supervisor MODE KEEPER RUNTIME STATE PROJECT NAME`.
fn parse(arguments: &[u8]) -> Option<(Place, Option<PathBuf>)> {
    let words = arguments.strip_suffix(b"\0")?.split(|byte| *byte == 0);
    let words: Vec<OsString> = words.map(|word| OsString::from_vec(word.to_vec())).collect();
    let (runtime, rest) = match words.as_slice() {
        [_, part, _, rest @ ..] if part == KEEPER => (None, rest),
        [_, part, _, _, runtime, rest @ ..] if part == SUPERVISOR => (Some(runtime.into()), rest),
        _ => return None,
    };
    let [state, project, name] = rest else { return None };
    Some((Place { project: project.into(), name: name.to_str()?.to_owned(), path: state.into() }, runtime))
}

#[cfg(test)]
mod tests {
    use super::{Stages, parse, started};
    use std::path::Path;

    #[test]
    fn a_stage_is_known_by_its_arguments() {
        let (place, runtime) = parse(b"civm\0__keeper\0memory\0/state/a\0/project\0a\0").unwrap();
        assert_eq!((place.path.as_path(), place.name.as_str(), runtime), (Path::new("/state/a"), "a", None));
        let (place, runtime) =
            parse(b"civm\0__supervisor\0memory\x0042\0/run/x\0/state/a\0/project\0a\0").unwrap();
        assert_eq!(
            (place.project.as_path(), runtime.as_deref()),
            (Path::new("/project"), Some(Path::new("/run/x")))
        );
        assert_eq!(parse(b"civm\0up\0a\0"), None);
        assert_eq!(parse(b"vi\0__keeper\0"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn a_process_is_known_by_its_start_as_well() {
        let own = started(Path::new("/proc/self")).unwrap();
        assert!(own > 0);
        let mut child =
            std::process::Command::new("sh").args(["-c", "sleep 60; :", "__keeper", "x"]).spawn().unwrap();
        let directory = format!("/proc/{}", child.id());
        assert!(started(Path::new(&directory)).unwrap() >= own);
        assert!(!Stages::now().all().iter().any(|stage| stage.pid.as_raw().unsigned_abs() == child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

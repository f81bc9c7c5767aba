//! A process that is known by its number and its start: together they name one process only.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it started, in the kernel's ticks.
    pub started: u64,
}

impl Process {
    /// A child of this process, which may know it by another number than `/proc` does.
    pub(crate) fn of_child(pid: Pid) -> Option<Self> {
        let own = fs::read_link("/proc/self").ok()?;
        let own = own.to_str()?;
        let (number, parent) = (pid.to_string(), ["PPid:", own]);
        let is_child = |directory: &PathBuf| {
            let status = fs::read_to_string(directory.join("status")).unwrap_or_default();
            let mut lines = status.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            lines.clone().any(|words| words == parent)
                && lines
                    .any(|words| words.first() == Some(&"NSpid:") && words.last() == Some(&number.as_str()))
        };
        let directories = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
        let directory = directories.filter(|path| number_of(path).is_some()).find(is_child)?;
        Some(Self { pid: number_of(&directory)?, started: started(&directory)? })
    }

    /// Whether it is there; one that is dead and that nobody has waited for is not.
    #[must_use]
    pub fn is_alive(self) -> bool {
        let directory = PathBuf::from(format!("/proc/{}", self.pid));
        fields(&directory).is_some_and(|fields| fields.first().is_some_and(|state| state != "Z"))
            && started(&directory) == Some(self.started)
    }

    /// Whether it is QEMU with the machine of this name. What a record says of a process may be of another boot of this
    /// computer, in which another process had the same number and start.
    pub(crate) fn runs(self, machine: &str) -> bool {
        let arguments = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let mut words = arguments.split(|byte| *byte == 0).skip_while(|word| *word != b"-name").skip(1);
        let name = words.next().and_then(|word| word.strip_prefix(b"guest="));
        name.is_some_and(|name| name.split(|byte| *byte == b',').next() == Some(machine.as_bytes()))
    }

    /// Ends it, and no other that has its number by now. Says whether it was there.
    pub(crate) fn kill(self) -> bool {
        self.is_alive() && kill(Pid::from_raw(self.pid), Signal::SIGKILL).is_ok()
    }
}

fn number_of(directory: &Path) -> Option<i32> {
    directory.file_name()?.to_str()?.parse().ok()
}

/// Field 22 of stat.
pub(super) fn started(directory: &Path) -> Option<u64> {
    fields(directory)?.get(19)?.parse().ok()
}

/// The fields of stat from the third on: the name before them, in brackets, may hold anything.
fn fields(directory: &Path) -> Option<Vec<String>> {
    let stat = fs::read_to_string(directory.join("stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::Process;
    use nix::unistd::Pid;

    #[test]
    fn a_machine_is_known_by_its_name() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 60; :", "-name", "guest=a,debug-threads=on", "-m", "1"])
            .spawn()
            .unwrap();
        let process = Process::of_child(Pid::from_raw(i32::try_from(child.id()).unwrap())).unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        // Until it runs the shell, it is a copy of this very process.
        while !process.runs("a") && std::time::Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(process.runs("a") && !process.runs("b") && !process.runs(""));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.runs("a"));
    }

    #[test]
    fn a_child_is_found_and_ended_and_its_number_alone_is_not_enough() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of_child(Pid::from_raw(i32::try_from(child.id()).unwrap())).unwrap();
        assert_eq!(process.pid.unsigned_abs(), child.id());
        let other = Process { started: process.started + 1, ..process };
        assert!(process.is_alive() && !other.is_alive() && !other.kill());
        assert!(child.try_wait().unwrap().is_none());
        assert!(process.kill());
        child.wait().unwrap();
        assert!(!process.is_alive() && !process.kill());
    }
}

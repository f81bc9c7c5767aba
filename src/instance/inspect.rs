//! The processes of an instance, as the kernel lists them.

use std::fs;

use crate::instance::stage::FENCE;
use crate::instance::state::{Place, StageProcess};

/// A process of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// What it is there for.
    pub role: &'static str,
    /// Its number.
    pub pid: i32,
    /// Its arguments, the program first; none where they cannot be read.
    pub arguments: Vec<String>,
}

/// Keeper, supervisor, QEMU and the fence of its network, as far as they live.
#[must_use]
pub fn processes(place: &Place) -> Vec<Process> {
    let mut found = Vec::new();
    for stage in StageProcess::of(place) {
        let pid = stage.pid().as_raw();
        let role = if stage.runtime.is_some() { "supervisor" } else { "keeper" };
        found.push(Process { role, pid, arguments: arguments(pid) });
        if role == "supervisor" {
            found.extend(children(pid).into_iter().map(|pid| {
                let arguments = arguments(pid);
                let is_fence = arguments.get(1).is_some_and(|word| word == FENCE);
                Process { role: if is_fence { "fence" } else { "qemu" }, pid, arguments }
            }));
        }
    }
    found
}

fn arguments(pid: i32) -> Vec<String> {
    let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = text.strip_suffix(b"\0").unwrap_or(&text).split(|byte| *byte == 0);
    words.filter(|_| !text.is_empty()).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The children of a process (proc(5): `task/TID/children`).
fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::{arguments, children};

    #[test]
    fn a_child_and_its_arguments_are_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // A test runs in a thread of its own, and children are listed by the thread that made them.
        let task = format!("/proc/{own}/task/{}/children", nix::unistd::gettid());
        assert!(
            std::fs::read_to_string(task).unwrap().contains(&pid.to_string()) || children(own).contains(&pid)
        );
        // Until it has become `sleep`, it has this program's arguments, or none.
        while arguments(pid) != ["sleep", "60"] {
            assert!(child.try_wait().unwrap().is_none(), "it has ended");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(arguments(pid).is_empty());
    }
}

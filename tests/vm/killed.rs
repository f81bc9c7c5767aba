//! Whatever is killed, nothing stays behind.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::machine::{Machine, Who};
use crate::support::run;

const HOST: &str = "builder-demo";

/// civm's processes that belong to the running machine, QEMU among them: pid and command line.
fn processes(machine: &Machine) -> Vec<(i32, String)> {
    machine
        .remains()
        .into_iter()
        .filter_map(|line| {
            let (pid, command) = line.strip_prefix("process ")?.split_once(": ")?;
            Some((pid.parse().ok()?, command.to_owned()))
        })
        .collect()
}

#[test]
fn a_kill_of_any_process_leaves_nothing() {
    let Some(machine) = Machine::new(Who::Ordinary, "killed") else { return };
    machine.up(HOST, &[]).ok();
    let kinds = processes(&machine).len();
    assert!(kinds >= 2, "a supervisor and QEMU at least: {:?}", processes(&machine));
    for victim in 0..kinds {
        if victim > 0 {
            machine.up(HOST, &[]).ok();
        }
        let running = processes(&machine);
        let (pid, command) = running.get(victim).unwrap_or_else(|| panic!("{running:?}"));
        eprintln!("killing {command}");
        kill(Pid::from_raw(*pid), Signal::SIGKILL).expect("the process is there");
        machine.nothing_remains_after_the_next_civm();
    }
}

impl Machine {
    #[track_caller]
    fn nothing_remains_after_the_next_civm(&self) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(15);
        while !processes(self).is_empty() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let listed = run(&mut self.civm(&["ls"])).ok();
        assert!(!listed.out().contains("ready"), "{}", listed.out());
        self.nothing_remains();
        let sockets: Vec<PathBuf> = super::machine::files(&self.home().join(".local/state/civm"))
            .into_iter()
            .filter(|path| fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()))
            .collect();
        assert!(sockets.is_empty(), "{sockets:?}");
    }
}

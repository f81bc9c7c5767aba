//! Running a program that the kernel ends with its parent.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use crate::edge::environment::Environment;
use crate::edge::process;
use crate::instance::stage::{CHILD, SELF};

/// Exit code of a child that could not become its program (as shells say it).
const CANNOT_RUN: u8 = 126;

/// A command that is killed when the thread that spawns it ends. It sees the variables that any program may see.
pub(crate) fn command(program: impl AsRef<OsStr>, environment: &Environment) -> Command {
    let mut command = process::command(SELF, &environment.for_tools());
    command.arg(CHILD).arg(own_pid().unwrap_or_default()).arg(program);
    command
}

/// This process's number as `/proc` says it, which a child in another PID namespace sees as well.
pub(crate) fn own_pid() -> Option<OsString> {
    std::fs::read_link("/proc/self").ok().map(PathBuf::into_os_string)
}

/// Asks for a signal at the parent's death, and says whether that parent still lives.
pub(crate) fn follow_parent(parent: &OsStr, signal: Signal) -> bool {
    set_pdeathsig(signal).is_ok() && has_parent(parent)
}

/// Whether the parent is this one.
pub(crate) fn has_parent(parent: &OsStr) -> bool {
    // getppid() is 0 for the first process of a PID namespace; /proc is the machine's own.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.is_some_and(|pid| Some(pid.trim()) == parent.to_str())
}

/// The hidden subcommand: `PARENT PROGRAM ARGUMENTS`.
pub(super) fn run(arguments: Vec<OsString>) -> ExitCode {
    let [parent, program, rest @ ..] = arguments.as_slice() else { return ExitCode::from(2) };
    if !follow_parent(parent, Signal::SIGKILL) {
        return ExitCode::from(CANNOT_RUN);
    }
    // Only a failure returns.
    let _error = Command::new(program).args(rest).exec();
    ExitCode::from(CANNOT_RUN)
}

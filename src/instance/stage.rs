//! The stage: the processes between a caller and QEMU.
//!
//! civm runs itself again as *keeper*, which holds the instance's lock, enters a user and a PID namespace
//! and runs civm once more as *supervisor*: PID 1 of the PID namespace, in a mount namespace of its own.
//! The supervisor mounts a tmpfs there, receives the files over a socket, puts them into it, starts QEMU
//! and stays. When it dies, however that comes, the kernel ends QEMU and the tmpfs; when the keeper dies,
//! the kernel ends the supervisor. Neither has a second thread when it enters a namespace.
//!
//! Where namespaces cannot be had, the share is a directory of a private tmpfs instead; QEMU is then run
//! through a third program, the *child*, that makes the kernel end it with its supervisor.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use nix::sys::prctl::set_name;
use serde::{Deserialize, Serialize};

mod child;
mod console;
mod control;
mod ending;
mod fence;
mod incoming;
mod journal;
mod keeper;
mod lines;
mod log;
mod namespaces;
mod outlet;
mod pulse;
mod qemu;
mod report;
mod share;
mod supervisor;
mod template;
mod throttle;
mod user;
mod waiting;

pub(crate) use child::command as child_command;
pub(crate) use user::{Inherited, QemuUser};

/// Hidden subcommand of the keeper.
pub(crate) const KEEPER: &str = "__keeper";
/// Hidden subcommand of the supervisor.
pub(crate) const SUPERVISOR: &str = "__supervisor";
/// Hidden subcommand of a program that must not outlive its parent.
pub(crate) const CHILD: &str = "__child";
/// Hidden subcommand of the fence of a guest's network.
pub(crate) const FENCE: &str = "__fence";
/// This very program, even where its file has been replaced meanwhile.
pub(crate) const SELF: &str = "/proc/self/exe";

/// Where the staged files lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// On a tmpfs of a mount namespace of their own.
    Namespaces,
    /// In a private directory of a tmpfs that is there already.
    Memory,
}

impl Mode {
    pub(crate) fn argument(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Memory => "memory",
        }
    }

    fn parse(argument: &OsStr) -> Option<Self> {
        [Self::Namespaces, Self::Memory].into_iter().find(|mode| argument == mode.argument())
    }
}

/// Runs a hidden subcommand, if the arguments (without the program's name) name one.
///
/// The program calls this before anything else: the stage must be single-threaded.
#[must_use]
pub fn hidden(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter();
    let name = arguments.next()?;
    match name.as_bytes() {
        b"__keeper" => {
            // Lists of processes would show `exe`, the name of the link it was started by.
            let _ = set_name(c"civm-keeper");
            Some(keeper::run(arguments.collect()))
        }
        b"__supervisor" => {
            let _ = set_name(c"civm-supervisor");
            Some(supervisor::run(arguments.collect()))
        }
        b"__fence" => {
            let _ = set_name(c"civm-fence");
            Some(fence::run(&arguments.collect::<Vec<_>>()))
        }
        b"__child" => Some(child::run(arguments.collect())),
        _ => None,
    }
}

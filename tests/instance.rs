//! Instances under fire: every process of a running machine is killed in turn, and nothing may stay.
//!
//! The machine boots a kernel of some thirty bytes that says a word on its serial port and halts, so that
//! neither an image nor KVM is needed. A stage is this very program run again: no test harness may come
//! before it, hence `harness = false`.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test binary has no users"
)]

use std::ffi::OsString;
use std::process::ExitCode;

#[path = "instance/asked.rs"]
mod asked;
#[path = "instance/cases.rs"]
mod cases;
#[path = "instance/faults.rs"]
mod faults;
#[path = "instance/harness.rs"]
mod harness;
#[path = "instance/kernel.rs"]
mod kernel;
#[path = "instance/played.rs"]
mod played;
#[path = "instance/scene.rs"]
mod scene;
#[path = "instance/soak.rs"]
mod soak;
#[path = "support/traces.rs"]
mod traces;

/// Runs this program as the caller of an instance that it holds until it is killed.
const HOLD: &str = "__hold";
/// Runs this program as one that changes that instance while it runs.
const APPLY: &str = "__apply";

fn main() -> ExitCode {
    // As the program does: a stage has to get along with it.
    civm::edge::hardening::forbid_core_dumps();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = civm::instance::hidden(arguments.iter().cloned()) {
        return code;
    }
    if let [word, rest @ ..] = arguments.as_slice()
        && word == HOLD
    {
        return scene::hold(rest);
    }
    if let [word, directory] = arguments.as_slice()
        && word == APPLY
    {
        return scene::apply(directory);
    }
    harness::run(&cases::ALL, scene::cannot_run(), &arguments)
}

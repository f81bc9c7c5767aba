//! Builders under fire: `civm remote serve` is driven over pipes, by a keeper that is good, bad, or gone.
//!
//! The machines are those of the tests of instances: the smallest kernel, and a script that plays QEMU and its guest.
//! The program is run again as `civm` and as its stages: no test harness may come before it.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test binary has no users"
)]

use std::ffi::OsString;
use std::process::ExitCode;

#[path = "builder/cases.rs"]
mod cases;
#[path = "builder/faults.rs"]
mod faults;
#[path = "instance/harness.rs"]
mod harness;
#[path = "builder/hostile.rs"]
mod hostile;
#[path = "instance/kernel.rs"]
#[allow(dead_code, reason = "the tests of instances use more of it")]
mod kernel;
#[path = "builder/lent.rs"]
mod lent;
#[path = "builder/peer.rs"]
mod peer;
#[path = "instance/scene.rs"]
#[allow(dead_code, reason = "the tests of instances use more of it")]
mod scene;

#[path = "support/small_image.rs"]
mod small_image;
#[path = "support/traces.rs"]
#[allow(dead_code, reason = "the tests of instances use more of it")]
mod traces;

/// A caller of an instance, and one that changes it, in the tests of those.
const HOLD: &str = "__hold";
const APPLY: &str = "__apply";

fn main() -> ExitCode {
    civm::edge::hardening::forbid_core_dumps();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = civm::instance::hidden(arguments.iter().cloned()) {
        return code;
    }
    if arguments.first().is_some_and(|word| word == "remote") {
        return civm::commands::main();
    }
    let no_disks = || {
        let environment = civm::edge::environment::Environment::of_process().with_system_dirs();
        environment.find_program("qemu-img").is_none().then(|| "`qemu-img` is not installed".to_owned())
    };
    peer::with_shared_cache(|| harness::run(&cases::ALL, scene::cannot_run().or_else(no_disks), &arguments))
}

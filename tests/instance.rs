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
use std::num::NonZero;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

#[path = "instance/asked.rs"]
mod asked;
#[path = "instance/cases.rs"]
mod cases;
#[path = "instance/faults.rs"]
mod faults;
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
/// Runs one case: it counts what its process has, and other cases run beside it.
const CASE: &str = "__case";

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
    if let [word, name] = arguments.as_slice()
        && word == CASE
    {
        let (_, case) = cases::ALL.iter().find(|(known, _)| name == known).expect("a case");
        case();
        return ExitCode::SUCCESS;
    }
    let words: Vec<&str> = arguments.iter().filter_map(|a| a.to_str()).collect();
    let filters: Vec<&&str> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let chosen: Vec<_> = cases::ALL
        .iter()
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(**filter)))
        .collect();
    if words.contains(&"--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Some(reason) = scene::cannot_run() {
        println!("skipped: {} tests of instances ({reason})", chosen.len());
        return ExitCode::SUCCESS;
    }
    if run_all(&chosen) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs each case as a process of its own, some at a time: much of their time they wait. Says whether all passed.
fn run_all(chosen: &[&(&str, cases::Case)]) -> bool {
    let at_once = std::thread::available_parallelism().map_or(1, NonZero::get) + 1;
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some((name, _)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begun = Instant::now();
                    let output = Command::new("/proc/self/exe")
                        .args([CASE, name])
                        .output()
                        .expect("this program runs");
                    let outcome = if output.status.success() { "ok" } else { "FAILED" };
                    let [said, complained] = [output.stdout, output.stderr]
                        .map(|text| String::from_utf8_lossy(&text).into_owned());
                    println!(
                        "{said}{complained}test {name} ... {outcome} ({:.1} s)",
                        begun.elapsed().as_secs_f32()
                    );
                    failed.fetch_add(usize::from(!output.status.success()), Ordering::Relaxed);
                }
            });
        }
    });
    failed.into_inner() == 0
}

//! A harness of our own: no other one may come before a stage.

use std::ffi::OsString;
use std::num::NonZero;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A test.
pub type Case = fn();

/// Runs one case: it counts what its process has, and other cases run beside it.
const CASE: &str = "__case";

/// Runs the cases whose names hold one of the words, or all of them.
pub fn run(all: &[(&str, Case)], cannot_run: Option<String>, arguments: &[OsString]) -> ExitCode {
    if let [word, name] = arguments
        && word == CASE
    {
        let (_, case) = all.iter().find(|(known, _)| name == known).expect("a case");
        case();
        return ExitCode::SUCCESS;
    }
    let words: Vec<&str> = arguments.iter().filter_map(|a| a.to_str()).collect();
    let filters: Vec<&&str> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let chosen: Vec<_> = all
        .iter()
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(**filter)))
        .collect();
    if words.contains(&"--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Some(reason) = cannot_run {
        println!("skipped: {} tests ({reason})", chosen.len());
        return ExitCode::SUCCESS;
    }
    if run_all(&chosen) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs each case as a process of its own, some at a time: much of their time they wait. Says whether all passed.
fn run_all(chosen: &[&(&str, Case)]) -> bool {
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

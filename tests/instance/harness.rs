//! Runs cases one after the other, as `cargo test` expects it of a test program.

use std::ffi::OsString;
use std::process::ExitCode;

pub type Case = fn();

/// Runs the cases whose names the arguments ask for, unless there is a reason why they cannot run here.
pub fn run(all: &[(&str, Case)], cannot: Option<String>, arguments: &[OsString]) -> ExitCode {
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
    if let Some(reason) = cannot {
        println!("skipped: {} tests of instances ({reason})", chosen.len());
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, case) in chosen {
        let passed = std::panic::catch_unwind(case).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += u32::from(!passed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! The keeper of builders against a real sshd: it logs in as another user where the tests run as root, pushes the real
//! civm, and finds a remote that plays its part as it is told.
//!
//! The remote, and the nix-daemon of its builders, are this very program run again: hence `harness = false`.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::use_debug,
    reason = "a test binary has no users"
)]

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

#[path = "keeper/away.rs"]
mod away;
#[path = "keeper/cases.rs"]
mod cases;
#[path = "keeper/faults.rs"]
mod faults;
#[path = "keeper/hostile.rs"]
mod hostile;
#[path = "instance/kernel.rs"]
#[allow(dead_code, reason = "the tests of instances use more of it")]
mod kernel;
#[path = "keeper/laptop.rs"]
mod laptop;
#[path = "keeper/ours.rs"]
mod ours;
#[path = "keeper/played.rs"]
mod played;
#[path = "keeper/scene.rs"]
mod scene;
#[path = "keeper/sshd.rs"]
mod sshd;

#[path = "support/small_image.rs"]
mod small_image;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some(played::REMOTE) => return played::remote(words.get(1).map_or("", String::as_str)),
        Some(played::NIX) => return played::nix(),
        _ => {}
    }
    let filters: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let all = cases::ALL
        .iter()
        .chain(away::ALL)
        .chain(faults::ALL)
        .chain(hostile::ALL)
        .chain(laptop::ALL)
        .chain(ours::ALL);
    let chosen: Vec<_> = all
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())))
        .collect();
    if words.iter().any(|word| word == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Some(reason) = sshd::cannot_run() {
        println!("skipped: {} tests of the keeper of builders ({reason})", chosen.len());
        return ExitCode::SUCCESS;
    }
    // They wait more than they work: two at a time.
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some((name, case)) = chosen.get(next.fetch_add(1, Ordering::SeqCst)) {
            let begun = std::time::Instant::now();
            let passed = std::panic::catch_unwind(case).is_ok();
            let outcome = if passed { "ok" } else { "FAILED" };
            println!("test {name} ... {outcome} ({:.1} s)", begun.elapsed().as_secs_f32());
            failed.fetch_add(usize::from(!passed), Ordering::SeqCst);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    if failed.into_inner() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! A guest's clock beside its host's.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use super::machine::Machine;

/// How far they may be apart, in milliseconds.
const APART: i128 = 100;

#[track_caller]
pub fn is_right(machine: &Machine, name: &str) {
    let off = off(machine, name);
    assert!(off.abs() <= APART, "the clock of {name} is {off} ms from the host's");
}

/// Milliseconds that a guest's clock is off, less what nobody can tell.
fn off(machine: &Machine, name: &str) -> i128 {
    let mut ssh = machine.civm(&["ssh", name, "--", "while read -r l; do date +%s%N; done"]);
    let mut child = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("civm ssh runs");
    let mut to = child.stdin.take().expect("its input");
    let mut from = BufReader::new(child.stdout.take().expect("its output"));
    let now = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        i128::try_from(since.as_nanos()).expect("before the end of time")
    };
    let mut least = i128::MAX;
    for _ in 0..8 {
        let before = now();
        to.write_all(b"\n").expect("the guest reads");
        let mut line = String::new();
        from.read_line(&mut line).expect("the guest answers");
        let after = now();
        let guest: i128 = line.trim().parse().unwrap_or_else(|_| panic!("{line:?} is not a time"));
        // It was somewhere between the two.
        let off = if guest < before { guest - before } else { (guest - after).max(0) };
        if off.abs() < least.abs() {
            least = off;
        }
    }
    drop(to);
    child.wait().expect("it ends");
    least / 1_000_000
}

//! The answers that are written down as those of sops are what it answers.

use crate::support::fidelity::play_all;
use crate::support::peer;

#[test]
fn the_written_answers_are_those_of_sops() {
    let Some(sops) = peer("sops") else { return eprintln!("skipped: no sops at hand") };
    play_all(&sops, |case| &case.expect);
}

//! civm under the name of sops, in cases of which sops' own answers are written down.

use std::os::unix::fs::symlink;

use crate::support::fidelity::play_all;
use crate::support::{Scene, civm_binary};

#[test]
fn civm_answers_as_sops_does_or_better_as_written() {
    let scene = Scene::new();
    let sops = scene.path("sops");
    symlink(civm_binary(), &sops).expect("a link");
    play_all(&sops, |case| {
        case.civm.as_ref().map_or(&case.expect, |otherwise| {
            assert!(!otherwise.why.is_empty(), "{}: a difference has a reason", case.case);
            assert_ne!(otherwise.expect, case.expect, "{}: no difference", case.case);
            &otherwise.expect
        })
    });
}

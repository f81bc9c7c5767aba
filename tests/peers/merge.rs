//! Merges of files that sops wrote: sops reads them, and what nobody touched is as sops wrote it.

use std::collections::HashSet;

use proptest::prelude::*;

use super::documents;
use super::yaml::{IDENTITY, each, recipient};
use crate::support::{Ran, Scene, peer, run};

const OURS: &str = "ours_added:\n    - one\n    - two: three\n";
const THEIRS: &str = "theirs_added: true\n";

#[test]
fn sops_reads_what_was_merged_and_keeps_what_it_wrote() {
    let scene = Scene::new();
    let (Some(sops), Some(recipient)) = (peer("sops"), recipient(&scene)) else {
        return eprintln!("skipped: no sops or age at hand");
    };
    let with_key =
        |command: &mut std::process::Command| -> Ran { run(command.env("SOPS_AGE_KEY", IDENTITY)) };
    each(40, documents::file(), |text| {
        scene.write("plain.yaml", text);
        let base = run(scene.command(&sops).args(["encrypt", "--age", &recipient, "plain.yaml"]));
        scene.write("base.yaml", &base.stdout);
        let plain = with_key(scene.command(&sops).args(["decrypt", "base.yaml"]));
        if base.code != 0 || plain.code != 0 || plain.out().contains("{}") {
            // Nothing can be put before or behind an empty document.
            return Ok(());
        }
        let changed = |name: &str, before: &str, behind: &str| {
            scene.write(name, &base.stdout);
            scene.write("new.yaml", format!("{before}{}{behind}", plain.out()));
            with_key(scene.command(&sops).args(["edit", name]).env("EDITOR", "cp new.yaml"))
        };
        for edit in [
            changed("ours.yaml", OURS, ""),
            changed("theirs.yaml", "", THEIRS),
            changed("want.yaml", OURS, THEIRS),
        ] {
            prop_assert_eq!(edit.code, 0, "{}", edit.stderr);
        }
        let (ours, theirs) = (scene.read("ours.yaml"), scene.read("theirs.yaml"));
        let merge =
            ["secrets", "merge-driver", "--no-edit", "base.yaml", "ours.yaml", "theirs.yaml", "s.yaml"];
        let merged = with_key(&mut scene.civm(&merge));
        prop_assert_eq!(merged.code, 0, "{}", merged.stderr);
        let want = with_key(scene.command(&sops).args(["decrypt", "want.yaml"]));
        let got = with_key(scene.command(&sops).args(["decrypt", "ours.yaml"]));
        prop_assert_eq!(got.code, 0, "{}", got.stderr);
        prop_assert_eq!(got.out(), want.out());
        let written: HashSet<&str> = ours.lines().chain(theirs.lines()).collect();
        let merged = scene.read("ours.yaml");
        for line in merged.lines() {
            let of_merge = ["mac: ", "lastmodified: ", "version: "].iter().any(|key| line.contains(key));
            prop_assert!(of_merge || written.contains(line), "{line}");
        }
        Ok(())
    });
}

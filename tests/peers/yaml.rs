//! YAML files between civm and the real sops, both ways.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::documents;
use crate::support::shape::shape;
use crate::support::{Scene, peer, run};

/// A throw-away identity; it protects nothing.
pub const IDENTITY: &str = "AGE-SECRET-KEY-1CCQ6JR6YUGKGKNDXGZWDHFCZAF3VGDHDTMJ3SLRDWAZLF8TKSMCSLRJTVG";

/// The recipient of [`IDENTITY`], asked of the real age.
pub fn recipient(scene: &Scene) -> Option<String> {
    let keygen = peer("age-keygen")?;
    let identity = scene.write("identity.txt", format!("{IDENTITY}\n"));
    Some(run(scene.command(keygen).arg("-y").arg(identity)).ok().out().trim().to_owned())
}

pub fn cases(default: u32) -> u32 {
    std::env::var("CIVM_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs a test with so many random inputs, or as many as `$CIVM_CASES` says.
pub fn each<T: std::fmt::Debug>(
    count: u32,
    strategy: impl Strategy<Value = T>,
    test: impl Fn(&T) -> Result<(), TestCaseError>,
) {
    let config = Config { cases: cases(count), failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&strategy, |input| test(&input)).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn random_documents_agree_with_sops_both_ways() {
    let scene = Scene::new();
    let (Some(sops), Some(recipient)) = (peer("sops"), recipient(&scene)) else {
        return eprintln!("skipped: no sops or age at hand");
    };
    each(60, documents::file(), |text| {
        scene.write("plain.yaml", text);
        let theirs = run(scene.command(&sops).args(["encrypt", "--age", &recipient, "plain.yaml"]));
        let ours = run(&mut scene.civm(&["secrets", "encrypt", "--age", &recipient, "plain.yaml"]));
        prop_assert_eq!(theirs.code, ours.code, "{}\n---\n{}", theirs.stderr, ours.stderr);
        if theirs.code != 0 {
            return Ok(());
        }
        prop_assert_eq!(shape(theirs.out()), shape(ours.out()), "encrypted forms differ");
        scene.write("theirs.yaml", &theirs.stdout);
        scene.write("ours.yaml", &ours.stdout);
        let decrypt = |program: &mut std::process::Command| run(program.env("SOPS_AGE_KEY", IDENTITY));
        let want = decrypt(scene.command(&sops).args(["decrypt", "theirs.yaml"]));
        let theirs_by_us = decrypt(&mut scene.civm(&["secrets", "decrypt", "theirs.yaml"]));
        let ours_by_them = decrypt(scene.command(&sops).args(["decrypt", "ours.yaml"]));
        let ours_by_us = decrypt(&mut scene.civm(&["secrets", "decrypt", "ours.yaml"]));
        for (who, got) in
            [("theirs by us", theirs_by_us), ("ours by them", ours_by_them), ("ours by us", ours_by_us)]
        {
            prop_assert_eq!(want.code, got.code, "{}: {}", who, got.stderr);
            prop_assert_eq!(
                String::from_utf8_lossy(&want.stdout),
                String::from_utf8_lossy(&got.stdout),
                "{}",
                who
            );
        }
        Ok(())
    });
}

#[test]
fn every_selector_chooses_the_values_that_sops_chooses() {
    let scene = Scene::new();
    let (Some(sops), Some(recipient)) = (peer("sops"), recipient(&scene)) else {
        return eprintln!("skipped: no sops or age at hand");
    };
    let rules = [
        "unencrypted_suffix: _unencrypted",
        "encrypted_suffix: key",
        "unencrypted_regex: '^[a-k]'",
        "encrypted_regex: '^(a|key|\\w+)$'",
        "unencrypted_comment_regex: 'key: |tight'",
        "encrypted_comment_regex: 'comment'",
        "encrypted_regex: 'key'\n    mac_only_encrypted: true",
    ];
    for rule in rules {
        scene.write(".sops.yaml", format!("creation_rules:\n  - age: {recipient}\n    {rule}\n"));
        each(8, documents::file(), |text| {
            scene.write("plain.yaml", text);
            let theirs = run(scene.command(&sops).args(["encrypt", "plain.yaml"]));
            let ours = run(&mut scene.civm(&["secrets", "encrypt", "plain.yaml"]));
            scene.write("theirs.yaml", &theirs.stdout);
            let readable =
                run(scene.command(&sops).args(["decrypt", "theirs.yaml"]).env("SOPS_AGE_KEY", IDENTITY));
            if theirs.code == 0 && readable.code != 0 {
                // A comment that chooses moves when the file is written: sops makes what nobody can read.
                prop_assert!(ours.code == 23, "{}: {}", rule, ours.stderr);
                return Ok(());
            }
            prop_assert_eq!(theirs.code, ours.code, "{}: {}\n---\n{}", rule, theirs.stderr, ours.stderr);
            if theirs.code != 0 {
                return Ok(());
            }
            prop_assert_eq!(shape(theirs.out()), shape(ours.out()), "{}: encrypted forms differ", rule);
            scene.write("ours.yaml", &ours.stdout);
            let back = run(scene.command(&sops).args(["decrypt", "ours.yaml"]).env("SOPS_AGE_KEY", IDENTITY));
            prop_assert_eq!(back.code, 0, "{}: {}", rule, back.stderr);
            Ok(())
        });
    }
}

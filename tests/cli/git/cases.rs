//! What once went wrong: each case with what is right, and others of its kind.

use std::fs;

use super::{ALICE, ALICE_AGE, BOB_AGE, CAROL_AGE, FILE, Repository, nothing_leaked};
use crate::support::{peer, run};

#[test]
fn two_branches_that_each_add_a_file_do_not_conflict() {
    let repository = Repository::new();
    repository.0.write(".sops.yaml", format!("creation_rules:\n  - age: {ALICE_AGE}\n"));
    repository.civm(&["git", "install"]).ok();
    repository.git(&["add", "-A"]);
    repository.git(&["commit", "-qm", "rules for all"]);
    let add = |name: &'static str| {
        let repository = &repository;
        move || {
            repository.0.write(name, "a: one\nb: two\n");
            repository.civm(&["secrets", "encrypt", "-i", name]).ok();
            repository.civm(&["git", "install"]).ok();
            repository.git(&["add", "-A"]);
            repository.git(&["commit", "-qm", name]);
        }
    };
    repository.diverge(add("n1.yaml"), add("deep/n2.yaml"));
    repository.git(&["merge", "-q", "theirs", "-m", "merged"]);
    let check = repository.civm(&["secrets", "check", "--strict"]).ok();
    assert!(!check.stderr.contains("as text"));
}

#[test]
fn a_rename_on_one_side_and_a_change_on_the_other_merge_by_value() {
    for strategy in [&[][..], &["-X", "ours"]] {
        let repository = Repository::new();
        let moved = "moved/to/secrets.yaml";
        repository.diverge(
            || repository.change("s/one/ONE/"),
            || {
                fs::create_dir_all(repository.0.file("moved/to")).unwrap();
                repository.git(&["mv", FILE, moved]);
                repository.civm(&["secrets", "set", moved, "second/deep", "--json", "\"TWO\""]).ok();
                repository.git(&["commit", "-qam", "moved"]);
            },
        );
        repository.git(&[&["merge", "-q", "theirs", "-m", "merged"], strategy].concat());
        let plain = repository.civm(&["secrets", "decrypt", moved]).ok();
        assert!(
            plain.out().contains("first: ONE\n") && plain.out().contains("deep: TWO\n"),
            "{}",
            plain.out()
        );
    }
}

/// The formats with a value `a` that both sides change and a value `b` that only theirs changes.
const FORMATS: [(&str, &str); 6] = [
    ("c/secrets.yaml", "a: one\nb: one\n"),
    ("c/secrets.json", "{\n\t\"a\": \"one\",\n\t\"b\": \"one\"\n}\n"),
    ("c/secrets.env", "a=one\nb=one\n"),
    ("c/secrets.ini", "[s]\na = one\nb = one\n"),
    ("c/secrets.txt", "a one\n"),
    // YAML, whatever it is called.
    ("c/secrets.conf", "a: one\nb: one\n"),
];

#[test]
fn a_conflict_cannot_be_committed_unnoticed_and_loses_nothing() {
    for (name, plain) in FORMATS {
        let repository = Repository::new();
        repository.0.write(name, plain);
        let format =
            if name.ends_with("conf") { &["--input-type", "yaml", "--output-type", "yaml"][..] } else { &[] };
        repository.civm(&[&["secrets", "encrypt", "-i", name], format].concat()).ok();
        repository.civm(&["git", "install", "--hooks"]).ok();
        repository.git(&["add", "-A"]);
        repository.git(&["commit", "-qm", "one more"]);
        let change = |script: &'static str| {
            let repository = &repository;
            move || {
                let edit = repository.0.civm(&["secrets", "edit", name]);
                run(repository.prepared(edit, Some(ALICE)).env("EDITOR", format!("sed -i '{script}'"))).ok();
                repository.git(&["commit", "-qam", "changed"]);
            }
        };
        repository.diverge(change("/a/s/one/OURS/"), change("s/one/THEIRS/"));
        repository.as_who(Some(ALICE), &["merge", "theirs"]).code(1);
        let unresolved = repository.0.read(name);
        assert!(unresolved.contains("civm secrets merge"), "{unresolved}");

        // Nothing takes it for a whole file.
        let diff = repository.git(&["diff"]);
        assert!(
            diff.out().contains("<<<<<<< ours") && diff.out().contains("THEIRS"),
            "{name}: {}",
            diff.out()
        );
        assert!(!diff.out().contains("ENC["), "{name}: {}", diff.out());
        for args in [
            &["decrypt", name][..],
            &["get", name, "a"],
            &["set", name, "a", "--json", "1"],
            &["edit", name],
            &["rotate", name],
            &["updatekeys", "-y", name],
            &["status", name],
            &["encrypt", "-i", name],
        ] {
            let ran = repository.civm(&[&["secrets"], args].concat());
            assert_ne!(ran.code, 0, "{name} {args:?}");
            let _ = ran.says("unresolved merge conflict").says("civm secrets merge");
        }
        let check = repository.civm(&["secrets", "check"]).code(1);
        assert!(
            check.out().contains(&format!("{name}:")) && check.out().contains("unresolved merge conflict"),
            "{}",
            check.out()
        );
        if let Some(sops) = peer("sops") {
            for args in [&["decrypt", name][..], &["set", name, "[\"a\"]", "1"], &["updatekeys", "-y", name]]
            {
                let mut command = repository.0.command(&sops);
                assert_ne!(run(command.args(args).env("SOPS_AGE_KEY", ALICE)).code, 0, "sops {args:?}");
            }
        } else {
            eprintln!("skipped: no sops at hand");
        }
        assert_eq!(repository.0.read(name), unresolved);

        // The hook refuses it; without the hook, both versions are in the commit.
        let commit = repository.as_who(Some(ALICE), &["commit", "-qam", "merged"]);
        assert_ne!(commit.code, 0, "{name}");
        repository.git(&["commit", "-q", "--no-verify", "-am", "merged"]);
        assert_eq!(repository.0.read(name), unresolved);
        repository.civm(&["secrets", "decrypt", name]).code(2).says("unresolved merge conflict");
        nothing_leaked(&repository, &["THEIRS"]);

        // Where nothing but the markers is deleted, one of the values would be lost unseen.
        if !name.ends_with("txt") {
            let merge = repository.0.civm(&["secrets", "merge", "--edit", name]);
            let keep_all = "sed -i '/^<<<<<<</d; /^|||||||/d; /^=======/d; /^>>>>>>>/d'";
            let ran = run(repository.prepared(merge, Some(ALICE)).env("EDITOR", keep_all));
            assert_ne!(ran.code, 0, "{name}");
            assert_eq!(repository.0.read(name), unresolved, "{name}: {}", ran.stderr);
        }

        // From there it is resolved as from the index.
        let merge = repository.0.civm(&["secrets", "merge", "--edit", name]);
        let keep_ours = "sed -i '/^<<<<<<</d; /^|||||||/,/^>>>>>>>/d'";
        run(repository.prepared(merge, Some(ALICE)).env("EDITOR", keep_ours)).ok();
        let resolved = repository.civm(&["secrets", "decrypt", name]).ok();
        let wanted = plain.replacen("one", "OURS", 1).replacen("one", "THEIRS", 1);
        assert_eq!(resolved.out().replace("    ", "\t"), wanted.replace("    ", "\t"), "{name}");
        repository.git(&["commit", "-qam", "resolved"]);
    }
}

#[test]
fn a_side_that_is_taken_everywhere_is_a_whole_file() {
    let repository = Repository::new();
    repository.diverge(|| repository.change("s/one/1/"), || repository.change("s/one/eins/; s/: three/: 3/"));
    repository.as_who(Some(ALICE), &["merge", "theirs"]).code(1);
    for (keep, first) in
        [("/^<<<<<<</d; /^|||||||/,/^>>>>>>>/d", "1"), ("/^<<<<<<</,/^=======/d; /^>>>>>>>/d", "eins")]
    {
        let text = repository.0.read(FILE);
        run(repository.0.command("sed").args(["-i", keep, FILE])).ok();
        assert_eq!(repository.plaintext(), super::PLAIN.replace("one", first).replace("three", "3"));
        // What somebody has resolved is not merged again over it.
        repository.civm(&["secrets", "merge", FILE]).code(1).says("git add");
        repository.0.write(FILE, text);
    }
}

#[test]
fn ancestors_that_do_not_agree_decide_nothing() {
    // Two merges of the same two branches, resolved in two ways: the third merge must ask.
    let repository = Repository::new();
    repository.diverge(|| repository.change("s/one/1/"), || repository.change("s/one/eins/"));
    let resolve = |branch: &str, other: &str, keep: &str| {
        super::history::merge_by_hand(&repository, branch, other, keep);
    };
    repository.git(&["branch", "tip", "ours"]);
    let ours = "sed -i '/^<<<<<<</d; /^|||||||/,/^>>>>>>>/d'";
    resolve("ours", "theirs", ours);
    resolve("theirs", "tip", ours);
    repository.as_who(Some(ALICE), &["merge", "ours"]).code(1).says(r#"both sides changed ["first"]"#);
}

#[test]
fn rules_in_conflict_are_merged_or_wait_until_the_secrets_are() {
    let repository = Repository::new();
    let rules = format!(
        "keys:\n  - &alice {ALICE_AGE}\ncreation_rules:\n  - path_regex: secrets\n    key_groups:\n      - age: [*alice]\nstores:\n  yaml:\n    indent: 2\n"
    );
    repository.0.write(".sops.yaml", &rules);
    repository.git(&["commit", "-qam", "rules"]);
    let add = |name: &'static str, recipient: &'static str, first: &'static str| {
        let repository = &repository;
        move || {
            repository.civm(&["keys", "add", name, recipient, "--all"]).ok();
            repository.civm(&["secrets", "update-all"]).ok();
            repository.change(&format!("s/one/{first}/"));
        }
    };
    repository.diverge(add("carol", CAROL_AGE, "1"), add("bob", BOB_AGE, "eins"));
    repository.as_who(Some(ALICE), &["merge", "theirs"]).code(1).says(r#"both sides changed ["first"]"#);
    let merged = repository.0.read(".sops.yaml");
    assert!(merged.contains("[*alice, *carol, *bob]"), "{merged}");
    let resolve = || {
        let merge = repository.0.civm(&["secrets", "merge", "--edit", FILE]);
        run(repository
            .prepared(merge, Some(ALICE))
            .env("EDITOR", "sed -i '/^<<<<<<</d; /^|||||||/,/^>>>>>>>/d'"))
        .ok();
    };
    resolve();
    repository.git(&["commit", "-qam", "merged"]);
    repository.civm(&["secrets", "update-all", "--check"]).ok();
    repository.civm(&["secrets", "check", "--strict"]).ok();

    // Rules that only a person can merge: the secrets can be resolved before.
    repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    repository.0.write(
        ".sops.yaml",
        repository.0.read(".sops.yaml").replace("path_regex: secrets", "path_regex: ours"),
    );
    repository.git(&["commit", "-qam", "ours"]);
    repository.git(&["checkout", "-q", "theirs"]);
    repository.0.write(
        ".sops.yaml",
        repository.0.read(".sops.yaml").replace("path_regex: secrets", "path_regex: theirs"),
    );
    repository.git(&["commit", "-qam", "theirs"]);
    repository.git(&["checkout", "-q", "ours"]);
    repository.as_who(Some(ALICE), &["merge", "theirs"]).code(1);
    assert!(repository.0.read(".sops.yaml").contains("\n<<<<<<< "));
    resolve();
    assert!(repository.0.read(FILE).contains(BOB_AGE) && repository.0.read(FILE).contains(CAROL_AGE));
    assert!(!repository.0.read(FILE).contains("<<<<<<<") && repository.0.read(FILE).contains("\n  deep: "));
}

#[test]
fn a_hook_of_another_repository_does_not_lead_astray() {
    // Inside a hook git names its own repository; a tree that is walked has one of its own.
    let repository = Repository::new();
    let hidden = repository.0.path("other");
    fs::create_dir(&hidden).unwrap();
    run(repository.0.command("git").args(["init", "-q"]).arg(&hidden)).ok();
    let check = repository.0.civm(&["secrets", "check"]);
    run(repository
        .prepared(check, Some(ALICE))
        .env("GIT_DIR", hidden.join(".git"))
        .env("GIT_INDEX_FILE", "nothing"))
    .ok()
    .says("1 sops file");
}

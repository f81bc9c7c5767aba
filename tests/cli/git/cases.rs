//! What once went wrong: each case with what is right, and others of its kind.

use std::fs;

use super::{ALICE, ALICE_AGE, BOB_AGE, CAROL_AGE, FILE, Repository, nothing_leaked};
use crate::support::{Ran, peer, run};

/// The same environment, with civm nowhere in reach.
fn without_civm(repository: &Repository, args: &[&str]) -> Ran {
    let mut command = repository.0.command("git");
    command.args(args);
    run(repository.prepared(command, Some(ALICE)).env("PATH", "/usr/bin:/bin"))
}

/// Makes what `civm git install` wrote look for civm where it is not.
fn hide_civm(repository: &Repository) {
    let civm = assert_cmd::cargo::cargo_bin!("civm").display().to_string();
    for file in [".git/config", ".git/hooks/pre-commit"] {
        let text = repository.0.read(file);
        assert!(text.contains(&civm), "{text}");
        fs::write(repository.0.file(file), text.replace(&civm, "/nowhere/civm")).unwrap();
    }
}

#[test]
fn where_civm_is_missing_git_goes_on_without_it() {
    let repository = Repository::new();
    repository.civm(&["git", "install", "--hooks"]).ok();
    repository.civm(&["secrets", "set", FILE, "first", "--json", "\"new\""]).ok();
    // Not in PATH, but where it was installed from: all works.
    assert!(without_civm(&repository, &["diff"]).ok().out().contains("+first: new\n"));
    hide_civm(&repository);
    for args in
        [&["diff"][..], &["log", "-p"], &["show", "HEAD~1"], &["diff", "--stat"], &["stash", "show", "-p"]]
    {
        if args[0] == "stash" {
            without_civm(&repository, &["stash"]).ok();
        }
        let ran = without_civm(&repository, args).ok();
        assert_eq!(ran.stderr, "", "{args:?}");
        assert!(ran.out().contains("ENC[") || args.contains(&"--stat"), "{args:?}");
    }
    without_civm(&repository, &["stash", "pop"]).ok();
    let commit = without_civm(&repository, &["commit", "-qam", "changed"]).ok();
    assert_eq!(commit.stderr, "civm is not installed: the sops files of this commit are not checked\n");
    // Merges are git's own, with git's markers.
    repository.git(&["checkout", "-qb", "theirs", "HEAD~1"]);
    repository.change("s/one/theirs/");
    let merge = without_civm(&repository, &["merge", "main"]).code(1);
    assert!(!merge.stderr.contains("not found") && !merge.stderr.contains("fatal"), "{}", merge.stderr);
    let text = repository.0.read(FILE);
    assert!(text.contains("<<<<<<< ") && text.contains("\n>>>>>>> "), "{text}");
    // Back with civm, what git merged as text is resolved as any conflict.
    let merge = repository.0.civm(&["secrets", "merge", "--edit", FILE]);
    let keep_ours = "sed -i '/^<<<<<<</d; /^|||||||/,/^>>>>>>>/d'";
    run(repository.prepared(merge, Some(ALICE)).env("EDITOR", keep_ours)).ok();
    assert!(repository.plaintext().contains("first: theirs\n"));
}

#[test]
fn a_civm_that_does_not_work_counts_as_none() {
    use std::os::unix::fs::PermissionsExt as _;
    // An older one that does not know the flags, one for another machine, one that crashes.
    for script in ["#!/bin/sh\nexit 2\n", "#!/nowhere/interpreter\n", "#!/bin/sh\nkill -SEGV $$\n"] {
        let repository = Repository::new();
        repository
            .diverge(|| repository.change("s/one/1/"), || repository.change("s/one/eins/; s/: three/: 3/"));
        let other = repository.0.path("bin");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("civm"), script).unwrap();
        fs::set_permissions(other.join("civm"), fs::Permissions::from_mode(0o755)).unwrap();
        let git = |args: &[&str]| {
            let mut command = repository.0.command("git");
            command.args(args);
            let path = format!("{}:/usr/bin:/bin", other.display());
            run(repository.prepared(command, Some(ALICE)).env("PATH", path))
        };
        assert!(git(&["log", "-p", "-1"]).ok().out().contains("ENC["), "{script}");
        git(&["merge", "theirs"]).code(1);
        assert!(repository.0.read(FILE).contains("\n=======\n"), "{script}");
        let merge = repository.0.civm(&["secrets", "merge", "--edit", FILE]);
        let keep_ours = "sed -i '/^<<<<<<</d; /^|||||||/,/^>>>>>>>/d'";
        run(repository.prepared(merge, Some(ALICE)).env("EDITOR", keep_ours)).ok();
        assert_eq!(
            repository.plaintext(),
            super::PLAIN.replace("one", "1").replace("three", "3"),
            "{script}"
        );
    }
}

#[test]
fn a_file_that_is_not_a_sops_file_merges_as_git_does() {
    // Every kind of merge, once with civm as the driver and once without.
    for style in ["merge", "diff3"] {
        for (name, base, ours, theirs) in [
            ("clean.yaml", "a\nb\nc\nd\ne\n", "A\nb\nc\nd\ne\n", "a\nb\nc\nd\nE\n"),
            ("conflict.yaml", "a\nb\nc\n", "a\nours\nc\n", "a\ntheirs\nc\n"),
            ("no-newline.yaml", "a\nb", "a\nours", "a\ntheirs"),
            ("binary.yaml", "a\0b\n", "a\0ours\n", "a\0theirs\n"),
            ("crlf.yaml", "a\r\nb\r\n", "a\r\nours\r\n", "a\r\ntheirs\r\n"),
            ("both.yaml", "", "a\nx\n", "a\ny\n"),
        ] {
            let merged = |with_civm: bool| {
                let repository = Repository::bare();
                repository.git(&["config", "merge.conflictStyle", style]);
                if with_civm {
                    repository.0.write(".gitattributes", "*.yaml merge=civm diff=civm\n");
                    repository.civm(&["git", "install"]).ok();
                } else {
                    repository.0.write(".gitattributes", "*.png binary\n");
                }
                let write = |text: &str| {
                    if !text.is_empty() {
                        repository.0.write(name, text);
                    }
                    repository.git(&["add", "-A"]);
                    repository.git(&["commit", "--allow-empty", "-qm", "changed"]);
                };
                write(base);
                repository.diverge(|| write(ours), || write(theirs));
                let merge = repository.as_who(None, &["merge", "theirs", "-m", "m"]);
                let text = fs::read(repository.0.file(name)).unwrap();
                (merge.code, String::from_utf8(text).unwrap())
            };
            let (plain, ours) = (merged(false), merged(true));
            // git before 2.44 does not tell a driver what the sides are called.
            let labels = |text: &str| -> String {
                let line = |line: &str| {
                    let marker =
                        ["<<<<<<< ", "||||||| ", ">>>>>>> "].into_iter().find(|sign| line.starts_with(sign));
                    marker.map_or(line.to_owned(), |sign| format!("{sign}\n"))
                };
                text.split_inclusive('\n').map(line).collect()
            };
            assert_eq!((ours.0, labels(&ours.1)), (plain.0, labels(&plain.1)), "{name} {style}");
        }
    }
}

#[test]
fn versions_have_the_names_that_git_gives_them() {
    let repository = Repository::bare();
    for (name, text) in [("base", "a\n"), ("ours", "b\n"), ("theirs", "c\n")] {
        repository.0.write(name, text);
    }
    let labels = ["--labels", "0ab1", "HEAD", "--odd 'name'"];
    let files = ["--marker-size", "9", "--", "base", "ours", "theirs", "x.yaml"];
    repository.civm(&[&["secrets", "merge-driver"], &labels[..], &files].concat()).code(1);
    assert_eq!(repository.0.read("ours"), "<<<<<<<<< HEAD\nb\n=========\nc\n>>>>>>>>> --odd 'name'\n");
}

#[test]
fn a_binary_file_under_a_broad_pattern_is_shown_as_one() {
    let repository = Repository::new();
    repository.0.write("hosts/secrets.png", b"\x89PNG\0\x01\xff");
    repository.git(&["add", "-A"]);
    let diff = repository.git(&["diff", "--cached"]);
    assert!(diff.out().contains("+binary file, 7 bytes, SHA-256 "), "{}", diff.out());
}

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
const FORMATS: [(&str, &str); 5] = [
    ("c/secrets.yaml", "a: one\nb: one\n"),
    ("c/secrets.json", "{\n\t\"a\": \"one\",\n\t\"b\": \"one\"\n}\n"),
    ("c/secrets.env", "a=one\nb=one\n"),
    ("c/secrets.ini", "[s]\na = one\nb = one\n"),
    ("c/secrets.txt", "a one\n"),
];

#[test]
fn a_conflict_cannot_be_committed_unnoticed_and_loses_nothing() {
    for (name, plain) in FORMATS {
        let repository = Repository::new();
        repository.0.write(name, plain);
        repository.civm(&["secrets", "encrypt", "-i", name]).ok();
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
        ] {
            let ran = repository.civm(&[&["secrets"], args].concat());
            assert_ne!(ran.code, 0, "{name} {args:?}");
            let _ = ran.says("merge conflict that is not resolved yet").says("civm secrets merge");
        }
        let check = repository.civm(&["secrets", "check"]).code(1);
        assert!(
            check.out().contains(&format!("{name}:")) && check.out().contains("not resolved yet"),
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
        repository.civm(&["secrets", "decrypt", name]).code(2).says("not resolved yet");
        nothing_leaked(&repository, &["THEIRS"]);

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
        repository.git(&["checkout", "-q", branch]);
        repository.as_who(Some(ALICE), &["merge", other]).code(1);
        let merge = repository.0.civm(&["secrets", "merge", "--edit", FILE]);
        run(repository.prepared(merge, Some(ALICE)).env("EDITOR", keep)).ok();
        repository.git(&["commit", "-qam", "merged"]);
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
        "keys:\n  - &alice {ALICE_AGE}\ncreation_rules:\n  - path_regex: secrets\n    key_groups:\n      - age: [*alice]\n"
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
    assert!(!repository.0.read(FILE).contains("<<<<<<<"));
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
    .says("1 sops files");
}

//! Where git merges and shows text: a missing civm, one that does not work, and files that are not sops files.

use std::fs;

use super::{ALICE, FILE, PLAIN, Repository};
use crate::support::{Ran, run};

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
        assert_eq!(repository.plaintext(), PLAIN.replace("one", "1").replace("three", "3"), "{script}");
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

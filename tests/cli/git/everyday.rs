//! An everyday walk with real git: two people, a shared repository, ten branches. Whatever they do, no value gets lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::{ALICE, ALICE_AGE, BOB, BOB_AGE, CAROL_AGE, Repository, holds};
use crate::support::{Ran, peer, run, run_with};

/// The files at the start.
const FILES: [(&str, &str); 4] = [
    ("s/one.yaml", "# one\na: base\nb: base\nc:\n    d: base\n    e: base\nf: base\n"),
    ("s/two.json", "{\n\t\"a\": \"base\",\n\t\"b\": \"base\"\n}\n"),
    ("s/three.env", "A=base\nB=base\nC=base\n"),
    ("s/four.ini", "[s]\na = base\nb = base\n"),
];
const KEEP_OURS: &str = "sed -i '/^<<<<<<</d; /^|||||||/,/^>>>>>>>/d'";
const KEEP_THEIRS: &str = "sed -i '/^<<<<<<</,/^=======/d; /^>>>>>>>/d'";

/// Somebody with a clone and a key.
struct Person<'a> {
    repository: &'a Repository,
    name: &'static str,
    key: &'static str,
}

impl Person<'_> {
    fn dir(&self) -> PathBuf {
        self.repository.0.path(self.name)
    }

    fn command(&self, program: &str, args: &[&str]) -> std::process::Command {
        let mut command = match program {
            "civm" => self.repository.0.civm(args),
            other => {
                let mut command = self.repository.0.command(other);
                command.args(args);
                command
            }
        };
        command.current_dir(self.dir());
        let mut command = self.repository.prepared(command, Some(self.key));
        command.env("GIT_EDITOR", "true").env("EDITOR", "false");
        command
    }

    #[track_caller]
    fn git(&self, args: &[&str]) -> Ran {
        run(&mut self.command("git", args)).ok()
    }

    #[track_caller]
    fn git_stops(&self, args: &[&str]) -> Ran {
        run(&mut self.command("git", args)).code(1)
    }

    #[track_caller]
    fn civm(&self, args: &[&str]) -> Ran {
        run(&mut self.command("civm", args)).ok()
    }

    /// Somebody else's machine: no civm there.
    #[track_caller]
    fn without_civm(&self, args: &[&str]) -> Ran {
        let config = self.dir().join(".git/config");
        let text = fs::read_to_string(&config).unwrap();
        let civm = assert_cmd::cargo::cargo_bin!("civm").display().to_string();
        let hook = self.dir().join(".git/hooks/pre-commit");
        let hook_text = fs::read_to_string(&hook).unwrap();
        fs::write(&config, text.replace(&civm, "/nowhere/civm")).unwrap();
        fs::write(&hook, hook_text.replace(&civm, "/nowhere/civm")).unwrap();
        let ran = run(self.command("git", args).env("PATH", "/usr/bin:/bin"));
        fs::write(&config, text).unwrap();
        fs::write(&hook, hook_text).unwrap();
        ran
    }

    #[track_caller]
    fn set(&self, file: &str, path: &str, value: &str) {
        run_with(
            &mut self.command("civm", &["secrets", "set", file, path, "--value-stdin"]),
            value.as_bytes(),
        )
        .ok();
    }

    #[track_caller]
    fn get(&self, file: &str, path: &str) -> String {
        self.civm(&["secrets", "get", file, path]).out().to_owned()
    }

    #[track_caller]
    fn commit(&self, what: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-qm", what]);
    }

    #[track_caller]
    fn resolve(&self, file: &str, how: &str) {
        run(self.command("civm", &["secrets", "merge", "--edit", file]).env("EDITOR", how)).ok();
        self.git(&["add", file]);
    }

    /// On a branch of its own, from the first commit.
    #[track_caller]
    fn branch(&self, name: &str, work: impl FnOnce(&Self)) {
        self.git(&["checkout", "-qb", name, "start"]);
        work(self);
        self.commit(name);
        self.git(&["push", "-q", "origin", name]);
        self.git(&["checkout", "-q", "main"]);
    }

    #[track_caller]
    fn share(&self) {
        self.git(&["push", "-q", "origin", "main"]);
    }

    #[track_caller]
    fn fetch(&self) {
        self.git(&["pull", "-q", "--ff-only", "origin", "main"]);
        self.git(&["fetch", "-q", "origin"]);
    }

    fn unresolved(&self, file: &str) -> bool {
        fs::read_to_string(self.dir().join(file)).unwrap().contains("<<<<<<<")
    }
}

#[test]
fn two_people_and_ten_branches_lose_nothing() {
    let repository = Repository(crate::support::Scene::new());
    let origin = repository.0.path("origin.git").display().to_string();
    run(repository.0.command("git").args(["init", "-q", "--bare", "-b", "main", &origin])).ok();
    let alice = Person { repository: &repository, name: "alice", key: ALICE };
    let bob = Person { repository: &repository, name: "bob", key: BOB };
    let clone = |person: &Person<'_>| {
        let dir = person.dir().display().to_string();
        run(&mut repository.prepared(
            {
                let mut command = repository.0.command("git");
                command.args(["clone", "-q", &origin, &dir]);
                command
            },
            None,
        ))
        .ok();
    };

    // Alice starts the project; Bob clones it. Both set git up.
    clone(&alice);
    let write = |person: &Person<'_>, name: &str, text: &str| {
        let path = person.dir().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        &alice,
        ".sops.yaml",
        &format!(
            "keys:\n  - &alice {ALICE_AGE}\n  - &bob {BOB_AGE}\ncreation_rules:\n  - path_regex: ^s/\n    key_groups:\n      - age: [*alice, *bob]\n"
        ),
    );
    for (name, plain) in FILES {
        write(&alice, name, plain);
        alice.civm(&["secrets", "encrypt", "-i", name]);
    }
    alice.git(&["checkout", "-qB", "main"]);
    alice.civm(&["git", "install", "--hooks"]);
    alice.commit("start");
    alice.git(&["tag", "start"]);
    alice.git(&["push", "-q", "origin", "main", "start"]);
    clone(&bob);
    bob.civm(&["git", "install", "--hooks"]);
    assert_eq!(
        bob.git(&["status", "--porcelain"]).out(),
        "",
        "the attributes that Alice committed are Bob's"
    );

    // Ten branches.
    let new = |person: &Person<'_>, name: &str, value: &str| {
        write(person, name, &format!("a: {value}\n"));
        person.civm(&["secrets", "encrypt", "-i", name]);
        person.civm(&["git", "install"]);
    };
    alice.branch("adds", |alice| new(alice, "s/alice.yaml", "alice-new"));
    bob.branch("adds-too", |bob| new(bob, "s/bob.yaml", "bob-new"));
    alice.branch("changes", |alice| alice.set("s/one.yaml", "a", "alice-a"));
    bob.branch("changes-too", |bob| bob.set("s/one.yaml", "c/d", "bob-d"));
    alice.branch("renames", |alice| {
        fs::create_dir_all(alice.dir().join("s/moved")).unwrap();
        alice.git(&["mv", "s/two.json", "s/moved/two.json"]);
        alice.set("s/moved/two.json", "a", "alice-two");
    });
    bob.branch("changes-what-moves", |bob| bob.set("s/two.json", "b", "bob-two"));
    alice.branch("recipients", |alice| {
        alice.civm(&["keys", "add", "carol", CAROL_AGE, "--all"]);
        alice.civm(&["secrets", "update-all"]);
    });
    bob.branch("rotates", |bob| {
        bob.civm(&["secrets", "rotate", "s/one.yaml"]);
        bob.set("s/one.yaml", "c/e", "bob-e");
    });
    bob.branch("conflicts", |bob| {
        bob.set("s/one.yaml", "a", "bob-a");
        bob.set("s/one.yaml", "f", "bob-f");
        bob.set("s/four.ini", "s/a", "bob-four");
    });
    bob.branch("elsewhere", |bob| {
        bob.set("s/three.env", "A", "bob-A");
        // The hook goes on without civm, and says so.
        bob.git(&["add", "-A"]);
        let _ = bob.without_civm(&["commit", "-qm", "elsewhere"]).ok().says("are not checked");
        bob.set("s/three.env", "B", "bob-B");
    });
    // What is right in the end; a conflict takes a value out only where somebody has said so.
    let mut wanted: BTreeMap<(&str, &str), &str> = BTreeMap::new();

    // Alice merges: new files at once (an octopus), then a change, then what was moved and changed.
    alice.git(&["fetch", "-q", "origin"]);
    alice.git(&["merge", "-q", "-m", "new files", "adds", "origin/adds-too"]);
    alice.git(&["merge", "-q", "-m", "changes", "changes"]);
    alice.git(&["merge", "-q", "-m", "renames", "renames"]);
    alice.git(&["merge", "-q", "-m", "what moves", "origin/changes-what-moves"]);
    alice.share();
    wanted.extend([
        (("s/alice.yaml", "a"), "alice-new"),
        (("s/bob.yaml", "a"), "bob-new"),
        (("s/one.yaml", "a"), "alice-a"),
        (("s/moved/two.json", "a"), "alice-two"),
        (("s/moved/two.json", "b"), "bob-two"),
    ]);

    // Bob rebases his change onto that, and picks the new data key from another branch.
    bob.fetch();
    bob.git(&["checkout", "-q", "changes-too"]);
    bob.git(&["rebase", "-q", "main"]);
    bob.git(&["checkout", "-q", "main"]);
    bob.git(&["merge", "-q", "--ff-only", "changes-too"]);
    bob.git(&["cherry-pick", "rotates"]);
    // Work that is not committed yet, put aside for what Alice does meanwhile.
    bob.set("s/four.ini", "s/b", "bob-stashed");
    bob.set("s/one.yaml", "b", "bob-b");
    bob.git(&["stash", "-q"]);
    bob.share();
    alice.fetch();
    alice.set("s/four.ini", "s/a", "alice-four");
    alice.set("s/three.env", "A", "alice-A");
    alice.set("s/three.env", "C", "alice-C");
    alice.commit("alice goes on");
    alice.git(&["merge", "-q", "-m", "recipients", "recipients"]);
    // The files that came from elsewhere meanwhile do not know of Carol.
    run(&mut alice.command("civm", &["secrets", "update-all", "--check"])).code(1);
    alice.civm(&["secrets", "update-all"]);
    alice.commit("recipients of the new files");
    alice.share();
    bob.fetch();
    bob.git(&["stash", "pop", "-q"]);
    bob.commit("from the stash");
    bob.share();
    wanted.extend([
        (("s/one.yaml", "c/d"), "bob-d"),
        (("s/one.yaml", "c/e"), "bob-e"),
        (("s/one.yaml", "b"), "bob-b"),
        (("s/four.ini", "s/b"), "bob-stashed"),
        (("s/three.env", "C"), "alice-C"),
    ]);

    // A conflict that Alice does not resolve: the hook refuses the commit. She makes it anyway, and Bob resolves it.
    alice.fetch();
    let merge = alice.git_stops(&["merge", "-m", "conflicts", "origin/conflicts"]);
    let _ = merge
        .says(r#"`s/one.yaml`: both sides changed ["a"]"#)
        .says(r#"`s/four.ini`: both sides changed ["s"]["a"]"#);
    alice.git_stops(&["commit", "-qam", "refused"]);
    assert!(alice.unresolved("s/one.yaml") && alice.unresolved("s/four.ini"));
    alice.resolve("s/four.ini", KEEP_THEIRS);
    alice.git(&["commit", "-q", "--no-verify", "-am", "conflicts, not resolved"]);
    alice.share();
    bob.fetch();
    let check = run(&mut bob.command("civm", &["secrets", "check"])).code(1);
    assert!(check.out().contains("s/one.yaml:") && !check.out().contains("s/four.ini"), "{}", check.out());
    assert_ne!(run(&mut bob.command("civm", &["secrets", "set", "s/one.yaml", "f", "x"])).code, 0);
    bob.resolve("s/one.yaml", KEEP_OURS);
    bob.commit("resolved");
    bob.share();
    wanted.extend([(("s/one.yaml", "f"), "bob-f"), (("s/four.ini", "s/a"), "bob-four")]);

    // A merge where civm is not installed: git leaves a conflict, which is resolved by value at home.
    bob.git(&["checkout", "-q", "main"]);
    assert_ne!(bob.without_civm(&["merge", "-m", "elsewhere", "elsewhere"]).code, 0);
    assert!(bob.unresolved("s/three.env"));
    bob.resolve("s/three.env", KEEP_OURS);
    bob.commit("elsewhere, resolved");
    wanted.extend([(("s/three.env", "A"), "alice-A"), (("s/three.env", "B"), "bob-B")]);
    bob.share();

    // A rebase that stops at a conflict and goes on.
    alice.fetch();
    alice.git(&["checkout", "-qb", "late", "main~1"]);
    alice.set("s/bob.yaml", "a", "alice-late");
    alice.commit("late");
    bob.set("s/bob.yaml", "a", "bob-late");
    bob.set("s/alice.yaml", "b", "bob-more");
    bob.commit("later");
    bob.share();
    alice.git(&["fetch", "-q", "origin"]);
    alice.git_stops(&["rebase", "-q", "origin/main"]).says(r#"both sides changed ["a"]"#);
    // In a rebase, theirs is what is moved: Alice's own.
    alice.resolve("s/bob.yaml", KEEP_THEIRS);
    alice.git(&["rebase", "--continue"]);
    alice.git(&["push", "-q", "origin", "late:main"]);
    alice.git(&["checkout", "-q", "main"]);
    alice.fetch();
    bob.fetch();
    wanted.extend([(("s/bob.yaml", "a"), "alice-late"), (("s/alice.yaml", "b"), "bob-more")]);

    // At the end both have the same, every value is there, and the files are as the rules want them.
    assert_eq!(alice.git(&["rev-parse", "main"]).out(), bob.git(&["rev-parse", "main"]).out());
    for person in [&alice, &bob] {
        assert_eq!(person.git(&["status", "--porcelain"]).out(), "", "{}", person.name);
        for ((file, path), value) in &wanted {
            assert_eq!(person.get(file, path), *value, "{file} {path}");
        }
        person.civm(&["secrets", "check", "--strict"]);
        person.civm(&["secrets", "update-all", "--check"]);
        person.civm(&["git", "install", "--hooks", "--check"]);
    }
    let sops = peer("sops");
    for file in alice.git(&["ls-files", "s"]).out().lines() {
        let text = fs::read_to_string(alice.dir().join(file)).unwrap();
        assert!([ALICE_AGE, BOB_AGE, CAROL_AGE].iter().all(|recipient| text.contains(recipient)), "{file}");
        if let Some(sops) = &sops {
            run(&mut alice.command(sops.to_str().unwrap(), &["decrypt", file])).ok();
        }
    }
    if sops.is_none() {
        eprintln!("skipped: no sops at hand");
    }
    // Every value that anybody has committed is in the history of main, under its file or the name that it had.
    let log = alice.git(&["log", "-p", "-m", "--full-history", "--format=", "main"]).out().to_owned();
    for value in [
        "alice-new",
        "bob-new",
        "alice-a",
        "bob-d",
        "alice-two",
        "bob-two",
        "bob-e",
        "bob-a",
        "bob-f",
        "bob-four",
        "bob-A",
        "bob-B",
        "bob-stashed",
        "bob-b",
        "alice-four",
        "alice-A",
        "alice-C",
        "alice-late",
        "bob-late",
        "bob-more",
    ] {
        assert!(log.contains(value), "{value} is not in the history");
        for place in ["alice", "bob", "origin.git", "home", "tmp", "run"] {
            assert_eq!(holds(&repository.0.path(place), value), None, "{value} lies open");
        }
    }
}

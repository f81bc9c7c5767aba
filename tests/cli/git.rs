//! git with sops files: merges by value, plaintext in differences, and what is set up for both.

use std::fs;
use std::path::Path;

use crate::support::{Ran, Scene, run, run_with};

/// Throw-away identities; they protect nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB: &str = "AGE-SECRET-KEY-16NC6D5XQZ5GXKRZETARH27RQ8FT888FC4NNLLMVQAR5AGPT389WSGY4QER";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";
const CAROL_AGE: &str = "age15096taqg3qls9fhljy57qr8wsqvnnnur758886q09rdmja2mtdlszg45wl";

mod cases;
mod content;
mod everyday;
mod history;
mod setup;
mod text;

const FILE: &str = "hosts/web/secrets.yaml";
const PLAIN: &str =
    "# about first\nfirst: one\nsecond:\n    deep: two\n    list:\n        - x\n        - z\nthird: three\n";

/// A repository with one sops file on the branch `main`, and civm set up in it.
struct Repository(Scene);

impl Repository {
    fn new() -> Self {
        let this = Self::bare();
        this.civm(&["git", "install"]).ok();
        this.git(&["add", "-A"]);
        this.git(&["commit", "-qm", "set up"]);
        this
    }

    /// Without what `civm git install` does.
    fn bare() -> Self {
        let this = Self(Scene::new());
        this.rules(&[ALICE_AGE]);
        this.git(&["init", "-q", "-b", "main"]);
        this.0.write(FILE, PLAIN);
        run(&mut this.0.civm(&["secrets", "encrypt", "-i", FILE])).ok();
        this.git(&["add", "-A"]);
        this.git(&["commit", "-qm", "start"]);
        this
    }

    fn rules(&self, recipients: &[&str]) {
        let named = ["alice", "bob", "carol"];
        let anchors: String = [ALICE_AGE, BOB_AGE, CAROL_AGE]
            .iter()
            .zip(named)
            .map(|(recipient, name)| format!("  - &{name} {recipient}\n"))
            .collect();
        let all: String = recipients.iter().map(|recipient| format!("          - {recipient}\n")).collect();
        self.0.write(
            ".sops.yaml",
            format!("keys:\n{anchors}creation_rules:\n  - path_regex: secrets\n    key_groups:\n      - age:\n{all}"),
        );
    }

    /// git's environment: nobody's configuration but the scene's, and civm in PATH.
    fn prepared(&self, mut command: std::process::Command, key: Option<&str>) -> std::process::Command {
        let civm = Path::new(assert_cmd::cargo::cargo_bin!("civm")).parent().unwrap().to_path_buf();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(civm).chain(std::env::split_paths(&path))).unwrap();
        command.env("PATH", path).env("GIT_CONFIG_NOSYSTEM", "1");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "A").env(format!("GIT_{role}_EMAIL"), "a@example.org");
        }
        if let Some(key) = key {
            command.env("SOPS_AGE_KEY", key);
        }
        command
    }

    fn as_who(&self, key: Option<&str>, args: &[&str]) -> Ran {
        let mut command = self.0.command("git");
        command.args(args);
        run(&mut self.prepared(command, key))
    }

    fn git(&self, args: &[&str]) -> Ran {
        self.as_who(Some(ALICE), args).ok()
    }

    fn civm(&self, args: &[&str]) -> Ran {
        run(&mut self.prepared(self.0.civm(args), Some(ALICE)))
    }

    /// Edits the file with sed, and commits.
    fn change(&self, script: &str) {
        let mut edit = self.prepared(self.0.civm(&["secrets", "edit", FILE]), Some(ALICE));
        run(edit.env("EDITOR", format!("sed -i '{script}'"))).ok();
        self.git(&["commit", "-qam", "changed"]);
    }

    /// Two branches off `main`, each with its own change; ours is checked out.
    fn diverge(&self, ours: impl Fn(), theirs: impl Fn()) {
        self.git(&["checkout", "-qb", "theirs"]);
        theirs();
        self.git(&["checkout", "-qb", "ours", "main"]);
        ours();
    }

    fn plaintext(&self) -> String {
        self.civm(&["secrets", "decrypt", FILE]).ok().out().to_owned()
    }

    fn at(&self, revision: &str) -> String {
        self.as_who(None, &["show", "--no-textconv", &format!("{revision}:{FILE}")]).ok().out().to_owned()
    }
}

/// The lines that hold values, without the metadata.
fn values(text: &str) -> Vec<&str> {
    text.lines().take_while(|line| *line != "sops:").collect()
}

/// Whether any file below a directory holds a piece of text; git's own objects are looked into by git.
fn holds(dir: &Path, piece: &str) -> Option<std::path::PathBuf> {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if let Some(found) = holds(&path, piece) {
                return Some(found);
            }
        } else if String::from_utf8_lossy(&fs::read(&path).unwrap()).contains(piece) {
            return Some(path);
        }
    }
    None
}

/// No plaintext in work tree, repository, home and temporary directory, nor in any object.
#[track_caller]
fn nothing_leaked(repository: &Repository, secrets: &[&str]) {
    let git = |args: &[&str]| repository.as_who(None, args).ok();
    let list = git(&["cat-file", "--batch-all-objects", "--batch-check=%(objectname)", "--unordered"]);
    let objects: Vec<u8> = {
        let mut command = repository.0.command("git");
        command.args(["cat-file", "--batch"]);
        run_with(&mut repository.prepared(command, None), &list.stdout).ok().stdout
    };
    for secret in secrets {
        for place in ["project", "home", "tmp", "run"] {
            assert_eq!(holds(&repository.0.path(place), secret), None, "{secret}");
        }
        assert!(!String::from_utf8_lossy(&objects).contains(secret), "{secret} is in an object");
    }
}

#[test]
fn changes_of_different_keys_merge_and_the_rest_keeps_its_ciphertext() {
    let repository = Repository::new();
    repository.diverge(
        || repository.change("s/one/ours-new/; s/- x/- w\\n        - x/"),
        || repository.change("s/: three/: theirs-new/; /deep/a \\    added: by them"),
    );
    repository.git(&["merge", "-q", "theirs", "-m", "merged"]);
    assert_eq!(
        repository.plaintext(),
        "# about first\nfirst: ours-new\nsecond:\n    deep: two\n    added: by them\n    list:\n        - w\n        \
         - x\n        - z\nthird: theirs-new\n"
    );
    let merged = repository.at("HEAD");
    let [base, ours, theirs] = ["main", "HEAD^1", "HEAD^2"].map(|revision| repository.at(revision));
    let (base, ours, theirs) = (values(&base), values(&ours), values(&theirs));
    for line in values(&merged) {
        // Every value is the ciphertext of the side that it comes from, byte for byte.
        assert!(ours.contains(&line) || theirs.contains(&line), "{line}");
        let touched = ["first:", "third:", "added:"].iter().any(|key| line.contains(key));
        assert!(touched || base.contains(&line) || ours.contains(&line), "{line}");
    }
    assert!(repository.0.read(FILE) == merged);
    nothing_leaked(&repository, &["ours-new", "theirs-new", "by them"]);
}

#[test]
fn both_may_make_the_same_change() {
    let repository = Repository::new();
    repository.diverge(
        || repository.change("s/one/same/; s/: three/: 3/"),
        || repository.change("s/one/same/; /deep/d"),
    );
    repository.git(&["merge", "-q", "theirs", "-m", "merged"]);
    assert_eq!(
        repository.plaintext(),
        "# about first\nfirst: same\nsecond:\n    list:\n        - x\n        - z\nthird: 3\n"
    );
}

#[test]
fn a_conflict_names_the_keys_and_stays_in_the_file_encrypted() {
    let repository = Repository::new();
    repository.diverge(
        || repository.change("s/one/ours-secret/; s/: three/: 3/"),
        || repository.change("s/one/theirs-secret/; s/deep: two/deep: 2/"),
    );
    let merge = repository.as_who(Some(ALICE), &["merge", "theirs"]).code(1);
    let merge = merge.says(r#"both sides changed ["first"]"#).says("civm secrets merge");
    let _ = merge.silent_on("ours-secret").silent_on("theirs-secret").silent_on("[\"third\"]");
    let before = repository.0.read(FILE);
    // The value that both changed, and the MAC; what merged is there once.
    assert_eq!(
        before.matches("\n<<<<<<< ours (not merged yet, resolve with `civm secrets merge`)\n").count(),
        2
    );
    assert_eq!((before.matches("first: ENC[").count(), before.matches("third: ENC[").count()), (3, 1));
    let status = repository.git(&["status", "--porcelain"]);
    assert!(status.out().contains(&format!("UU {FILE}")), "{}", status.out());
    nothing_leaked(&repository, &["ours-secret", "theirs-secret"]);

    // Later, with an editor: markers that are left keep the file as it is.
    let resolve = |editor: &str| {
        let command = repository.0.civm(&["secrets", "merge", "--edit", FILE]);
        run(repository.prepared(command, Some(ALICE)).env("EDITOR", editor))
    };
    assert_ne!(resolve("true").code, 0);
    assert_ne!(resolve("false").code, 0);
    assert_ne!(resolve("sed -i s/first/1st/").says("still has conflict markers").code, 0);
    assert_eq!(repository.0.read(FILE), before);
    run(&mut repository.prepared(repository.0.civm(&["secrets", "merge", FILE]), Some(ALICE))).code(1);
    assert_eq!(repository.0.read(FILE), before);
    let seen = repository.0.path("run/seen");
    let editor = format!(
        "sh -c 'cp \"$0\" {}; sed -i \"/^<<<<<<</d; /^|||||||/,/^>>>>>>>/d\" \"$0\"'",
        seen.display()
    );
    resolve(&editor).ok().says("git add");
    assert_eq!(
        fs::read_to_string(&seen).unwrap(),
        "# about first\n<<<<<<< ours\nfirst: ours-secret\n||||||| base\nfirst: one\n=======\nfirst: theirs-secret\n\
         >>>>>>> theirs\nsecond:\n    deep: 2\n    list:\n        - x\n        - z\nthird: 3\n"
    );
    fs::remove_file(seen).unwrap();
    assert_eq!(
        repository.plaintext(),
        "# about first\nfirst: ours-secret\nsecond:\n    deep: 2\n    list:\n        - x\n        - z\nthird: 3\n"
    );
    repository.git(&["add", FILE]);
    repository.git(&["commit", "-qm", "resolved"]);
    nothing_leaked(&repository, &["ours-secret", "theirs-secret"]);
    run(&mut repository.prepared(repository.0.civm(&["secrets", "merge", FILE]), Some(ALICE)))
        .code(1)
        .says("has no merge conflict");
}

#[test]
fn the_driver_itself_opens_the_editor_where_somebody_sits() {
    let repository = Repository::new();
    repository.diverge(|| repository.change("s/one/1/"), || repository.change("s/one/eins/"));
    // `script` gives a terminal.
    if run(repository.0.command("sh").args(["-c", "command -v script"])).code != 0 {
        return eprintln!("skipped: no `script` at hand");
    }
    let mut command = repository.0.command("script");
    command.args(["-qec", "git merge theirs -m merged", "/dev/null"]);
    command.env("EDITOR", "sed -i '/^<<<<<<</,/^=======/d; /^>>>>>>>/d'").env("TERM", "dumb");
    run(&mut repository.prepared(command, Some(ALICE))).ok();
    assert!(repository.plaintext().contains("first: eins\n"));
    assert_eq!(repository.git(&["status", "--porcelain"]).out(), "");
    nothing_leaked(&repository, &["eins"]);
}

#[test]
fn without_a_key_the_merge_is_a_conflict_and_nothing_is_lost() {
    let repository = Repository::new();
    repository.diverge(|| repository.change("s/one/1/"), || repository.change("s/: three/: 3/"));
    let before = repository.0.read(FILE);
    for key in [None, Some(BOB)] {
        repository.as_who(key, &["merge", "theirs"]).code(1).says("ours: ").says(ALICE_AGE);
        repository.civm(&["secrets", "get", FILE, "first"]).code(2).says("unresolved merge conflict");
        repository.git(&["merge", "--abort"]);
        assert_eq!(repository.0.read(FILE), before);
        // Whoever has a key can resolve it even where the index has only what is in the file.
        repository.as_who(key, &["merge", "theirs"]).code(1);
        repository.git(&["commit", "-qam", "merged without a key"]);
        repository.civm(&["secrets", "merge", FILE]).ok();
        assert_eq!(repository.plaintext(), PLAIN.replace("one", "1").replace("three", "3"));
        repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    }
    repository.git(&["merge", "-q", "theirs", "-m", "merged"]);
}

#[test]
fn recipients_of_both_sides_merge() {
    let repository = Repository::new();
    let update = |recipients: &[&str]| {
        repository.rules(recipients);
        repository.civm(&["secrets", "updatekeys", "-y", FILE]).ok();
        repository.git(&["commit", "-qam", "recipients"]);
    };
    repository.git(&["checkout", "-q", "main"]);
    update(&[ALICE_AGE, CAROL_AGE]);
    repository.diverge(
        || update(&[ALICE_AGE, CAROL_AGE, BOB_AGE]),
        || {
            update(&[ALICE_AGE]);
            repository.change("s/one/changed/");
        },
    );
    // The rules merge as well.
    repository.git(&["merge", "-q", "theirs", "-m", "merged"]);
    repository.civm(&["secrets", "check", "--strict"]).ok();
    let text = repository.0.read(FILE);
    assert!(text.contains(BOB_AGE) && text.contains(ALICE_AGE) && !text.contains(CAROL_AGE), "{text}");
    let as_bob = repository.prepared(repository.0.civm(&["secrets", "get", FILE, "first"]), Some(BOB));
    assert_eq!(run(&mut { as_bob }).ok().out(), "changed");
}

#[test]
fn a_file_that_both_have_made_merges_what_is_not_the_same() {
    let repository = Repository::new();
    let make = |plain: &'static str| {
        let repository = &repository;
        move || {
            repository.0.write("hosts/new/secrets.yaml", plain);
            repository.civm(&["secrets", "encrypt", "-i", "hosts/new/secrets.yaml"]).ok();
            repository.git(&["add", "-A"]);
            repository.git(&["commit", "-qm", "new"]);
        }
    };
    repository.diverge(make("a: 1\nb: 2\n"), make("a: 1\nc: 3\n"));
    repository.git(&["merge", "-q", "theirs", "-m", "merged"]);
    let text = repository.civm(&["secrets", "decrypt", "hosts/new/secrets.yaml"]).ok();
    assert_eq!(text.out(), "a: 1\nb: 2\nc: 3\n");
}

#[test]
fn other_formats_merge_as_well() {
    for (name, plain, ours, theirs, want) in [
        (
            "a/secrets.json",
            "{\n\t\"a\": 1,\n\t\"b\": 2\n}\n",
            "s/1/3/",
            "s/2/4/",
            "{\n\t\"a\": 3,\n\t\"b\": 4\n}\n",
        ),
        ("a/secrets.env", "# c\nA=1\nB=2\n", "s/A=1/A=3/", "s/B=2/B=4/", "# c\nA=3\nB=4\n"),
        ("a/secrets.ini", "[s]\na = 1\nb = 2\n", "s/1/3/", "s/2/4/", "[s]\na = 3\nb = 4\n"),
    ] {
        let repository = Repository::bare();
        repository.0.write(name, plain);
        repository.civm(&["secrets", "encrypt", "-i", name]).ok();
        repository.civm(&["git", "install"]).ok();
        repository.git(&["add", "-A"]);
        repository.git(&["commit", "-qm", "more"]);
        let change = |script: &str| {
            let mut edit = repository.prepared(repository.0.civm(&["secrets", "edit", name]), Some(ALICE));
            run(edit.env("EDITOR", format!("sed -i '{script}'"))).ok();
            repository.git(&["commit", "-qam", "changed"]);
        };
        repository.diverge(|| change(ours), || change(theirs));
        repository.git(&["merge", "-q", "theirs", "-m", "merged"]);
        let plain = repository.civm(&["secrets", "decrypt", name]).ok();
        assert_eq!(plain.out().trim_end(), want.trim_end(), "{name}");
    }
}

#[test]
fn a_binary_file_that_is_no_text_is_a_conflict_without_an_editor() {
    let repository = Repository::bare();
    let name = "a/secrets.der";
    let write = |bytes: &[u8]| {
        repository.0.write("plain", bytes);
        if repository.0.file(name).exists() {
            repository.civm(&["secrets", "replace", name, "--from", "plain"]).ok();
        } else {
            repository.0.write(name, bytes);
            repository.civm(&["secrets", "encrypt", "-i", name]).ok();
        }
        fs::remove_file(repository.0.file("plain")).unwrap();
        repository.git(&["add", "-A"]);
        repository.git(&["commit", "-qm", "changed"]);
    };
    write(b"\xff\x00base");
    repository.civm(&["git", "install"]).ok();
    repository.git(&["add", "-A"]);
    repository.git(&["commit", "-qm", "set up"]);
    repository.diverge(|| write(b"\xff\x00ours"), || write(b"\xff\x00theirs"));
    repository.as_who(Some(ALICE), &["merge", "theirs"]).code(1);
    let before = repository.0.read(name);
    assert!(before.contains("\n<<<<<<< ours") && before.contains("\n>>>>>>> theirs\n"), "{before}");
    let merge = repository.0.civm(&["secrets", "merge", "--edit", name]);
    run(repository.prepared(merge, Some(ALICE)).env("EDITOR", "true")).code(1).says("not text");
    assert_eq!(repository.0.read(name), before);
}

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
fn a_conflict_names_the_keys_and_leaves_the_file_encrypted() {
    let repository = Repository::new();
    repository.diverge(
        || repository.change("s/one/ours-secret/; s/: three/: 3/"),
        || repository.change("s/one/theirs-secret/; s/deep: two/deep: 2/"),
    );
    let before = repository.0.read(FILE);
    let merge = repository.as_who(Some(ALICE), &["merge", "theirs"]).code(1);
    let merge = merge.says(r#"both sides changed ["first"]"#).says("civm secrets merge");
    let _ = merge.silent_on("ours-secret").silent_on("theirs-secret").silent_on("[\"third\"]");
    assert_eq!(repository.0.read(FILE), before);
    let status = repository.git(&["status", "--porcelain"]);
    assert!(status.out().contains(&format!("UU {FILE}")), "{}", status.out());
    nothing_leaked(&repository, &["ours-secret", "theirs-secret", "<<<<<<<"]);

    // Later, with an editor: markers that are left keep the file as it is.
    let resolve = |editor: &str| {
        let command = repository.0.civm(&["secrets", "merge", "--edit", FILE]);
        run(repository.prepared(command, Some(ALICE)).env("EDITOR", editor))
    };
    assert_ne!(resolve("true").code, 0);
    assert_ne!(resolve("false").code, 0);
    assert_ne!(resolve("sed -i s/first/1st/").says("conflicts between markers").code, 0);
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
        .says("not unmerged");
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
        assert_eq!(repository.0.read(FILE), before);
        repository.git(&["merge", "--abort"]);
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
    // The rules are no sops file: git has its own opinion of them.
    let _ = repository.as_who(Some(ALICE), &["merge", "-q", "-X", "ours", "theirs", "-m", "merged"]);
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
fn differences_show_plaintext_to_who_can_read_it_and_to_nobody_else() {
    let repository = Repository::new();
    repository.change("s/one/changed/");
    let shown = repository.git(&["log", "-p", "-2"]);
    assert!(shown.out().contains("-first: one\n+first: changed\n"), "{}", shown.out());
    assert!(!shown.out().contains("ENC["));
    let shown = repository.as_who(None, &["log", "-p", "-2"]).ok();
    assert!(shown.out().contains("+first: ENC[") && !shown.out().contains("changed\n+"), "{}", shown.out());
    let textconv = |file: &str, key: Option<&str>| {
        run(&mut repository.prepared(repository.0.civm(&["secrets", "textconv", file]), key))
    };
    assert_eq!(textconv(FILE, Some(ALICE)).ok().out(), PLAIN.replace("one", "changed"));
    assert_eq!(textconv(FILE, None).ok().out(), repository.0.read(FILE));
    repository.0.write("plain.yaml", "a: [\n");
    assert_eq!(textconv("plain.yaml", None).ok().out(), "a: [\n");
    textconv("missing.yaml", None).code(100);
    nothing_leaked(&repository, &["first: changed"]);
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
    let before = repository.0.read(name);
    repository.as_who(Some(ALICE), &["merge", "theirs"]).code(1);
    let merge = repository.0.civm(&["secrets", "merge", "--edit", name]);
    run(repository.prepared(merge, Some(ALICE)).env("EDITOR", "true")).code(1).says("no text");
    assert_eq!(repository.0.read(name), before);
}

/// Encrypts the file anew: another data key.
fn rotate(repository: &Repository) {
    let plain = repository.civm(&["secrets", "decrypt", FILE]).ok().stdout;
    repository.0.write(FILE, plain);
    repository.civm(&["secrets", "encrypt", "-i", FILE]).ok();
    repository.git(&["commit", "-qam", "rotated"]);
}

#[test]
fn one_side_may_have_another_data_key() {
    for theirs_rotates in [true, false] {
        let repository = Repository::new();
        let other = || repository.change("s/one/1/");
        let rotating = || {
            rotate(&repository);
            repository.change("s/: three/: 3/");
        };
        if theirs_rotates {
            repository.diverge(other, rotating);
        } else {
            repository.diverge(rotating, other);
        }
        repository.git(&["merge", "-q", "theirs", "-m", "merged"]);
        assert!(repository.plaintext().starts_with("# about first\nfirst: 1\n"));
        assert!(repository.plaintext().ends_with("third: 3\n"));
        // The new key is the merged file's, and what it encrypted stays.
        let rotated = repository.at(if theirs_rotates { "HEAD^2" } else { "HEAD^1" });
        let (merged, rotated) = (repository.at("HEAD"), values(&rotated).join("\n"));
        for line in values(&merged).iter().filter(|line| !line.starts_with("first:")) {
            assert!(rotated.contains(line), "{line}");
        }
        nothing_leaked(&repository, &["third: 3"]);
    }
}

#[test]
fn whoever_came_later_merges_branches_from_before() {
    let repository = Repository::new();
    let add_bob = || {
        repository.rules(&[ALICE_AGE, BOB_AGE]);
        repository.civm(&["secrets", "updatekeys", "-y", FILE]).ok();
        repository.git(&["commit", "-qam", "bob"]);
        repository.change("s/one/1/");
    };
    repository.diverge(add_bob, || repository.change("s/: three/: 3/"));
    // Theirs and the base were not encrypted for bob, but with the same data key.
    repository.as_who(Some(BOB), &["merge", "-q", "theirs", "-m", "merged"]).ok();
    assert!(repository.plaintext().contains("first: 1\n") && repository.plaintext().contains("third: 3\n"));
}

#[test]
fn git_is_set_up_once_and_taken_down_again() {
    let repository = Repository::bare();
    repository.0.write(".gitattributes", "*.png binary");
    repository.civm(&["git", "install", "--check"]).code(1).says("not set up");
    assert_eq!(repository.0.read(".gitattributes"), "*.png binary");
    repository.civm(&["git", "install"]).ok().says("merge.civm.driver");
    let attributes = repository.0.read(".gitattributes");
    assert!(attributes.starts_with("*.png binary\n"), "{attributes}");
    assert!(attributes.contains("\n/hosts/*/secrets.yaml diff=civm merge=civm\n"), "{attributes}");
    let config = repository.0.read(".git/config");
    assert!(config.contains("driver = civm secrets merge-driver"), "{config}");
    repository.civm(&["git", "install"]).ok().says("git is set up");
    repository.civm(&["git", "install", "--check"]).ok();
    assert_eq!((repository.0.read(".gitattributes"), repository.0.read(".git/config")), (attributes, config));
    // Another file is another pattern.
    repository.0.write("other secrets.yaml", "a: b\n");
    repository.civm(&["secrets", "encrypt", "-i", "other secrets.yaml"]).ok();
    repository.civm(&["git", "install", "--check"]).code(1).says(".gitattributes");
    repository.civm(&["git", "install"]).ok();
    for name in ["other secrets.yaml", FILE, "hosts/later/secrets.yaml"] {
        let attributes = repository.git(&["check-attr", "merge", "diff", "--", name]);
        assert_eq!(attributes.out().matches(": civm").count(), 2, "{}", attributes.out());
    }
    repository.civm(&["git", "uninstall"]).ok();
    assert_eq!(repository.0.read(".gitattributes"), "*.png binary\n");
    assert!(!repository.0.read(".git/config").contains("civm"));
    fs::remove_file(repository.0.file(".gitattributes")).unwrap();
    repository.civm(&["git", "install"]).ok();
    repository.civm(&["git", "uninstall"]).ok();
    assert!(!repository.0.file(".gitattributes").exists());
    repository.civm(&["git", "install", "--global"]).ok();
    assert!(fs::read_to_string(repository.0.path("home/.gitconfig")).unwrap().contains("textconv = civm"));
    assert!(!repository.0.read(".git/config").contains("civm"));
    repository.civm(&["git", "uninstall", "--global"]).ok();
    assert!(!fs::read_to_string(repository.0.path("home/.gitconfig")).unwrap().contains("civm"));
}

#[test]
fn a_hook_is_written_only_where_there_is_none() {
    let repository = Repository::bare();
    repository.civm(&["git", "install", "--hooks"]).ok().says("pre-commit");
    let hook = ".git/hooks/pre-commit";
    assert!(repository.0.read(hook).ends_with("exec civm secrets check --staged\n"));
    repository.git(&["add", "-A"]);
    repository.git(&["commit", "-qm", "fine"]);
    repository.0.write("hosts/new/secrets.yaml", "password: in clear\n");
    repository.git(&["add", "-A"]);
    assert_ne!(repository.as_who(Some(ALICE), &["commit", "-qm", "not fine"]).code, 0);
    repository.civm(&["git", "uninstall"]).ok();
    assert!(!repository.0.file(hook).exists());
    repository.0.write(hook, "#!/bin/sh\nmine\n");
    repository.civm(&["git", "install", "--hooks"]).ok().says("is left as it is");
    repository.civm(&["git", "uninstall"]).ok();
    assert_eq!(repository.0.read(hook), "#!/bin/sh\nmine\n");
}

#[test]
fn outside_of_a_repository_git_has_the_word() {
    let scene = Scene::new();
    run(&mut scene.civm(&["git", "install"])).code(1).says("not a git repository");
    run(&mut scene.civm(&["secrets", "diff"])).code(1).says("not a git repository");
    run(&mut scene.civm(&["secrets", "merge", "a.yaml"])).code(1).says("not a git repository");
}

#[test]
fn differences_name_keys_and_recipients_and_values_only_if_asked() {
    let repository = Repository::bare();
    let diff = |args: &[&str], key: Option<&str>| {
        let words: Vec<&str> = ["secrets", "diff"].iter().chain(args).copied().collect();
        run(&mut repository.prepared(repository.0.civm(&words), key))
    };
    assert_eq!(diff(&["--exit-code"], Some(ALICE)).ok().out(), "");
    repository.change("s/one/secret-word/; /deep/d; /^third/a fourth: [1, 2]");
    repository.rules(&[ALICE_AGE, BOB_AGE]);
    repository.civm(&["secrets", "updatekeys", "-y", FILE]).ok();
    let want = |lines: &str| format!("{FILE}\n{lines}");
    let shown = diff(&["HEAD~1", "HEAD"], Some(ALICE)).ok();
    let keys = "  ~ [\"first\"]\n  - [\"second\"][\"deep\"]\n  + [\"fourth\"]\n";
    assert_eq!(shown.out(), want(keys));
    assert_eq!(diff(&["HEAD~1..HEAD"], Some(ALICE)).ok().out(), shown.out());
    assert_eq!(diff(&[], Some(ALICE)).ok().out(), want("  + recipient bob\n"));
    assert_eq!(diff(&["--exit-code", "HEAD"], Some(ALICE)).code(1).out(), want("  + recipient bob\n"));
    assert_eq!(diff(&["--staged"], Some(ALICE)).ok().out(), "");
    assert_eq!(diff(&["HEAD", "--", "elsewhere"], Some(ALICE)).ok().out(), "");
    diff(&["nothing"], Some(ALICE)).code(100).says("neither a revision nor a file");
    let shown = diff(&["HEAD~1", FILE], Some(ALICE)).ok().silent_on("secret-word");
    assert!(shown.out().contains("~ [\"first\"]\n") && shown.out().contains("+ recipient bob"));
    let shown = diff(&["--show", "HEAD~1"], Some(ALICE)).ok();
    assert!(shown.out().contains("  - [\"first\"]: one\n  + [\"first\"]: secret-word\n"), "{}", shown.out());
    assert!(shown.out().contains("  + [\"fourth\"]\n        - 1\n        - 2\n"), "{}", shown.out());
    // Without a key: what the files say without one.
    let shown = diff(&["HEAD~1"], None).ok().says("no identity");
    assert!(
        shown.out().contains("~ [\"first\"]\n") && !shown.out().contains("[\"third\"]"),
        "{}",
        shown.out()
    );
    diff(&["--show", "HEAD~1"], None).code(1).silent_on("secret-word");
    let json = diff(&["--json", "--show", "HEAD~1"], Some(ALICE)).ok();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let file = &json["files"][0];
    assert_eq!((&file["path"], &file["decrypted"]), (&FILE.into(), &true.into()));
    assert_eq!(file["recipients_added"][0]["name"], "bob");
    let change =
        |path: &str| file["changes"].as_array().unwrap().iter().find(|one| one["path"] == path).unwrap();
    assert_eq!(change("[\"first\"]")["new"], "secret-word");
    assert_eq!(change("[\"fourth\"]")["new"], serde_json::json!([1, 2]));
    // Two files.
    fs::write(repository.0.file("old.yaml"), repository.at("HEAD~1")).unwrap();
    let shown = diff(&["old.yaml", FILE], Some(ALICE)).ok();
    assert!(shown.out().starts_with(&format!("old.yaml -> {FILE}\n")), "{}", shown.out());
}

#[test]
fn new_content_keeps_the_ciphertext_of_what_stays() {
    let repository = Repository::bare();
    let before = repository.0.read(FILE);
    let replace = |args: &[&str], text: &str| {
        let words: Vec<&str> = ["secrets", "replace", FILE].iter().chain(args).copied().collect();
        run_with(&mut repository.prepared(repository.0.civm(&words), Some(ALICE)), text.as_bytes())
    };
    replace(&[], &PLAIN.replace("    ", "  ")).ok().says("already");
    assert_eq!(repository.0.read(FILE), before);
    replace(&[], &PLAIN.replace("one", "new")).ok();
    let after = repository.0.read(FILE);
    let gone: Vec<&str> = before.lines().filter(|line| !after.contains(*line)).collect();
    assert!(
        gone.iter().all(|line| ["first:", "lastmodified:", "mac:"].iter().any(|key| line.contains(key))),
        "{gone:?}"
    );
    assert_eq!(repository.plaintext(), PLAIN.replace("one", "new"));
    repository.0.write("plain.json", "{\"first\": \"new\", \"m\": 1}");
    replace(&["--from", "plain.json", "--input-type", "json"], "").ok();
    assert_eq!(repository.plaintext(), "first: new\nm: 1\n");
    let kept = repository.0.read(FILE);
    assert_eq!(values(&after).iter().find(|line| line.starts_with("first:")), values(&kept).first());
    for (text, code) in [("a: 1\nsops: {}\n", 203), ("a: [secret-word", 2), ("", 92)] {
        let _ = replace(&[], text).code(code).silent_on("secret-word");
        assert_eq!(repository.0.read(FILE), kept);
    }
    replace(&["--input-type", "toml"], "a").code(2).says("formats");
    run_with(&mut repository.0.civm(&["secrets", "replace", FILE]), b"a: 1\n").code(128);
    assert_eq!(repository.0.read(FILE), kept);
}

#[test]
fn a_file_that_is_not_encrypted_merges_as_text() {
    let repository = Repository::new();
    let name = "hosts/demo/secrets.yaml";
    let write = |text: &str| {
        repository.0.write(name, text);
        repository.git(&["add", "-A"]);
        repository.git(&["commit", "-qm", "changed"]);
    };
    write("a: 1\n\n\n\nb: 2\n");
    repository.diverge(|| write("a: 3\n\n\n\nb: 2\n"), || write("a: 1\n\n\n\nb: 4\n"));
    repository.git(&["merge", "-q", "theirs", "-m", "merged"]);
    assert_eq!(repository.0.read(name), "a: 3\n\n\n\nb: 4\n");
    repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    write("a: 3\n\n\n\nb: 5\n");
    repository.as_who(None, &["merge", "theirs"]).code(1).says("same lines");
    assert!(repository.0.read(name).contains("<<<<<<< ours\nb: 5\n"));
}

#[test]
fn rebases_and_picks_merge_as_well() {
    let repository = Repository::new();
    repository.diverge(|| repository.change("s/one/1/"), || repository.change("s/: three/: 3/"));
    repository.git(&["rebase", "-q", "theirs"]);
    let want = PLAIN.replace("one", "1").replace("three", "3");
    assert_eq!(repository.plaintext(), want);
    repository.git(&["checkout", "-q", "theirs"]);
    repository.git(&["cherry-pick", "ours"]);
    assert_eq!(repository.plaintext(), want);
}

#[test]
fn histories_that_cross_merge_without_a_question() {
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
    resolve("ours", "theirs", "sed -i '/^<<<<<<</d; /^|||||||/,/^>>>>>>>/d'");
    resolve("theirs", "tip", "sed -i '/^<<<<<<</,/^=======/d; /^>>>>>>>/d'");
    // Both have `1` now, and two ancestors that do not agree on it.
    repository.change("s/: three/: 3/");
    repository.git(&["checkout", "-q", "ours"]);
    repository.change("s/deep: two/deep: 2/");
    repository.git(&["merge", "-q", "theirs", "-m", "merged"]);
    assert_eq!(repository.plaintext(), PLAIN.replace("one", "1").replace("two", "2").replace("three", "3"));
}

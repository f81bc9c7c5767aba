//! `civm secrets check` on plaintext, whatever else its rule matches; and `civm secrets encrypt --all`.

use std::fs;

use crate::support::{Ran, Scene, run};

const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const SECRET: &str = "kind: Secret\nstringData:\n    password: hunter2\n";

/// A rule, and files in plaintext.
fn project(rule: &str, files: &[(&str, &str)]) -> Scene {
    let scene = Scene::new();
    scene.write(".sops.yaml", format!("creation_rules:\n  - {rule}\n    age: {ALICE_AGE}\n"));
    for (name, text) in files {
        scene.write(name, text);
    }
    scene
}

fn check(scene: &Scene, words: &[&str]) -> Ran {
    run(&mut scene.civm(&[&["secrets", "check"], words].concat())).silent_on("hunter2")
}

/// The files that a check calls plaintext.
fn plaintext(ran: &Ran) -> Vec<&str> {
    ran.out().lines().map(|line| line.split_once(": is not encrypted").expect(line).0).collect()
}

/// The same in the work tree, in the index, and in a commit's hook.
#[track_caller]
fn found(scene: &Scene, wanted: &[&str]) {
    let code = i32::from(!wanted.is_empty());
    assert_eq!(plaintext(&check(scene, &[]).code(code)), wanted, "outside of git");
    if !scene.git(&["init", "-q"]) {
        return eprintln!("skipped: git is not installed");
    }
    assert_eq!(plaintext(&check(scene, &[]).code(code)), wanted, "in the work tree");
    assert!(scene.git(&["add", "-A"]));
    assert_eq!(plaintext(&check(scene, &["--staged"]).code(code)), wanted, "staged");
    run(&mut scene.civm(&["git", "install", "-q", "--hooks"])).ok();
    let civm = scene.civm(&[]).get_program().to_owned();
    let directory = std::path::Path::new(&civm).parent().expect("a directory").display().to_string();
    let mut commit = scene.command("git");
    commit.args(["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one"]);
    let path = std::env::var("PATH").unwrap_or_default();
    let ran = run(commit.env("PATH", format!("{directory}:{path}")));
    assert_eq!(ran.code == 0, wanted.is_empty(), "in the hook: {}", ran.stderr);
}

#[test]
fn a_rule_that_also_matches_the_rules_file_flags_plaintext() {
    for rule in
        [r"path_regex: .*\.sops\.ya?ml", r"path_regex: \.sops\.ya?ml$", r"path_regex: .*\.sops\.ya?ml$"]
    {
        let rule = format!("{rule}\n    encrypted_regex: ^(data|stringData)$");
        let scene = project(&rule, &[("k/secret.sops.yaml", SECRET), ("k/other.yaml", SECRET)]);
        found(&scene, &["k/secret.sops.yaml"]);
    }
}

#[test]
fn a_rule_for_an_ending_flags_what_it_would_encrypt() {
    let files = [
        ("k/secret.yaml", SECRET),
        ("k/deployment.yaml", "kind: Deployment\nspec:\n    replicas: 2\n"),
        ("k/empty.yaml", "\n"),
        (".github/workflows/ci.yml", "on: push\n"),
        ("values.yaml", "data: true\n"),
    ];
    let scene = project("path_regex: \\.ya?ml$\n    encrypted_regex: ^(data|stringData)$", &files);
    found(&scene, &["k/secret.yaml", "values.yaml"]);
    let scene = project("path_regex: \\.ya?ml$", &files);
    found(&scene, &["k/deployment.yaml", "k/secret.yaml", "values.yaml"]);
}

#[test]
fn a_rule_for_everything_flags_the_formats_of_secrets() {
    for rule in ["path_regex: .*", "path_regex: ''", "unencrypted_suffix: _clear"] {
        let scene = project(
            rule,
            &[
                ("k/secret.sops.yaml", SECRET),
                (".env", "PASSWORD=hunter2\n"),
                (".env.production", "PASSWORD=hunter2\n"),
                ("tls.key.enc", "hunter2"),
                ("README.md", "hunter2\n"),
                ("Cargo.lock", "hunter2\n"),
                ("package.json", "{\"name\": \"x\"}\n"),
                ("deploy", "#!/bin/sh\n"),
                ("main.rs", "fn main() {}\n"),
                (".gitlab-ci.yml", "stages: [a]\n"),
                ("empty.yaml", ""),
            ],
        );
        found(&scene, &[".env", ".env.production", "k/secret.sops.yaml", "tls.key.enc"]);
    }
}

#[test]
fn what_the_project_calls_no_secret_is_passed_over_everywhere() {
    let scene = project(
        "path_regex: .*\\.ya?ml",
        &[
            ("secret.yaml", SECRET),
            ("tests/input/one.yaml", SECRET),
            ("tests/input/keep.yaml", SECRET),
            ("tests/two.yaml", SECRET),
            (".civmignore", "# the inputs of tests\n/tests/\n"),
        ],
    );
    let named = check(&scene, &["tests/two.yaml"]).code(1);
    assert_eq!(plaintext(&named), ["tests/two.yaml"], "it was named itself");
    scene.write("docs/.civmignore", "*\n!b.yaml\n");
    scene.write("docs/a.yaml", SECRET);
    scene.write("docs/b.yaml", SECRET);
    found(&scene, &["docs/b.yaml", "secret.yaml"]);
    // What git tracks as well: other than .gitignore, git has no say in this.
    run(&mut scene.civm(&["secrets", "encrypt", "-i", "tests/two.yaml"])).ok();
    run(&mut scene.civm(&["secrets", "encrypt", "-i", "secret.yaml"])).ok();
    let who = run(&mut scene.civm(&["secrets", "who"])).ok();
    assert!(who.out().starts_with("secret.yaml") && who.out().lines().count() == 1, "{}", who.out());
    run(&mut scene.civm(&["secrets", "update-all", "--check"])).ok().says("1 files");
}

#[test]
fn a_rule_that_encrypts_nothing_is_pointed_out() {
    let scene = project(
        "encrypted_regex: ^(data|stringData)$",
        &[
            ("t.env", "A=hunter2\n"),
            ("k.yaml", "dta:\n    a: hunter2\n"),
            ("good.yaml", "data: hunter2\nb: c\n"),
        ],
    );
    scene.write("null.yaml", "a: null\nb: ''\n");
    for name in ["t.env", "k.yaml", "good.yaml", "null.yaml"] {
        run(&mut scene.civm(&["secrets", "encrypt", "-i", name])).ok();
    }
    let ran = check_clear(&scene, &[]).ok().says("0 findings, 2 warnings").says("correct the selector");
    let what = "no value is encrypted: encrypted_regex `^(data|stringData)$` matches none";
    let lines: Vec<&str> = ran.out().lines().collect();
    assert!(lines[0].starts_with("k.yaml:") && lines[0].ends_with(&format!("warning: {what}")), "{lines:?}");
    assert_eq!(lines[1], format!("t.env: warning: {what}"));
    let ran = check_clear(&scene, &["--strict"]).code(1).says("2 findings");
    assert!(!ran.out().contains("warning"), "{}", ran.out());
    let json = check_clear(&scene, &["--json"]).ok();
    let json: serde_json::Value = serde_json::from_str(json.out()).expect("JSON");
    let finding = &json["findings"][1];
    assert_eq!((&finding["kind"], &finding["severity"]), (&"nothing-encrypted".into(), &"warning".into()));
}

#[test]
fn a_value_that_yaml_changes_is_pointed_out_with_its_place() {
    let text = "port: 12345_54321\nmode: \"0644\"\nwhen: {tag: !env hunter2}\n";
    let scene = project("path_regex: secrets", &[("secrets.yaml", text), ("other.yaml", "a: 1_2\n")]);
    let ran = check(&scene, &[]).code(1).says("1 finding, 2 warnings").says("quote the value");
    let lines: Vec<&str> = ran.out().lines().collect();
    assert!(lines[0].starts_with("secrets.yaml: is not encrypted"), "{lines:?}");
    assert!(
        lines[1].starts_with(r#"secrets.yaml:1: warning: ["port"] it is read as a whole number"#),
        "{lines:?}"
    );
    assert!(
        lines[2].starts_with(r#"secrets.yaml:3: warning: ["when"]["tag"] its tag is dropped"#),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 3, "{lines:?}");
    check(&scene, &["--strict"]).code(1).says("3 findings");
}

#[test]
fn names_of_files_do_not_steer_the_terminal() {
    let scene = project("path_regex: .", &[("a\u{1b}[31m.yaml", "p: hunter2\n")]);
    let ran = check(&scene, &[]).code(1);
    assert!(ran.out().starts_with("a\u{fffd}[31m.yaml: is not encrypted"), "{:?}", ran.out());
    let json: serde_json::Value =
        serde_json::from_str(check(&scene, &["--json"]).code(1).out()).expect("JSON");
    let path = json["findings"][0]["path"].as_str().expect("a path");
    assert!(path.ends_with("/a\u{1b}[31m.yaml"), "for programs it is as it is: {path:?}");
}

/// With values in clear that are so on purpose.
fn check_clear(scene: &Scene, words: &[&str]) -> Ran {
    run(&mut scene.civm(&[&["secrets", "check"], words].concat())).silent_on("hunter2")
}

#[test]
fn all_that_is_to_be_encrypted_is_encrypted_after_it_was_shown() {
    let files =
        [("a.sops.yaml", SECRET), ("b/c.sops.yaml", SECRET), ("b/d.sops.yml", "a: b\n"), ("e.yaml", SECRET)];
    let scene = project("path_regex: \\.sops\\.ya?ml$\n    encrypted_regex: ^(data|stringData)$", &files);
    let all = |words: &[&str]| run(&mut scene.civm(&[&["secrets", "encrypt", "--all"], words].concat()));
    // Nobody is there to be asked.
    let ran = all(&[]).code(1).says("--yes").silent_on("hunter2");
    assert_eq!(ran.out(), "a.sops.yaml\nb/c.sops.yaml\n");
    assert_eq!(scene.read("a.sops.yaml"), SECRET);
    all(&["--yes", "b"]).ok().says("1 file encrypted");
    assert!(scene.read("b/c.sops.yaml").contains("ENC[") && scene.read("a.sops.yaml") == SECRET);
    // One that fails does not stop the others.
    scene.write("0.sops.yaml", "data: a\nstringData: [\n");
    let ran = all(&["--yes"]).code(1).says("0.sops.yaml").says("1 of 2 files failed");
    assert_eq!(ran.out(), "0.sops.yaml\na.sops.yaml\n");
    assert!(scene.read("a.sops.yaml").contains("ENC[") && scene.read("e.yaml") == SECRET);
    fs::remove_file(scene.file("0.sops.yaml")).expect("removed");
    all(&[]).ok().says("nothing to encrypt");
    check(&scene, &[]).ok().says("2 sops files checked: 0 findings");
    scene.write("odd.sops.yaml", "data: 12345_54321\n");
    all(&["--yes"]).ok().says("`odd.sops.yaml`: line 1").says("1 file encrypted");
    all(&["--yes", "none"]).code(100).says("does not exist");
    run(&mut scene.civm(&["secrets", "encrypt", "--all", "--output", "x", "--yes"])).code(8);
    run(&mut scene.civm(&["secrets", "encrypt", "e.yaml", "a.sops.yaml"])).code(2);
    run(&mut scene.civm(&["secrets", "encrypt", "--yes", "e.yaml"])).code(2);
}

//! `civm secrets check`: what it finds, and what it passes over.

use std::fs;

use crate::support::{Ran, Scene, run};

/// A throw-away identity and two recipients; they protect nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";
const PLAIN: &str = "# who\nuser: admin\ndb:\n    # top secret\n    password: hunter2\n    list:\n        - one\n        - two\n";

fn rules(scene: &Scene, rest: &str) {
    let keys = format!("keys:\n  - &alice {ALICE_AGE}\n  - &bob {BOB_AGE}\n");
    scene.write(".sops.yaml", format!("{keys}creation_rules:\n{rest}"));
}

/// A project with one encrypted file for which there is a rule.
fn project() -> Scene {
    let scene = Scene::new();
    rules(&scene, "  - path_regex: hosts/.*\n    age: [*alice]\n");
    scene.write("hosts/a.yaml", PLAIN);
    run(&mut scene.civm(&["secrets", "encrypt", "-i", "hosts/a.yaml"])).ok();
    scene
}

fn check(scene: &Scene, words: &[&str]) -> Ran {
    run(&mut scene.civm(&[&["secrets", "check"], words].concat()))
}

fn change(scene: &Scene, name: &str, from: &str, to: &str) {
    let text = scene.read(name);
    assert!(text.contains(from), "{from}");
    scene.write(name, text.replacen(from, to, 1));
}

/// The ENC token that stands behind a key.
fn token(scene: &Scene, name: &str, key: &str) -> String {
    let text = scene.read(name);
    let line = text.lines().find(|line| line.trim_start().starts_with(key)).expect(key);
    line[line.find("ENC[").expect("a token")..].to_owned()
}

#[test]
fn a_project_in_order_is_clean_without_a_key() {
    let scene = project();
    scene.write("README.md", "hello\n");
    let ran = check(&scene, &[]).ok().says("1 sops file checked: 0 findings");
    assert_eq!(ran.out(), "");
    let json = check(&scene, &["--json"]).ok();
    assert_eq!(json.out(), "{\"files\":1,\"findings\":[],\"without_rule\":[],\"merged_as_text\":[]}\n");
}

#[test]
fn where_there_is_nothing_to_look_at_nothing_is_in_order() {
    let scene = Scene::new();
    scene.write("secrets.yaml", "password: hunter2\n");
    let all =
        [&["check"][..], &["check", "--strict", "--json"], &["update-all", "--check"], &["encrypt", "--all"]];
    for words in all {
        let ran = run(&mut scene.civm(&[&["secrets"], words].concat())).code(1);
        assert_eq!(ran.out(), "", "{words:?}");
        ran.says("there is no .sops.yaml in")
            .says("nothing says which files are secrets")
            .silent_on("hunter2");
    }
    // Rules below, as in a directory of several projects, are reason to look.
    scene.write("team/.sops.yaml", format!("creation_rules:\n  - age: {ALICE_AGE}\n"));
    for words in all {
        let told = run(&mut scene.civm(&[&["secrets"], words].concat())).stderr;
        assert!(!told.contains("there is no .sops.yaml"), "{words:?}: {told}");
    }
    fs::remove_file(scene.file("team/.sops.yaml")).expect("removed");
    // So is a project that has no secrets yet.
    scene.write("hosts/a/host.yaml", "cpus: 2\n");
    check(&scene, &[]).ok();
    // A hook looks at what it is given.
    check(&scene, &["secrets.yaml"]).ok();
}

#[test]
fn what_is_not_encrypted_is_found_with_its_line_and_key() {
    let scene = project();
    let password = token(&scene, "hosts/a.yaml", "password");
    change(&scene, "hosts/a.yaml", &password, "hunter2");
    let line =
        scene.read("hosts/a.yaml").lines().position(|line| line.contains("hunter2")).expect("there") + 1;
    let ran = check(&scene, &[]).code(1).says("1 finding").says("civm secrets edit");
    let wanted = format!("hosts/a.yaml:{line}: [\"db\"][\"password\"] is not encrypted, but should be\n");
    assert_eq!(ran.out(), wanted);
    ran.silent_on("hunter2");
    let json = check(&scene, &["--json"]).code(1);
    let json: serde_json::Value = serde_json::from_str(json.out()).expect("JSON");
    let finding = &json["findings"][0];
    assert_eq!((&finding["kind"], &finding["line"]), (&"value".into(), &line.into()));
    assert_eq!(finding["key"], r#"["db"]["password"]"#);
    assert!(finding["path"].as_str().expect("a path").ends_with("/hosts/a.yaml"));

    // In a list behind a comment, and a comment itself.
    let scene = project();
    let two = scene
        .read("hosts/a.yaml")
        .lines()
        .filter(|line| line.trim_start().starts_with("- ENC"))
        .nth(1)
        .map(|line| line.trim_start_matches([' ', '-']).to_owned())
        .expect("two");
    change(&scene, "hosts/a.yaml", &two, "2");
    let comment = scene.read("hosts/a.yaml").lines().next().map(str::to_owned).expect("a comment");
    change(&scene, "hosts/a.yaml", &comment, "# who");
    let ran = check(&scene, &[]).code(1).says("2 findings");
    assert!(ran.out().contains("[\"db\"][\"list\"][1] is not encrypted"), "{}", ran.out());
    assert!(ran.out().contains("a comment is not encrypted"), "{}", ran.out());
}

#[test]
fn a_plaintext_where_a_rule_is_for_secrets_is_found() {
    let scene = project();
    scene.write("hosts/b/secrets.yaml", "password: hunter2\n");
    scene.write("hosts/b/key.bin", "hunter2");
    scene.write("hosts/b/.gitkeep", "\n");
    scene.write("other/secrets.yaml", "password: hunter2\n");
    let ran = check(&scene, &[]).code(1).silent_on("hunter2").says("civm secrets encrypt -i");
    assert_eq!(
        ran.out(),
        "hosts/b/key.bin: is not encrypted, but creation rule 1 matches it\n\
         hosts/b/secrets.yaml: is not encrypted, but creation rule 1 matches it\n"
    );
    // As a hook names them: only these, and what is none of ours is passed over.
    check(&scene, &["other/secrets.yaml", "hosts/a.yaml"]).ok();
    check(&scene, &["other/secrets.yaml", "hosts/b/key.bin"]).code(1);
    check(&scene, &["hosts/none.yaml"]).code(100).says("does not exist");
}

#[test]
fn a_file_that_differs_from_its_rule_is_found() {
    let scene = project();
    rules(&scene, "  - path_regex: hosts/.*\n    age: [*bob]\n    encrypted_regex: ^password$\n");
    let ran = check(&scene, &[]).code(1).says("update-all");
    assert!(ran.out().contains("its rule has other recipients: +bob -alice\n"), "{}", ran.out());
    let selector =
        "selects values by unencrypted_suffix `_unencrypted`, but its rule says encrypted_regex `^password$`";
    assert!(ran.out().contains(selector), "{}", ran.out());

    // What the rule wants encrypted is found even where the file itself does not.
    let scene = Scene::new();
    rules(&scene, "  - path_regex: hosts/.*\n    age: [*alice]\n    encrypted_regex: ^password$\n");
    scene.write("hosts/a.yaml", PLAIN);
    run(&mut scene.civm(&["secrets", "encrypt", "-i", "hosts/a.yaml"])).ok();
    check(&scene, &[]).ok();
    rules(&scene, "  - path_regex: hosts/.*\n    age: [*alice]\n    encrypted_regex: ^(user|password)$\n");
    let ran = check(&scene, &[]).code(1);
    assert!(ran.out().contains("[\"user\"] is not encrypted"), "{}", ran.out());
    assert!(!ran.out().contains("list"), "{}", ran.out());
}

#[test]
fn key_groups_and_their_threshold_are_compared() {
    let scene = Scene::new();
    let groups = |threshold: u32| {
        format!(
            "  - path_regex: hosts/.*\n    shamir_threshold: {threshold}\n    key_groups:\n      - age: [*alice]\n      - age: [*bob]\n      \
             - age: [*alice, *bob]\n"
        )
    };
    rules(&scene, &groups(2));
    scene.write("hosts/a.yaml", PLAIN);
    run(&mut scene.civm(&["secrets", "encrypt", "-i", "hosts/a.yaml"])).ok();
    check(&scene, &[]).ok();
    rules(&scene, &groups(3));
    let ran = check(&scene, &[]).code(1).says("encrypt it again");
    assert!(ran.out().contains("needs 2 of 3 key groups, but its rule requires 3 of 3"), "{}", ran.out());
    rules(&scene, &groups(4));
    let ran = check(&scene, &[]).code(1);
    assert!(
        ran.out()
            .contains(".sops.yaml:5: creation rule 1: shamir_threshold: 4 is not valid for 3 key groups"),
        "{}",
        ran.out()
    );
}

#[test]
fn metadata_and_mac_are_well_formed_or_found() {
    for (from, to, wanted) in [
        ("    version: 3.13.3", "    version: new", "version"),
        ("lastmodified: \"2", "lastmodified: \"x2", "lastmodified"),
        ("mac: ENC[", "mac: enc[", "its MAC: it does not match"),
        ("-----BEGIN AGE", "-----BEGIN THE", "the data key for age1e63"),
        ("recipient: age1e63", "recipients: age1e63", "its rule has other recipients: +alice"),
        ("_unencrypted", "_unencrypted\n    encrypted_regex: '('", "encrypted_regex"),
    ] {
        let scene = project();
        change(&scene, "hosts/a.yaml", from, to);
        let ran = check(&scene, &[]).code(1);
        assert!(ran.out().contains(wanted), "{wanted}: {}", ran.out());
    }
}

#[test]
fn with_a_key_at_hand_the_mac_is_verified_and_nothing_is_asked() {
    let scene = project();
    let (user, password) = (token(&scene, "hosts/a.yaml", "user"), token(&scene, "hosts/a.yaml", "password"));
    let text = scene.read("hosts/a.yaml");
    let with_key =
        |words: &[&str]| run(scene.civm(&[&["secrets", "check"], words].concat()).env("SOPS_AGE_KEY", ALICE));
    with_key(&[]).ok();
    scene.write("hosts/a.yaml", text.replace(&user, &password));
    check(&scene, &[]).ok();
    let ran = with_key(&[]).code(1);
    assert!(
        ran.out().starts_with("hosts/a.yaml:2: [\"user\"] it was not encrypted with this data key"),
        "{}",
        ran.out()
    );
    // A value that is gone shows only in the MAC.
    let without: String =
        text.lines().filter(|line| !line.starts_with("user")).map(|line| format!("{line}\n")).collect();
    scene.write("hosts/a.yaml", without);
    let ran = with_key(&[]).code(1);
    assert!(ran.out().contains("[\"sops\"][\"mac\"] MAC mismatch"), "{}", ran.out());
    // No command is run for an identity.
    let mut command = scene.civm(&["secrets", "check"]);
    run(command.env("SOPS_AGE_KEY_CMD", format!("touch {}", scene.file("ran").display()))).ok();
    assert!(!scene.file("ran").exists());
}

#[test]
fn rules_that_make_no_sense_are_findings_once_and_with_their_line() {
    let scene = project();
    scene.write("hosts/b.yaml", scene.read("hosts/a.yaml"));
    rules(
        &scene,
        "  - path_regex: '('\n    age: [*alice]\n  - path_regex: x\n    encrypted_regex: '['\n    age: [*alice]\n  \
         - path_regex: y\n    age: [age1nobody]\n  - path_regex: z\n",
    );
    let ran = check(&scene, &[]).code(1);
    let lines: Vec<&str> = ran.out().lines().collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    for (line, wanted) in lines.iter().zip([
        ".sops.yaml:5: creation rule 1: path_regex: ",
        ".sops.yaml:7: creation rule 2: ",
        ".sops.yaml:10: creation rule 3: recipient `age1nobody`: ",
        ".sops.yaml:12: creation rule 4: has no recipient",
    ]) {
        assert!(line.starts_with(wanted), "{line}");
    }
    scene.write(".sops.yaml", "creation_rules: {\n");
    let ran = check(&scene, &[]).code(1);
    assert_eq!(ran.out().lines().count(), 1, "{}", ran.out());
    assert!(ran.out().starts_with(".sops.yaml: could not read the rules"), "{}", ran.out());
}

#[test]
fn sops_files_without_a_rule_are_told_and_faults_only_where_that_is_asked_for() {
    let scene = project();
    scene.write("examples/a.yaml", scene.read("hosts/a.yaml").replace("mac: ENC", "mac: none"));
    let ran = check(&scene, &[]).ok().says("no rule matches examples/a.yaml").says("1 without a rule");
    assert_eq!(ran.out(), "");
    let ran = check(&scene, &["--strict"]).code(1);
    assert!(ran.out().contains("examples/a.yaml: matches no creation rule"), "{}", ran.out());
    assert!(ran.out().contains("its MAC"), "{}", ran.out());
    // Without any rules the files themselves are what can be looked at.
    fs::remove_file(scene.file(".sops.yaml")).expect("removed");
    let ran = check(&scene, &[]).code(1);
    assert_eq!(ran.out().lines().count(), 1, "{}", ran.out());
}

#[test]
fn every_format_is_looked_at() {
    let scene = Scene::new();
    rules(&scene, "  - path_regex: hosts/.*\n    age: [*alice]\n");
    for (name, text) in [
        ("hosts/a.json", "{\"user\": \"admin\", \"password\": \"hunter2\"}"),
        ("hosts/a.env", "user=admin\npassword=hunter2\n"),
        ("hosts/a.ini", "[db]\nuser = admin\npassword = hunter2\n"),
        ("hosts/a.der", "hunter2"),
    ] {
        scene.write(name, text);
        run(&mut scene.civm(&["secrets", "encrypt", "-i", name])).ok();
    }
    check(&scene, &[]).ok().says("4 sops files checked: 0 findings");
    let ran = run(scene.civm(&["secrets", "check"]).env("SOPS_AGE_KEY", ALICE)).ok();
    ran.says("4 sops files checked: 0 findings");
    for name in ["hosts/a.json", "hosts/a.env", "hosts/a.ini"] {
        let text = scene.read(name);
        let line = text
            .lines()
            .find(|line| line.trim_start().trim_start_matches('"').starts_with("password"))
            .expect("there");
        let from = line.find("ENC[").expect("a token");
        let to = line.rfind(']').expect("its end") + 1;
        scene.write(name, text.replace(&line[from..to], "hunter2"));
    }
    let ran = check(&scene, &[]).code(1).silent_on("hunter2");
    let wanted = "hosts/a.env:2: [\"password\"] is not encrypted, but should be\n\
                  hosts/a.ini: [\"db\"][\"password\"] is not encrypted, but should be\n\
                  hosts/a.json:3: [\"password\"] is not encrypted, but should be\n";
    assert_eq!(ran.out(), wanted);
    rules(&scene, "  - path_regex: hosts/.*\n    age: [*alice, *bob]\n");
    let update = run(&mut scene.civm(&["secrets", "update-all", "--check"])).code(1);
    update.says("4 files: 4 behind, 0 current, 0 failed");
    let mut update = scene.civm(&["secrets", "update-all"]);
    run(update.env("SOPS_AGE_KEY", ALICE)).ok().says("4 files: 4 updated, 0 current, 0 failed");
    let who = run(&mut scene.civm(&["secrets", "who", "bob"])).ok();
    assert_eq!(who.out(), "hosts/a.der\nhosts/a.env\nhosts/a.ini\nhosts/a.json\n");
}

#[test]
fn what_is_staged_is_checked_as_it_is_staged() {
    let scene = project();
    let git = |args: &[&str]| scene.git(args);
    check(&scene, &["--staged"]).code(1).says("git repository");
    if !git(&["init", "-q"]) {
        return eprintln!("skipped: git is not installed");
    }
    assert!(git(&["add", "."]));
    check(&scene, &["--staged"]).ok().says("1 sops file checked");
    assert!(git(&["commit", "-q", "-m", "first"]));
    check(&scene, &["--staged"]).ok().says("0 sops files checked");

    // The index counts, not the work tree.
    scene.write("hosts/b.yaml", "password: hunter2\n");
    check(&scene, &["--staged"]).ok();
    assert!(git(&["add", "hosts/b.yaml"]));
    fs::remove_file(scene.file("hosts/b.yaml")).expect("removed");
    let ran = check(&scene, &["--staged"]).code(1);
    assert_eq!(ran.out(), "hosts/b.yaml: is not encrypted, but creation rule 1 matches it\n");
    check(&scene, &["--staged", "hosts/a.yaml"]).ok();
    // A path is a path, whatever git would read into it.
    check(&scene, &["--staged", "hosts/[b].yaml", ":(top)hosts/b.yaml", ":odd.yaml"]).ok();
    assert!(git(&["rm", "-q", "--cached", "hosts/b.yaml"]));

    // Rules that change put files behind that do not.
    rules(&scene, "  - path_regex: hosts/.*\n    age: [*alice, *bob]\n");
    check(&scene, &["--staged"]).ok();
    assert!(git(&["add", ".sops.yaml"]));
    rules(&scene, "  - path_regex: hosts/.*\n    age: [*alice]\n");
    let ran = check(&scene, &["--staged"]).code(1);
    assert!(ran.out().contains("its rule has other recipients: +bob"), "{}", ran.out());
    rules(&scene, "  - path_regex: hosts/.*\n    age: [*alice, *bob]\n");
    let ran = check(&scene, &[".sops.yaml"]).code(1);
    assert!(ran.out().contains("hosts/a.yaml"), "{}", ran.out());
}

#[test]
fn a_hook_sees_the_index_that_is_committed() {
    let scene = project();
    let git = |args: &[&str]| {
        let mut command = scene.command("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(args).output()
    };
    if git(&["init", "-q"]).is_err() {
        return eprintln!("skipped: git is not installed");
    }
    use std::os::unix::fs::PermissionsExt as _;
    let hook = scene.file(".git/hooks/pre-commit");
    let civm = scene.civm(&[]).get_program().to_string_lossy().into_owned();
    fs::write(&hook, format!("#!/bin/sh\nexec {civm} secrets check --staged\n")).expect("a hook");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("a mode");
    assert!(git(&["add", "."]).expect("git").status.success());
    assert!(git(&["commit", "-q", "-m", "first"]).expect("git").status.success());
    scene.write("hosts/b.yaml", "password: hunter2\n");
    scene.write("c", "c\n");
    assert!(git(&["add", "hosts/b.yaml", "c"]).expect("git").status.success());
    let refused = git(&["commit", "-q", "-m", "second"]).expect("git");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("hosts/b.yaml: is not encrypted"));
    // Only what is named goes into this commit, by an index of its own.
    assert!(git(&["commit", "-q", "-m", "second", "--", "c"]).expect("git").status.success());
}

#[test]
fn a_value_among_the_metadata_is_found() {
    let scene = project();
    let whole = scene.read("hosts/a.yaml");
    // As somebody does who adds a line at the end of the file.
    scene.write("hosts/a.yaml", format!("{whole}    password: hunter2\n"));
    let line = whole.lines().count() + 1;
    let ran = check(&scene, &[]).code(1);
    let place = format!("hosts/a.yaml:{line}: [\"sops\"][\"password\"] ");
    assert!(ran.out().contains(&place) && !ran.out().contains("hunter2"), "{}", ran.out());
    // In what belongs to a key, and in a format without nesting.
    scene.write(
        "hosts/a.yaml",
        whole.replacen("    age:\n        - ", "    age:\n        - note: hunter2\n          ", 1),
    );
    let ran = check(&scene, &[]).code(1);
    assert!(ran.out().contains("age[0].note"), "{}", ran.out());
    scene.write("hosts/a.yaml", whole);
    scene.write("hosts/a.env", "A=1\n");
    run(&mut scene.civm(&["secrets", "encrypt", "-i", "hosts/a.env"])).ok();
    check(&scene, &[]).ok();
    scene.write("hosts/a.env", format!("{}sops_password=hunter2\n", scene.read("hosts/a.env")));
    let ran = check(&scene, &[]).code(1);
    assert!(ran.out().contains("password") && !ran.out().contains("hunter2"), "{}", ran.out());
}

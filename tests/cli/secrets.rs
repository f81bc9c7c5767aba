//! `civm secrets …` from the outside.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::{Scene, run, run_with};

/// Throw-away identities; they protect nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB: &str = "AGE-SECRET-KEY-16NC6D5XQZ5GXKRZETARH27RQ8FT888FC4NNLLMVQAR5AGPT389WSGY4QER";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";
const CAROL_AGE: &str = "age15096taqg3qls9fhljy57qr8wsqvnnnur758886q09rdmja2mtdlszg45wl";

const PLAIN: &str =
    "first: one\nsecond:\n    deep: two words\n    list:\n        - x\n        - z\nthird: 3\n";

fn project() -> Scene {
    let scene = Scene::new();
    scene.write(".sops.yaml", format!("creation_rules:\n  - path_regex: \\.yaml$\n    age: {ALICE_AGE}\n"));
    scene
}

fn as_alice(command: &mut Command) -> &mut Command {
    command.env("SOPS_AGE_KEY", ALICE)
}

fn encrypted(scene: &Scene, name: &str, plain: &str) -> String {
    scene.write(name, plain);
    run(&mut scene.civm(&["secrets", "encrypt", "-i", name])).ok();
    scene.read(name)
}

#[test]
fn what_is_encrypted_comes_back() {
    let scene = project();
    let text = encrypted(&scene, "s.yaml", PLAIN);
    assert!(!text.contains("two words") && text.contains("ENC[AES256_GCM"), "{text}");
    assert_eq!(run(as_alice(&mut scene.civm(&["secrets", "decrypt", "s.yaml"]))).ok().out(), PLAIN);
    run(as_alice(&mut scene.civm(&["secrets", "decrypt", "--output", "plain.yaml", "s.yaml"]))).ok();
    assert_eq!(scene.read("plain.yaml"), PLAIN);
    let mode = fs::metadata(scene.file("plain.yaml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "plaintext is for its reader alone");
    run(as_alice(&mut scene.civm(&["secrets", "decrypt", "-i", "s.yaml"]))).ok();
    assert_eq!(scene.read("s.yaml"), PLAIN);
}

#[test]
fn values_are_had_by_key_path() {
    let scene = project();
    encrypted(&scene, "s.yaml", PLAIN);
    let get = |path: &str| run(as_alice(&mut scene.civm(&["secrets", "get", "s.yaml", path])));
    assert_eq!(get("first").ok().out(), "one");
    assert_eq!(get("second/deep").ok().out(), "two words");
    assert_eq!(get("second/list/1").ok().out(), "z");
    assert_eq!(get("[\"second\"][\"list\"][0]").ok().out(), "x");
    assert_eq!(get("third").ok().out(), "3\n");
    get("nothing").code(1).says("nothing");
    get("[\"second\"").code(91);
    let extract =
        |path: &str| run(as_alice(&mut scene.civm(&["secrets", "decrypt", "--extract", path, "s.yaml"])));
    assert_eq!(extract("[\"first\"]").ok().out(), "one");
    assert_eq!(extract("[\"second\"][\"list\"]").ok().out(), "- x\n- z\n");
    extract("first").code(91);
    extract("[\"first\"][\"x\"]").code(1);
}

#[test]
fn standard_input_needs_a_name() {
    let scene = project();
    run_with(&mut scene.civm(&["secrets", "encrypt"]), PLAIN.as_bytes()).code(8);
    let args = ["secrets", "encrypt", "--filename-override", "x.yaml"];
    let text = run_with(&mut scene.civm(&args), PLAIN.as_bytes()).ok();
    let back = run_with(as_alice(&mut scene.civm(&["secrets", "decrypt"])), &text.stdout).ok();
    assert_eq!(back.out(), PLAIN);
}

#[test]
fn an_edit_changes_only_what_was_changed() {
    let scene = project();
    let before = encrypted(&scene, "s.yaml", PLAIN);
    fs::set_permissions(scene.file("s.yaml"), fs::Permissions::from_mode(0o640)).unwrap();
    let mut edit = scene.civm(&["secrets", "edit", "s.yaml"]);
    run(as_alice(&mut edit).env("EDITOR", "sed -i s/one/changed/")).ok();
    let after = scene.read("s.yaml");
    let gone: Vec<&str> =
        before.lines().filter(|line| !after.contains(*line) && !line.contains("lastmodified:")).collect();
    assert_eq!(gone.len(), 2, "the value and mac: {gone:?}");
    assert_eq!(run(as_alice(&mut scene.civm(&["secrets", "get", "s.yaml", "first"]))).ok().out(), "changed");
    assert_eq!(fs::metadata(scene.file("s.yaml")).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn an_edit_without_a_change_is_200_and_touches_nothing() {
    let scene = project();
    let before = encrypted(&scene, "s.yaml", PLAIN);
    let at = fs::metadata(scene.file("s.yaml")).unwrap().modified().unwrap();
    run(as_alice(&mut scene.civm(&["secrets", "edit", "s.yaml"])).env("EDITOR", "true")).code(200);
    assert_eq!(scene.read("s.yaml"), before);
    assert_eq!(fs::metadata(scene.file("s.yaml")).unwrap().modified().unwrap(), at);
    run(as_alice(&mut scene.civm(&["secrets", "edit", "s.yaml"])).env("EDITOR", "false")).code(201);
    run(as_alice(&mut scene.civm(&["secrets", "edit", "s.yaml"])).env("EDITOR", "/nonexistent")).code(201);
    assert_eq!(scene.read("s.yaml"), before);
}

#[test]
fn an_invalid_edit_opens_the_editor_again() {
    let scene = project();
    encrypted(&scene, "s.yaml", PLAIN);
    let breaks_then_mends =
        "sed -i -e 's/^first: \\[broken$/first: mended/;t' -e 's/^first: one$/first: [broken/'";
    let mut edit = scene.civm(&["secrets", "edit", "s.yaml"]);
    run_with(as_alice(&mut edit).env("EDITOR", breaks_then_mends), b"\n").ok().says("Press enter");
    assert_eq!(run(as_alice(&mut scene.civm(&["secrets", "get", "s.yaml", "first"]))).ok().out(), "mended");
    let before = scene.read("s.yaml");
    let mut edit = scene.civm(&["secrets", "edit", "s.yaml"]);
    let ran = run(as_alice(&mut edit).env("EDITOR", "sed -i 's/^first: .*/first: [secretword/'"));
    assert_ne!(ran.code, 0);
    ran.silent_on("secretword");
    assert_eq!(scene.read("s.yaml"), before);
}

#[test]
fn the_plaintext_of_an_edit_lies_in_memory_and_goes() {
    let scene = project();
    encrypted(&scene, "s.yaml", PLAIN);
    let mut edit = scene.civm(&["secrets", "edit", "s.yaml"]);
    let note = scene.file("where");
    let script = scene.write("editor", format!("#!/bin/sh\n{{ echo \"$1\"; stat -fc %T \"$1\"; stat -c %a \"$1\" \"$(dirname \"$1\")\"; }} > {}\n", note.display()));
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    run(as_alice(&mut edit).env("EDITOR", &script)).code(200);
    let told = scene.read("where");
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].ends_with("/s.yaml"), "{told}");
    assert_eq!(lines[1..], ["tmpfs", "600", "700"], "{told}");
    assert!(!std::path::Path::new(lines[0]).exists(), "left behind: {told}");
}

#[test]
fn a_new_file_starts_from_an_example() {
    let scene = project();
    run(as_alice(&mut scene.civm(&["secrets", "edit", "new.yaml"])).env("EDITOR", "true")).code(200);
    assert!(!scene.file("new.yaml").exists());
    let mut edit = scene.civm(&["secrets", "edit", "new.yaml"]);
    run(as_alice(&mut edit).env("EDITOR", "sed -i s/example_value/mine/")).ok();
    let value = run(as_alice(&mut scene.civm(&["secrets", "get", "new.yaml", "example_key"]))).ok();
    assert_eq!(value.out(), "mine");
    run(as_alice(&mut scene.civm(&["secrets", "edit", "new.yml"])).env("EDITOR", "true"))
        .code(1)
        .says("no creation rule");
}

#[test]
fn nobody_at_hand_is_128_with_what_was_looked_at() {
    let scene = project();
    encrypted(&scene, "s.yaml", PLAIN);
    let ran = run(&mut scene.civm(&["secrets", "decrypt", "s.yaml"])).code(128);
    let ran = ran.says("Group 0: FAILED").says(ALICE_AGE).says("keys.txt");
    assert!(ran.stdout.is_empty());
    let ran = run(scene.civm(&["secrets", "decrypt", "s.yaml"]).env("SOPS_AGE_KEY", BOB)).code(128);
    ran.says(BOB_AGE).silent_on(BOB);
}

#[test]
fn what_was_changed_by_hand_is_told() {
    let scene = project();
    let text = encrypted(&scene, "s.yaml", "a: one\nb_unencrypted: clear\n");
    scene.write("s.yaml", text.replace("clear", "other"));
    run(as_alice(&mut scene.civm(&["secrets", "decrypt", "s.yaml"]))).code(51);
    let ran = run(as_alice(&mut scene.civm(&["secrets", "decrypt", "--ignore-mac", "s.yaml"]))).ok();
    assert_eq!(ran.out(), "a: one\nb_unencrypted: other\n");
    scene.write("s.yaml", text.replace("\na: ", "\nc: ").replacen("a: ", "c: ", 1));
    run(as_alice(&mut scene.civm(&["secrets", "decrypt", "--ignore-mac", "s.yaml"]))).code(25);
    scene.write("s.yaml", &text);
    run(&mut scene.civm(&["secrets", "encrypt", "s.yaml"])).code(203);
    run(&mut scene.civm(&["secrets", "encrypt", "missing.yaml"])).code(100);
    scene.write("empty.yaml", "");
    run(&mut scene.civm(&["secrets", "encrypt", "empty.yaml"])).code(92);
    scene.write("list.yaml", "- secretword\n");
    run(&mut scene.civm(&["secrets", "encrypt", "list.yaml"])).code(2).silent_on("secretword");
}

#[test]
fn a_selector_that_does_not_compile_writes_nothing() {
    let scene = project();
    scene.write(".sops.yaml", format!("creation_rules:\n  - age: {ALICE_AGE}\n    encrypted_regex: '('\n"));
    scene.write("s.yaml", PLAIN);
    let ran = run(&mut scene.civm(&["secrets", "encrypt", "-i", "s.yaml"]));
    assert_ne!(ran.code, 0);
    assert_eq!(scene.read("s.yaml"), PLAIN);
}

#[test]
fn updatekeys_asks_and_keeps_the_values() {
    let scene = project();
    let before = encrypted(&scene, "s.yaml", PLAIN);
    run(&mut scene.civm(&["secrets", "updatekeys", "s.yaml"])).ok().says("already up to date");
    scene.write(".sops.yaml", format!("creation_rules:\n  - age: {BOB_AGE},{CAROL_AGE}\n"));
    let update = |args: &[&str], answer: &str| {
        let mut all = vec!["secrets", "updatekeys", "s.yaml"];
        all.extend(args);
        run_with(as_alice(&mut scene.civm(&all)), answer.as_bytes())
    };
    let ran = update(&[], "n\n").ok();
    assert!(
        ran.out().contains(&format!("Group 1\n+++ {BOB_AGE}\n+++ {CAROL_AGE}\n--- {ALICE_AGE}\n")),
        "{}",
        ran.out()
    );
    update(&[], "").code(1);
    assert_eq!(scene.read("s.yaml"), before);
    update(&["--yes"], "").ok();
    let after = scene.read("s.yaml");
    for (line, text) in before.lines().zip(after.lines()).take_while(|(line, _)| !line.starts_with("sops:")) {
        assert_eq!(line, text);
    }
    run(scene.civm(&["secrets", "decrypt", "s.yaml"]).env("SOPS_AGE_KEY", BOB)).ok();
    run(as_alice(&mut scene.civm(&["secrets", "decrypt", "s.yaml"]))).code(128);
    run(as_alice(&mut scene.civm(&["secrets", "updatekeys", "--yes", "missing.yaml", "s.yaml"])))
        .code(1)
        .says("failed updating 1 of 2");
}

#[test]
fn update_all_brings_a_project_in_line() {
    let scene = project();
    for name in ["a.yaml", "deep/er/b.yaml", "odd name.yaml", "ignored/c.yaml"] {
        encrypted(&scene, name, PLAIN);
    }
    scene.write(".gitignore", "ignored/\n");
    let all = |args: &[&str]| {
        let mut words = vec!["secrets", "update-all"];
        words.extend(args);
        run(as_alice(&mut scene.civm(&words)))
    };
    all(&["--check"]).ok();
    scene.write(
        ".sops.yaml",
        format!("keys:\n  - &alice {ALICE_AGE}\n  - &bob {BOB_AGE}\ncreation_rules:\n  - path_regex: ^(a|odd name)\\.yaml$\n    age: [*alice, *bob]\n  - path_regex: ^deep/\n    age: [*alice]\n"),
    );
    let before = scene.read("a.yaml");
    let ran = run(&mut scene.civm(&["secrets", "update-all", "--check"])).code(1);
    assert_eq!(ran.out(), "behind a.yaml: +bob\nbehind odd name.yaml: +bob\n", "no key is needed");
    let ran = all(&["--dry-run"]).ok();
    assert_eq!(ran.out(), "would update a.yaml: +bob\nwould update odd name.yaml: +bob\n");
    assert_eq!(scene.read("a.yaml"), before);
    let ran = all(&[]).ok().says("3 files: 2 updated, 1 current, 0 failed");
    assert_eq!(ran.out(), "updated a.yaml: +bob\nupdated odd name.yaml: +bob\n");
    all(&["--check"]).ok();
    run(scene.civm(&["secrets", "decrypt", "a.yaml"]).env("SOPS_AGE_KEY", BOB)).ok();
    let json = all(&["--json"]).ok();
    let json: serde_json::Value = serde_json::from_str(json.out()).expect("JSON");
    assert_eq!(json["files"].as_array().map(Vec::len), Some(3));
}

#[test]
fn update_all_goes_on_past_what_it_cannot_do() {
    let scene = project();
    encrypted(&scene, "a.yaml", PLAIN);
    encrypted(&scene, "nobody/b.yaml", PLAIN);
    scene.write(".sops.yaml", format!("creation_rules:\n  - age: {BOB_AGE}\n"));
    encrypted(&scene, "bobs.yaml", PLAIN);
    scene.write(
        ".sops.yaml",
        format!("creation_rules:\n  - path_regex: ^a\n    age: {ALICE_AGE},{BOB_AGE}\n  - path_regex: ^bobs\n    age: {CAROL_AGE}\n"),
    );
    let ran = run(as_alice(&mut scene.civm(&["secrets", "update-all"]))).code(1);
    let ran = ran.says("no rule matches nobody/b.yaml").says("bobs.yaml");
    let ran = ran.says("3 files: 1 updated, 0 current, 1 failed, 1 without a rule");
    assert_eq!(ran.out().lines().count(), 1, "{}", ran.out());
}

#[test]
fn an_edit_that_could_not_be_saved_never_starts() {
    let scene = project();
    let never = |args: &[&str]| run(as_alice(&mut scene.civm(args)).env("EDITOR", "touch ../started"));
    never(&["secrets", "edit", "nodir/new.yaml"]).code(3);
    scene.write(".sops.yaml", "creation_rules:\n  - age: age1foo\n");
    never(&["secrets", "edit", "new.yaml"]).code(1).says("age1foo");
    assert!(!scene.path("started").exists(), "an editor was opened for nothing");
}

#[test]
fn what_cannot_be_encrypted_goes_back_to_the_editor() {
    let scene = project();
    encrypted(&scene, "s.yaml", PLAIN);
    let before = scene.read("s.yaml");
    let mut edit = scene.civm(&["secrets", "edit", "s.yaml"]);
    let twice = "sed -i -e 's/^5: x$/five: x/;t' -e '1i 5: x'";
    run_with(as_alice(&mut edit).env("EDITOR", twice), b"\n").ok().says("Press enter");
    assert_ne!(scene.read("s.yaml"), before);
}

#[test]
fn two_edits_at_once_lose_nothing() {
    let scene = project();
    encrypted(&scene, "s.yaml", PLAIN);
    let civm = assert_cmd::cargo::cargo_bin!("civm");
    let script = scene.write(
        "editor",
        format!(
            "#!/bin/sh\nEDITOR='sed -i s/^third:.*/third:\\ 4/' {} secrets edit s.yaml\nsed -i 's/one/mine/' \"$1\"\n",
            civm.display()
        ),
    );
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut edit = scene.civm(&["secrets", "edit", "s.yaml"]);
    run(as_alice(&mut edit).env("EDITOR", &script)).code(3).says("changed by another process");
    let get = |file: &str, key: &str| {
        run(as_alice(&mut scene.civm(&["secrets", "get", file, key]))).ok().out().to_owned()
    };
    assert_eq!((get("s.yaml", "first"), get("s.yaml", "third")), ("one".to_owned(), "4\n".to_owned()));
    assert_eq!(get("s.edited.yaml", "first"), "mine");
}

#[test]
fn the_rules_of_a_named_project_count() {
    let scene = Scene::new();
    scene.write("here/.sops.yaml", format!("creation_rules:\n  - age: {ALICE_AGE},{BOB_AGE}\n"));
    scene.write("there/.sops.yaml", format!("creation_rules:\n  - age: {ALICE_AGE}\n"));
    scene.write("there/s.yaml", PLAIN);
    run(scene.civm(&["secrets", "encrypt", "-i", "s.yaml"]).current_dir(scene.file("there"))).ok();
    let before = scene.read("there/s.yaml");
    for set in [true, false] {
        let mut all = scene.civm(&["secrets", "update-all"]);
        all.current_dir(scene.file("here"));
        if set {
            all.env("CIVM_PROJECT", "../there");
        } else {
            all.args(["--project", "../there"]);
        }
        run(as_alice(&mut all)).ok().says("1 files: 0 updated");
    }
    assert_eq!(scene.read("there/s.yaml"), before);
}

#[test]
fn a_named_rules_file_does_not_move_the_project() {
    let scene = project();
    encrypted(&scene, "outside.yaml", PLAIN);
    scene.write("team.yaml", format!("creation_rules:\n  - age: {ALICE_AGE},{BOB_AGE}\n"));
    fs::create_dir_all(scene.file("inner/hosts")).unwrap();
    let mut all = scene.civm(&["secrets", "update-all"]);
    run(as_alice(&mut all).env("SOPS_CONFIG", "../team.yaml").current_dir(scene.file("inner")))
        .ok()
        .says("0 files");
}

#[test]
fn empty_variables_count_as_unset() {
    let scene = project();
    let mut encrypt = scene.civm(&["secrets", "encrypt", "s.yaml"]);
    scene.write("s.yaml", PLAIN);
    run(encrypt.envs([("SOPS_CONFIG", ""), ("CIVM_PROJECT", ""), ("SOPS_AGE_RECIPIENTS", "")])).ok();
    let mut encrypt = scene.civm(&["secrets", "encrypt", "s.yaml"]);
    let ran = run(encrypt.env("SOPS_AGE_RECIPIENTS", BOB_AGE)).ok().says("overrides the rule's recipients");
    assert!(ran.out().contains(BOB_AGE) && !ran.out().contains(ALICE_AGE));
    run(&mut scene.civm(&["secrets", "encrypt", "-i", "--output", "x", "s.yaml"])).code(8);
    run(&mut scene.civm(&["secrets", "decrypt", "."])).code(2);
    run(scene.civm(&["secrets", "encrypt", "s.yaml"]).env("SOPS_CONFIG", "/nonexistent")).code(1);
}

#[test]
fn broken_rules_beside_a_file_keep_nobody_from_reading_it() {
    let scene = project();
    encrypted(&scene, "deep/s.yaml", PLAIN);
    fs::rename(scene.file(".sops.yaml"), scene.path("rules")).unwrap();
    scene.write("deep/.sops.yaml", "x: [\n");
    run(as_alice(&mut scene.civm(&["secrets", "decrypt", "deep/s.yaml"]))).ok();
}

#[test]
fn json_and_files_of_any_other_name_are_encrypted_edited_and_decrypted() {
    let scene = Scene::new();
    scene.write(".sops.yaml", format!("creation_rules:\n  - age: {ALICE_AGE}\n    encrypted_regex: ^b$\n"));
    let text = encrypted(&scene, "s.json", r#"{"a": 1, "b": "two", "b": [3.0]}"#);
    assert!(text.starts_with("{\n\t\"a\": 1,\n\t\"b\": \"ENC[AES256_GCM"), "{text}");
    let mut edit = scene.civm(&["secrets", "edit", "s.json"]);
    run(as_alice(&mut edit).env("EDITOR", "sed -i s/two/2/")).ok();
    let plain = run(as_alice(&mut scene.civm(&["secrets", "decrypt", "s.json"]))).ok();
    assert_eq!(plain.out(), "{\n\t\"a\": 1,\n\t\"b\": \"2\",\n\t\"b\": [\n\t\t3\n\t]\n}\n");
    let content = b"\0any\xffbytes, one\n";
    scene.write("key", content);
    run(&mut scene.civm(&["secrets", "encrypt", "-i", "key"])).ok().says("encrypted_regex is ignored");
    run(&mut scene.civm(&["secrets", "encrypt", "-i", "key"])).code(203).says("already encrypted");
    let mut edit = scene.civm(&["secrets", "edit", "key"]);
    run(as_alice(&mut edit).env("EDITOR", "sed -i s/one/two/")).ok();
    let plain = run(as_alice(&mut scene.civm(&["secrets", "get", "key", "data"]))).ok();
    assert_eq!(plain.stdout, b"\0any\xffbytes, two\n");
    let mut edit = scene.civm(&["secrets", "edit", "new"]);
    run(edit.env("EDITOR", "sed -i 1s/^/new:/")).ok().says("encrypted_regex is ignored");
    let plain = run(as_alice(&mut scene.civm(&["secrets", "decrypt", "new"]))).ok();
    assert!(plain.out().starts_with("new:"), "{}", plain.out());
}

//! Files of rules as people and tools leave them behind: misspelt, empty, in other encodings, in conflict.

use std::fs;

use crate::support::{Ran, Scene, run};

/// A throw-away identity and its recipient, and one more recipient; they protect nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";

fn scene(rules: impl AsRef<[u8]>) -> Scene {
    let scene = Scene::new();
    scene.write(".sops.yaml", rules);
    scene
}

fn civm(scene: &Scene, words: &[&str]) -> Ran {
    run(scene.civm(words).env("SOPS_AGE_KEY", ALICE))
}

/// What a file is after a command that was refused.
#[track_caller]
fn untouched(scene: &Scene, words: &[&str], file: &str, says: &str) {
    let before = fs::read(scene.file(file)).ok();
    civm(scene, words).code(1).says(says);
    assert_eq!(fs::read(scene.file(file)).ok(), before, "{words:?}");
}

#[test]
fn no_command_writes_a_file_that_nobody_can_open() {
    let good = format!("creation_rules:\n  - age: {ALICE_AGE}\n");
    let scene = scene(&good);
    for name in ["s.yaml", "more/t.yaml"] {
        scene.write(name, "a: secret\n");
        civm(&scene, &["secrets", "encrypt", "-i", name]).ok();
    }
    for group in ["{}", "age: []", "age: [\"\"]", "merge: [{}]", "pgp: []", "aeg: [x]"] {
        let bad = format!(
            "# rules\ncreation_rules:\n  - path_regex: ^nowhere\n    age: {ALICE_AGE}\n  - key_groups:\n      - {group}\n      - age: \
             [{BOB_AGE}, {ALICE_AGE}]\n"
        );
        scene.write(".sops.yaml", bad);
        scene.write("p.yaml", "a: secret\n");
        let place = ".sops.yaml`: line 5: creation rule 2: key group 1 of 2 has no recipient";
        untouched(&scene, &["secrets", "encrypt", "-i", "p.yaml"], "p.yaml", place);
        untouched(&scene, &["secrets", "updatekeys", "-y", "s.yaml"], "s.yaml", place);
        untouched(&scene, &["secrets", "update-all"], "s.yaml", "failed");
        civm(&scene, &["secrets", "update-all", "--check"]).code(1).says(place);
        let mut edit = scene.civm(&["secrets", "edit", "new.yaml"]);
        run(edit.env("EDITOR", "touch opened;")).code(1).says(place);
        assert!(!scene.file("new.yaml").exists() && !scene.file("opened").exists());
        civm(&scene, &["secrets", "check"]).code(1);
    }
    // A threshold that does not fit is the same kind of lock.
    for threshold in ["1", "3", "-1"] {
        scene.write(
            ".sops.yaml",
            format!(
                "creation_rules:\n  - shamir_threshold: {threshold}\n    key_groups:\n      - age: [{ALICE_AGE}]\n      - age: [{BOB_AGE}]\n"
            ),
        );
        untouched(&scene, &["secrets", "encrypt", "-i", "p.yaml"], "p.yaml", "line 2: creation rule 1");
    }
    // Who is up to date has nothing to fear.
    scene.write(
        ".sops.yaml",
        format!("creation_rules:\n  - key_groups:\n      - age: [{ALICE_AGE}]\n      - {{}}\n"),
    );
    civm(&scene, &["secrets", "updatekeys", "-y", "s.yaml"]).ok().says("already up to date");
    scene.write(".sops.yaml", good);
    assert_eq!(civm(&scene, &["secrets", "get", "s.yaml", "a"]).ok().out(), "secret");
}

#[test]
fn an_empty_recipient_is_nobody_else() {
    let scene = scene(format!("creation_rules:\n  - age: {ALICE_AGE}\n"));
    scene.write("p.yaml", "a: secret\n");
    for given in [format!("{BOB_AGE},"), ",".to_owned(), " ".to_owned(), String::new()] {
        untouched(&scene, &["secrets", "encrypt", "-i", "--age", &given, "p.yaml"], "p.yaml", "it is empty");
    }
    let mut encrypt = scene.civm(&["secrets", "encrypt", "p.yaml"]);
    run(encrypt.env("SOPS_AGE_RECIPIENTS", format!("{BOB_AGE},"))).code(1).says("it is empty");
    civm(&scene, &["secrets", "encrypt", "-i", "p.yaml"]).ok();
    for flag in ["--add-age", "--rm-age"] {
        untouched(
            &scene,
            &["secrets", "rotate", flag, &format!("{BOB_AGE},"), "p.yaml"],
            "p.yaml",
            "it is empty",
        );
    }
}

#[test]
fn a_misspelt_key_is_told_where_it_matters() {
    let rules = format!(
        "creation_rules:\n  - path_regexp: ^prod/\n    encrypted_regexp: ^data$\n    age: {ALICE_AGE}\n"
    );
    let scene = scene(rules);
    scene.write("dev.yaml", "a: 1\n");
    civm(&scene, &["secrets", "encrypt", "-i", "dev.yaml"])
        .ok()
        .says("line 2: sops does not know the key `path_regexp` and ignores it; did you mean `path_regex`?")
        .says("line 3: sops does not know the key `encrypted_regexp`");
    let found = civm(&scene, &["secrets", "check"]).ok();
    assert!(
        found.out().contains(".sops.yaml:2: warning: creation rule 1: sops does not know"),
        "{}",
        found.out()
    );
    let found = civm(&scene, &["secrets", "check", "--strict"]).code(1);
    assert!(found.out().contains("did you mean `encrypted_regex`?"), "{}", found.out());
    // Anchors and notes beside the rules are customary.
    scene
        .write(".sops.yaml", format!("keys: [&a {ALICE_AGE}]\nnote: ours\ncreation_rules:\n  - age: [*a]\n"));
    civm(&scene, &["secrets", "check", "--strict"]).ok();
}

#[test]
fn a_rule_that_encrypts_nothing_is_told() {
    let scene =
        scene(format!("creation_rules:\n  - encrypted_regex: ^(data|stringData)$\n    age: {ALICE_AGE}\n"));
    for (name, text) in
        [("t.env", "A=hunter2\n"), ("k.yaml", "dta:\n    a: hunter2\n"), ("j.json", "{\"a\": \"hunter2\"}")]
    {
        scene.write(name, text);
        let ran = civm(&scene, &["secrets", "encrypt", "-i", name]).ok();
        let said = ran
            .says("nothing is encrypted: encrypted_regex `^(data|stringData)$` matches no value in the file");
        said.silent_on("hunter2");
    }
    scene.write("good.yaml", "data:\n    a: hunter2\n");
    assert_eq!(civm(&scene, &["secrets", "encrypt", "-i", "good.yaml"]).ok().stderr, "");
}

#[test]
fn values_that_yaml_changes_are_told_without_the_value() {
    let scene = scene(format!("creation_rules:\n  - age: {ALICE_AGE}\n"));
    scene.write("v.yaml", "port: 12345_54321\nm:\n    - name: x\n      version: 1.10\n");
    let ran = civm(&scene, &["secrets", "encrypt", "v.yaml"]).ok();
    let ran = ran.says("line 1: [\"port\"]: ").says("line 4: [\"m\"][0][\"version\"]: ");
    ran.silent_on("12345_54321");
    for odd in ["012", "0o17", "0x1F", "1e3", "+1", "2001-01-01", "!env HOME", "!!binary aGk="] {
        scene.write("v.yaml", format!("a: {odd}\n"));
        civm(&scene, &["secrets", "encrypt", "v.yaml"]).ok().says("line 1: [\"a\"]: it");
    }
    for plain in ["12", "-3", "1.5", "true", "True", "~", "'012'", "\"1.10\"", "text", "!!str 012", "2001"] {
        scene.write("v.yaml", format!("a: {plain}\n"));
        assert_eq!(civm(&scene, &["secrets", "encrypt", "v.yaml"]).ok().stderr, "", "{plain}");
    }
}

fn utf16(text: &str, big: bool) -> Vec<u8> {
    let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
    text.encode_utf16().fold(bytes(0xFEFF).to_vec(), |mut all, unit| {
        all.extend(bytes(unit));
        all
    })
}

#[test]
fn rules_in_other_encodings_are_read_and_not_damaged() {
    let text = format!("keys:\n  - &alice {ALICE_AGE} # ü\ncreation_rules:\n  - age: [*alice]\n");
    for big in [true, false] {
        let scene = scene(utf16(&text, big));
        scene.write("b.yaml", "a: 1\n");
        civm(&scene, &["secrets", "encrypt", "-i", "b.yaml"]).ok();
        civm(&scene, &["secrets", "check", "--strict"]).ok();
        assert_eq!(civm(&scene, &["secrets", "who"]).ok().out().matches("alice").count(), 1);
        let before = fs::read(scene.file(".sops.yaml")).expect("rules");
        civm(&scene, &["keys", "add", "bob", BOB_AGE, "--all"]).code(1).says("UTF-16; save it as UTF-8");
        assert_eq!(fs::read(scene.file(".sops.yaml")).expect("rules"), before);
    }
    // A mark in front of UTF-8 stays in front, with keys or without.
    for text in [text.clone(), format!("creation_rules:\n  - age: [{ALICE_AGE}]\n")] {
        let scene = scene(format!("\u{feff}{text}"));
        civm(&scene, &["keys", "add", "bob", BOB_AGE, "--all"]).ok();
        let after = scene.read(".sops.yaml");
        assert!(after.starts_with("\u{feff}keys:\n") && after.matches('\u{feff}').count() == 1, "{after}");
        assert!(after.contains("*bob]"), "{after}");
        scene.write("b.yaml", "a: 1\n");
        civm(&scene, &["secrets", "encrypt", "-i", "b.yaml"]).ok();
        assert_eq!(scene.read("b.yaml").matches("recipient:").count(), 2);
    }
}

#[test]
fn rules_in_one_line_of_json_are_read_and_their_edit_says_what_they_are() {
    let text = format!("{{\"creation_rules\":[{{\"age\":\"{ALICE_AGE}\"}}]}}\n");
    for mark in ["", "\u{feff}"] {
        let scene = scene(format!("{mark}{text}"));
        scene.write("b.json", format!("{mark}{{\"a\": 1}}"));
        scene.write("b.yaml", "a: 1\n");
        civm(&scene, &["secrets", "encrypt", "-i", "b.yaml"]).ok();
        civm(&scene, &["keys", "add", "bob", BOB_AGE, "--all"]).code(1).says("in braces, as in JSON");
        assert_eq!(scene.read(".sops.yaml"), format!("{mark}{text}"));
        let json = civm(&scene, &["secrets", "encrypt", "b.json"]);
        if mark.is_empty() {
            json.ok()
        } else {
            json.code(2).says("byte order mark")
        };
    }
}

#[test]
fn rules_in_conflict_do_not_keep_anybody_from_reading() {
    let scene = scene(format!("creation_rules:\n  - age: {ALICE_AGE}\n"));
    scene.write("s.yaml", "a: one\nm:\n    k: v\n");
    civm(&scene, &["secrets", "encrypt", "-i", "s.yaml"]).ok();
    let broken = format!(
        "creation_rules:\n<<<<<<< HEAD\n  - age: {ALICE_AGE}\n=======\n  - age: {BOB_AGE}\n>>>>>>> b1\n"
    );
    scene.write(".sops.yaml", broken);
    let conflict = "line 2: the file still has git's conflict markers";
    let got = civm(&scene, &["secrets", "get", "s.yaml", "m/k"]).ok().says(conflict);
    assert_eq!(got.out(), "v");
    assert_eq!(civm(&scene, &["secrets", "decrypt", "s.yaml"]).ok().out(), "a: one\nm:\n    k: v\n");
    civm(&scene, &["secrets", "exec-env", "--nested", "skip", "s.yaml", "--", "true"]);
    civm(&scene, &["secrets", "updatekeys", "-y", "s.yaml"]).code(1).says(conflict);
    civm(&scene, &["keys", "add", "bob", BOB_AGE]).code(1).says(conflict);
    // sops itself stops, and so does civm under its name.
    civm(&scene, &["sops", "decrypt", "s.yaml"]).code(1).says(conflict);
}

#[test]
fn a_number_in_a_path_is_a_position_only_where_a_list_is() {
    let scene = scene(format!("creation_rules:\n  - age: {ALICE_AGE}\n"));
    scene.write("t.yaml", "uids: {\"1000\": joe}\nl: [x, y]\n");
    civm(&scene, &["secrets", "encrypt", "-i", "t.yaml"]).ok();
    for (path, value) in
        [("ports/8080", "web"), ("ports/8081", "more"), ("l/1", "z"), ("l/2", "new"), ("uids/1001", "ann")]
    {
        civm(&scene, &["secrets", "set", "t.yaml", path, value]).ok();
        assert_eq!(civm(&scene, &["secrets", "get", "t.yaml", path]).ok().out(), value);
    }
    assert_eq!(civm(&scene, &["secrets", "get", "t.yaml", "uids/1000"]).ok().out(), "joe");
    civm(&scene, &["secrets", "unset", "t.yaml", "uids/1000"]).ok();
    civm(&scene, &["secrets", "unset", "t.yaml", "l/0"]).ok();
    let wanted =
        "uids:\n    \"1001\": ann\nl:\n    - z\n    - new\nports:\n    \"8080\": web\n    \"8081\": more\n";
    assert_eq!(civm(&scene, &["secrets", "decrypt", "t.yaml"]).ok().out(), wanted);
    civm(&scene, &["secrets", "get", "t.yaml", "l/word"]).code(1);
    civm(&scene, &["secrets", "get", "t.yaml", "l/9"]).code(1);
}

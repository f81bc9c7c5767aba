//! Values, data keys and key groups changed by `civm secrets`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::{Ran, Scene, run, run_with};

/// Throw-away identities; they protect nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB: &str = "AGE-SECRET-KEY-16NC6D5XQZ5GXKRZETARH27RQ8FT888FC4NNLLMVQAR5AGPT389WSGY4QER";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";
const CAROL_AGE: &str = "age15096taqg3qls9fhljy57qr8wsqvnnnur758886q09rdmja2mtdlszg45wl";

const PLAIN: &str =
    "first: one\nsecond:\n    deep: two words\n    list:\n        - x\n        - z\nthird: 3\n";

fn scene(recipients: &str) -> Scene {
    let scene = Scene::new();
    scene.write(
        ".sops.yaml",
        format!("creation_rules:\n  - path_regex: \\.(yaml|json)$\n    age: {recipients}\n"),
    );
    scene
}

fn encrypt(scene: &Scene, name: &str, plain: &str) -> String {
    scene.write(name, plain);
    run(&mut scene.civm(&["secrets", "encrypt", "-i", name])).ok();
    scene.read(name)
}

fn civm(scene: &Scene, args: &[&str]) -> Command {
    let mut command = scene.civm(&["secrets"]);
    command.args(args).env("SOPS_AGE_KEY", ALICE);
    command
}

fn alice(scene: &Scene, args: &[&str]) -> Ran {
    run(&mut civm(scene, args))
}

fn plain(scene: &Scene, name: &str) -> String {
    alice(scene, &["decrypt", name]).ok().out().to_owned()
}

/// The keys of the lines that are in one text only; armor counts as the line above it.
fn changed(before: &str, after: &str) -> Vec<String> {
    let lines: Vec<&str> = before.lines().collect();
    let new = after.lines().filter(|line| !lines.contains(line));
    new.map(|line| line.trim().split(':').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn sops_own_syntax_of_a_value_is_pointed_out() {
    let scene = scene(ALICE_AGE);
    encrypt(&scene, "s.yaml", PLAIN);
    alice(&scene, &["set", "s.yaml", r#"["q"]"#, r#""v1""#]).ok().says("stored with its quotes: --json");
    assert_eq!(alice(&scene, &["get", "s.yaml", "q"]).ok().out(), r#""v1""#);
    for unquoted in [&["v1"][..], &["--json", r#""v1""#], &[r#""a" and "b""#]] {
        let ran = alice(&scene, &[&["set", "s.yaml", "q"], unquoted].concat()).ok();
        assert_eq!(ran.stderr, "", "{unquoted:?}");
    }
}

#[test]
fn a_plaintext_that_cannot_be_read_is_not_taken_for_the_file() {
    let scene = scene(ALICE_AGE);
    let before = encrypt(&scene, "s.yaml", PLAIN);
    scene.write("new.yaml", "a: [\n");
    let ran = run_with(&mut civm(&scene, &["replace", "s.yaml"]), b"");
    assert!(ran.code != 0 && ran.stderr.contains("`standard input`"), "{}", ran.stderr);
    let ran = alice(&scene, &["replace", "s.yaml", "--from", "new.yaml"]);
    assert!(ran.code != 0 && ran.stderr.contains("`new.yaml`"), "{}", ran.stderr);
    assert_eq!(scene.read("s.yaml"), before);
}

#[test]
fn advice_is_about_what_can_be_done() {
    let scene = scene(ALICE_AGE);
    encrypt(&scene, "s.yaml", PLAIN);
    let rules = alice(&scene, &["decrypt", ".sops.yaml"]);
    assert!(rules.code != 0 && !rules.stderr.contains("encrypt -i"), "{}", rules.stderr);
    let ran = alice(&scene, &["exec-env", "--skip-nested", "s.yaml", "--", "make deploy"]).code(127);
    ran.says("cannot run `make deploy`: there is no such command").says("sh -c");
}

#[test]
fn a_value_is_set_and_nothing_else_changes() {
    let scene = scene(ALICE_AGE);
    let before = encrypt(&scene, "s.yaml", PLAIN);
    fs::set_permissions(scene.file("s.yaml"), fs::Permissions::from_mode(0o640)).unwrap();
    alice(&scene, &["set", "s.yaml", "second/deep", "3"]).ok();
    let lines = changed(&before, &scene.read("s.yaml"));
    assert!(lines == ["deep", "lastmodified", "mac"] || lines == ["deep", "mac"], "{lines:?}");
    assert_eq!(
        plain(&scene, "s.yaml"),
        PLAIN.replace("two words", "\"3\""),
        "a text, whatever it looks like"
    );
    let mode = fs::metadata(scene.file("s.yaml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    alice(&scene, &["set", "s.yaml", "[\"new\"][\"list\"][0]", "--json", "[1, 2.5, null, true]"]).ok();
    assert!(
        plain(&scene, "s.yaml").ends_with(
            "new:\n    list:\n        - - 1\n          - 2.5\n          - null\n          - true\n"
        )
    );
    alice(&scene, &["set", "s.yaml", "third", "-5", "--json"]).ok();
    assert!(plain(&scene, "s.yaml").contains("\nthird: -5\n"));
    alice(&scene, &["set", "s.yaml", "second/list/9", "--json", "9007199254740993"]).ok();
    assert!(plain(&scene, "s.yaml").contains("        - z\n        - 9007199254740993\n"));
}

#[test]
fn a_value_comes_from_a_pipe_or_a_file_byte_for_byte() {
    let scene = scene(ALICE_AGE);
    encrypt(&scene, "s.yaml", PLAIN);
    let pem = "-----BEGIN X-----\nabc\n\n-----END X-----\n";
    let get = || alice(&scene, &["get", "s.yaml", "first"]).ok().out().to_owned();
    run_with(&mut civm(&scene, &["set", "s.yaml", "first"]), pem.as_bytes()).ok().silent_on("abc");
    assert_eq!(get(), pem);
    run_with(&mut civm(&scene, &["set", "s.yaml", "first", "--value-stdin", "--json"]), b"\"a\\nb\"\n").ok();
    assert_eq!(get(), "a\nb");
    scene.write("value", "from a file\n");
    alice(&scene, &["set", "s.yaml", "first", "--value-file", "value"]).ok();
    assert_eq!(get(), "from a file\n");
    alice(&scene, &["set", "s.yaml", "first", "--value-file", "missing"]).code(100);
    // What comes from a command that failed is not a value.
    for options in [&[][..], &["--value-stdin"], &["--value-stdin", "--json"]] {
        let words = [&["set", "s.yaml", "first"], options].concat();
        run_with(&mut civm(&scene, &words), b"").code(7).says("standard input is empty");
        assert_eq!(get(), "from a file\n");
    }
    let mut nobody = civm(&scene, &["set", "s.yaml", "first"]);
    let ended = nobody.stdin(std::process::Stdio::null()).output().unwrap();
    assert_eq!(ended.status.code(), Some(7), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn idempotent_leaves_the_file_alone() {
    let scene = scene(ALICE_AGE);
    let before = encrypt(&scene, "s.yaml", PLAIN);
    alice(&scene, &["set", "s.yaml", "first", "one", "--idempotent"]).ok();
    alice(&scene, &["set", "s.yaml", "third", "3", "--json", "--idempotent"]).ok();
    alice(&scene, &["unset", "s.yaml", "none/at/all", "--idempotent"]).ok();
    alice(&scene, &["unset", "s.yaml", "second/list/7", "--idempotent"]).ok();
    assert_eq!(scene.read("s.yaml"), before);
    alice(&scene, &["set", "s.yaml", "third", "3", "--idempotent"]).ok();
    assert_ne!(scene.read("s.yaml"), before, "another type");
}

#[test]
fn a_value_is_removed() {
    let scene = scene(ALICE_AGE);
    encrypt(&scene, "s.yaml", PLAIN);
    alice(&scene, &["unset", "s.yaml", "second/list/0"]).ok();
    alice(&scene, &["unset", "s.yaml", "first"]).ok();
    assert_eq!(plain(&scene, "s.yaml"), "second:\n    deep: two words\n    list:\n        - z\nthird: 3\n");
    let before = scene.read("s.yaml");
    alice(&scene, &["unset", "s.yaml", "first"]).code(1).says("[\"first\"] not found");
    alice(&scene, &["unset", "s.yaml", "third/x", "--idempotent"]).code(1).says("cannot be used on");
    assert_eq!(scene.read("s.yaml"), before);
}

#[test]
fn what_cannot_be_set_leaves_the_file_as_it_was() {
    let scene = scene(ALICE_AGE);
    let before = encrypt(&scene, "s.yaml", PLAIN);
    alice(&scene, &["set", "s.yaml", "first", "--json", "hush"]).code(7).silent_on("hush");
    alice(&scene, &["set", "s.yaml", "first", "--json", "{\"a\": 1, \"a\": 2}"])
        .code(7)
        .says("duplicate key");
    alice(&scene, &["set", "s.yaml", "[\"first\"", "x"]).code(7);
    alice(&scene, &["set", "s.yaml", "", "x"]).code(7);
    alice(&scene, &["set", "s.yaml", "[\"second\"][0]", "x"]).code(1).says("cannot be used on");
    alice(&scene, &["set", "s.yaml", "sops", "x"]).code(203);
    alice(&scene, &["set", "none.yaml", "a", "x"]).code(100);
    run(&mut scene.civm(&["secrets", "set", "s.yaml", "first", "x"])).code(128);
    let renamed = before.replace("second:", "other:");
    scene.write("s.yaml", &renamed);
    alice(&scene, &["set", "s.yaml", "first", "x"]).code(25);
    let mut lines: Vec<&str> = before.lines().collect();
    lines.swap(4, 5);
    let swapped = lines.join("\n") + "\n";
    scene.write("s.yaml", &swapped);
    alice(&scene, &["set", "s.yaml", "first", "x"]).code(51);
    alice(&scene, &["unset", "s.yaml", "first"]).code(51);
    alice(&scene, &["rotate", "s.yaml"]).code(51);
    assert_eq!(scene.read("s.yaml"), swapped);
    alice(&scene, &["set", "s.yaml", "first", "x", "--ignore-mac"]).ok();
    alice(&scene, &["decrypt", "s.yaml"]).ok();
}

#[test]
fn many_changes_at_once_lose_none() {
    let scene = scene(ALICE_AGE);
    encrypt(&scene, "s.yaml", "a: b\n");
    let mut children: Vec<_> = (0..8)
        .map(|number| {
            let name = format!("key{number}");
            civm(&scene, &["set", "s.yaml", &name, "x"]).spawn().unwrap()
        })
        .collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(plain(&scene, "s.yaml").lines().count(), 9);
}

#[test]
fn a_rotated_file_has_another_data_key_and_the_same_values() {
    let scene = scene(ALICE_AGE);
    let before = encrypt(&scene, "s.yaml", PLAIN);
    alice(&scene, &["rotate", "s.yaml"]).ok();
    let after = scene.read("s.yaml");
    assert_eq!(plain(&scene, "s.yaml"), PLAIN);
    let iv = |text: &str| text.lines().next().unwrap().split("iv:").nth(1).unwrap()[..20].to_owned();
    assert_eq!(iv(&before), iv(&after), "nonces stay");
    let data: Vec<_> = before.lines().filter(|line| line.contains(",type:")).collect();
    assert!(data.iter().all(|line| !after.contains(line)), "every value is encrypted anew");
}

#[test]
fn rotation_lets_in_and_keeps_out() {
    let scene = scene(&format!("{ALICE_AGE},{CAROL_AGE}"));
    encrypt(&scene, "s.yaml", PLAIN);
    alice(&scene, &["rotate", "s.yaml", "--add-age", BOB_AGE, "--rm-age", CAROL_AGE])
        .ok()
        .says("change the secrets");
    let text = scene.read("s.yaml");
    assert!(text.contains(BOB_AGE) && !text.contains(CAROL_AGE));
    run(scene.civm(&["secrets", "decrypt", "s.yaml"]).env("SOPS_AGE_KEY", BOB)).ok();
    alice(&scene, &["rotate", "s.yaml", "--add-age", BOB_AGE]).ok();
    assert_eq!(scene.read("s.yaml").matches(BOB_AGE).count(), 1, "nobody twice");
    alice(&scene, &["rotate", "s.yaml", "--rm-age", CAROL_AGE]).ok().says("was not a recipient");
    let before = scene.read("s.yaml");
    let everybody = format!("{ALICE_AGE},{BOB_AGE}");
    alice(&scene, &["rotate", "s.yaml", "--rm-age", &everybody]).code(1).says("no recipient");
    alice(&scene, &["rotate", "s.yaml", "--add-age", "age1bad"]).code(1);
    assert_eq!(scene.read("s.yaml"), before);
}

#[test]
fn all_files_of_a_project_are_rotated_and_one_that_fails_stops_none() {
    let scene = scene(ALICE_AGE);
    for name in ["a.yaml", "deep/b.yaml", "c.json"] {
        encrypt(&scene, name, if name.ends_with("json") { "{\"a\": 1}\n" } else { "a: 1\n" });
    }
    let broken = scene.read("a.yaml").replace("a: ENC", "b: ENC");
    scene.write("a.yaml", &broken);
    scene.write("plain.yaml", "a: 1\n");
    let (b, c) = (scene.read("deep/b.yaml"), scene.read("c.json"));
    let ran = alice(&scene, &["rotate", "--all"]).code(1);
    assert_eq!(ran.out(), "rotated c.json\nrotated deep/b.yaml\n");
    ran.says("3 files: 2 rotated, 1 failed").says("a.yaml");
    assert!(scene.read("deep/b.yaml") != b && scene.read("c.json") != c && scene.read("a.yaml") == broken);
}

#[test]
fn keys_of_other_kinds_are_refused_by_name_and_kept_by_set() {
    let scene = scene(ALICE_AGE);
    let text = encrypt(&scene, "s.yaml", PLAIN);
    let pgp = "sops:\n    pgp:\n        - created_at: \"2026-01-01T00:00:00Z\"\n          enc: |-\n            -----BEGIN PGP MESSAGE-----\n            -----END PGP MESSAGE-----\n          fp: ABCDEF\n";
    scene.write("s.yaml", text.replace("sops:\n", pgp));
    alice(&scene, &["set", "s.yaml", "first", "x"]).ok();
    let before = scene.read("s.yaml");
    assert!(before.contains(pgp.strip_prefix("sops:\n").unwrap()), "{before}");
    alice(&scene, &["rotate", "s.yaml"]).code(1).says("pgp");
    alice(&scene, &["groups", "add", "s.yaml", BOB_AGE]).code(1).says("pgp");
    assert_eq!(scene.read("s.yaml"), before);
}

#[test]
fn groups_come_and_go_and_the_values_stay() {
    let scene = scene(ALICE_AGE);
    let before = encrypt(&scene, "s.yaml", PLAIN);
    let values = |text: &str| text.split("sops:").next().unwrap().to_owned();
    let line =
        |text: &str, key: &str| text.lines().find(|line| line.trim().starts_with(key)).unwrap().to_owned();
    alice(&scene, &["groups", "add", "s.yaml", BOB_AGE, CAROL_AGE])
        .ok()
        .says("2 of 2 key groups are now needed");
    let two = scene.read("s.yaml");
    assert!(values(&two) == values(&before) && two.contains("shamir_threshold: 2"));
    assert_eq!(
        (line(&two, "mac:"), line(&two, "lastmodified:")),
        (line(&before, "mac:"), line(&before, "lastmodified:"))
    );
    alice(&scene, &["decrypt", "s.yaml"]).code(128);
    let both = format!("{ALICE}\n{BOB}");
    let as_both = |args: &[&str]| run(civm(&scene, args).env("SOPS_AGE_KEY", &both));
    assert_eq!(as_both(&["decrypt", "s.yaml"]).ok().out(), PLAIN);
    as_both(&["groups", "rm", "s.yaml", "1"]).code(1).says("2 would be needed to decrypt it");
    as_both(&["groups", "rm", "s.yaml", "2"]).code(1).says("no key group 2");
    as_both(&["groups", "add", "s.yaml", ALICE_AGE, "--threshold", "4"]).code(1).says("3 key group(s)");
    as_both(&["groups", "add", "s.yaml", ALICE_AGE, "--threshold", "1"]).code(1).says("must be from 2 to 3");
    assert_eq!(scene.read("s.yaml"), two);
    as_both(&["groups", "rm", "s.yaml", "1", "--threshold", "1"]).ok();
    assert_eq!(plain(&scene, "s.yaml"), PLAIN);
    alice(&scene, &["groups", "rm", "s.yaml", "0"]).code(1).says("0 key group(s)");
}

#[test]
fn status_needs_no_key() {
    let scene = scene(ALICE_AGE);
    encrypt(&scene, "s.yaml", PLAIN);
    scene.write("plain.yaml", PLAIN);
    let status = |args: &[&str]| {
        let mut words = vec!["secrets", "status"];
        words.extend(args);
        run(&mut scene.civm(&words))
    };
    assert!(status(&["s.yaml"]).ok().out().starts_with("encrypted s.yaml: 1 recipient(s), last changed 20"));
    assert!(status(&["s.yaml", "plain.yaml"]).code(1).out().ends_with("plain plain.yaml\n"));
    status(&["none.yaml"]).code(100);
    let ran = status(&["--json", "s.yaml", "plain.yaml"]).code(1);
    let json: serde_json::Value = serde_json::from_str(ran.out()).unwrap();
    assert_eq!(
        (&json["files"][0]["encrypted"], &json["files"][1]["encrypted"]),
        (&true.into(), &false.into())
    );
    let text = scene.read("s.yaml");
    let without = text
        .lines()
        .filter(|line| !line.trim().starts_with("mac:"))
        .fold(String::new(), |all, line| all + line + "\n");
    scene.write("s.yaml", without);
    assert_eq!(status(&["s.yaml"]).code(1).out(), "plain s.yaml\n", "without a MAC it counts as none");
}

#[test]
fn a_key_that_leaves_the_rules_leaves_the_files_and_their_data_keys() {
    let scene = scene(&format!("{ALICE_AGE},{BOB_AGE}"));
    let both = encrypt(&scene, "both.yaml", PLAIN);
    scene.write(".sops.yaml", format!("creation_rules:\n  - path_regex: both.yaml$\n    age: {ALICE_AGE},{BOB_AGE}\n  - path_regex: own.yaml$\n    age: {ALICE_AGE}\n"));
    let own = encrypt(&scene, "own.yaml", PLAIN);
    run(scene.civm(&["keys", "rm", BOB_AGE, "--yes"]).env("SOPS_AGE_KEY", ALICE)).ok();
    assert_eq!(scene.read("own.yaml"), own, "he could not read it");
    let after = scene.read("both.yaml");
    assert!(!after.contains(BOB_AGE) && after.lines().next() != both.lines().next(), "{after}");
    assert_eq!(plain(&scene, "both.yaml"), PLAIN);
}

#[test]
fn a_binary_file_keeps_its_content_and_nothing_else() {
    let scene = scene(ALICE_AGE);
    let content: &[u8] = b"raw \xff bytes\n";
    scene.write(".sops.yaml", format!("creation_rules:\n  - age: {ALICE_AGE}\n"));
    scene.write("s.bin", content);
    alice(&scene, &["encrypt", "-i", "s.bin"]).ok();
    let before = scene.read("s.bin");
    for words in [&["set", "s.bin", "other", "x"][..], &["unset", "s.bin", "data"]] {
        alice(&scene, words).code(4).says("binary file");
        assert_eq!(scene.read("s.bin"), before);
    }
    alice(&scene, &["set", "s.bin", "data", "new"]).ok();
    assert_eq!(alice(&scene, &["decrypt", "s.bin"]).ok().out(), "new");
}

//! civm called as sops: the flags that sops does not have.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::{Ran, Scene, run, run_with};

/// Throw-away identities; they protect nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";
const PLAIN: &str = "a: one\nb: two\n";

/// A project with two encrypted files, `s.yaml` and `deep/t.yaml`.
fn scene() -> Scene {
    let scene = Scene::new();
    symlink(assert_cmd::cargo::cargo_bin!("civm"), scene.path("sops")).expect("a link");
    rules(&scene, ALICE_AGE);
    for name in ["s.yaml", "deep/t.yaml"] {
        scene.write(name, PLAIN);
        ran(&scene, &["encrypt", "-i", name]).ok();
    }
    scene
}

fn rules(scene: &Scene, recipients: &str) {
    scene
        .write(".sops.yaml", format!("creation_rules:\n  - path_regex: ^(s|deep/)\n    age: {recipients}\n"));
}

/// Without any key.
fn keyless(scene: &Scene, args: &[&str]) -> Command {
    let mut command = scene.command(scene.path("sops"));
    command.args(args);
    command
}

fn sops(scene: &Scene, args: &[&str]) -> Command {
    let mut command = keyless(scene, args);
    command.env("SOPS_AGE_KEY", ALICE);
    command
}

fn ran(scene: &Scene, args: &[&str]) -> Ran {
    run(&mut sops(scene, args))
}

fn both(scene: &Scene) -> [String; 2] {
    ["s.yaml", "deep/t.yaml"].map(|name| scene.read(name))
}

/// The line of a key.
fn line<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines().find(|line| line.trim_start().starts_with(key)).unwrap_or_else(|| panic!("{key} in {text}"))
}

#[test]
fn updatekeys_checks_files_without_a_key_and_changes_none() {
    let scene = scene();
    let check = |args: &[&str]| run(&mut keyless(&scene, &[&["updatekeys", "--check"], args].concat()));
    assert_eq!(check(&["s.yaml", "deep/t.yaml"]).ok().says("already up to date").out(), "");
    rules(&scene, &format!("{ALICE_AGE},{BOB_AGE}"));
    let before = both(&scene);
    let behind = check(&["s.yaml"]).code(1).says("s.yaml is not up to date");
    assert!(behind.out().ends_with(&format!("+++ {BOB_AGE}\n")), "{}", behind.out());
    let behind = check(&["s.yaml", "deep/t.yaml"]).code(1).says("t.yaml is not up to date");
    assert!(!behind.out().contains("(y/n)"));
    check(&["--yes", "s.yaml"]).code(1);
    run(&mut keyless(&scene, &["updatekeys", "s.yaml", "--check"])).code(1).says("is not up to date");
    assert_eq!(both(&scene), before);
}

#[test]
fn a_check_that_would_not_count_changes_nothing_either() {
    let scene = scene();
    rules(&scene, &format!("{ALICE_AGE},{BOB_AGE}"));
    let before = both(&scene);
    ran(&scene, &["updatekeys", "--yes", "s.yaml", "--check"])
        .code(8)
        .says("--check must come before the file");
    ran(&scene, &["decrypt", "-i", "s.yaml", "-textconv"])
        .code(8)
        .says("--textconv must come before the file");
    assert_eq!(both(&scene), before);
}

#[test]
fn updatekeys_finds_the_files_of_a_tree() {
    let scene = scene();
    ran(&scene, &["updatekeys", "--all", "--check"]).ok();
    rules(&scene, &format!("{ALICE_AGE},{BOB_AGE}"));
    scene.write("unruled.yaml", scene.read("s.yaml"));
    let before = both(&scene);
    let behind = run(&mut keyless(&scene, &["updatekeys", "--all", "--check"])).code(1);
    assert_eq!(behind.out().matches(&format!("+++ {BOB_AGE}\n")).count(), 2, "{}", behind.out());
    assert!(!behind.stderr.contains("unruled"), "{}", behind.stderr);
    assert_eq!(both(&scene), before);

    let answers = run_with(&mut sops(&scene, &["updatekeys", "--all"]), b"n\n").code(1);
    assert_eq!(both(&scene), before, "no answer for the second file");
    answers.says("left unchanged").says("EOF");

    ran(&scene, &["updatekeys", "--all", "--yes", "deep"]).ok().says("t.yaml synced with new keys");
    assert_eq!(scene.read("s.yaml"), before[0]);
    assert!(scene.read("deep/t.yaml").contains(BOB_AGE));
    let answered = run_with(&mut sops(&scene, &["updatekeys", "--all"]), b"y\n").ok();
    assert_eq!(answered.out().matches("(y/n):").count(), 1, "a file that is up to date is not asked about");
    assert!(scene.read("s.yaml").contains(BOB_AGE));
    let current = ran(&scene, &["updatekeys", "--yes", "--all", "."]).ok();
    assert_eq!((current.out(), current.stderr.as_str()), ("", ""));
}

#[test]
fn one_file_of_a_tree_that_fails_does_not_stop_the_others() {
    let scene = scene();
    scene.write("deep/a.yaml", scene.read("s.yaml").replace("version: ", "version: x"));
    rules(&scene, &format!("{ALICE_AGE},{BOB_AGE}"));
    ran(&scene, &["updatekeys", "--all", "--yes"]).code(1).says("failed updating 1 key(s)");
    assert!(both(&scene).iter().all(|text| text.contains(BOB_AGE)));
    ran(&scene, &["updatekeys", "--all", "--yes", "nope"]).code(100);
    ran(&scene, &["updatekeys", "--all", "--yes", "--input-type", "yaml"]).code(8).says("--input-type");
}

#[test]
fn a_new_plaintext_keeps_the_ciphertexts_of_what_is_the_same() {
    let scene = scene();
    let before = scene.read("s.yaml");
    scene.write("new.yaml", "a: one\nb: changed\n");
    rules(&scene, BOB_AGE);
    assert_eq!(ran(&scene, &["encrypt", "--keep", "--output", "s.yaml", "new.yaml"]).ok().out(), "");
    let after = scene.read("s.yaml");
    assert_eq!(line(&after, "a:"), line(&before, "a:"));
    assert_ne!(line(&after, "b:"), line(&before, "b:"));
    assert!(!after.contains(BOB_AGE), "the recipients are the file's, not the rule's");
    assert_eq!(ran(&scene, &["decrypt", "s.yaml"]).ok().out(), "a: one\nb: changed\n");

    let input = ["encrypt", "--filename-override", "new.json", "--output", "s.yaml", "--keep"];
    run_with(&mut sops(&scene, &input), b"{\"a\": \"one\", \"b\": \"changed\"}").ok();
    assert_eq!(scene.read("s.yaml"), after, "the same content in another layout");
    run_with(&mut sops(&scene, &["encrypt", "--keep", "--output", "s.yaml"]), b"a: one\n").ok();
    assert_eq!(line(&scene.read("s.yaml"), "a:"), line(&before, "a:"));
    assert_eq!(ran(&scene, &["decrypt", "s.yaml"]).ok().out(), "a: one\n");
}

#[test]
fn keep_needs_an_encrypted_file_and_what_it_keeps_cannot_be_chosen() {
    let scene = scene();
    let before = both(&scene);
    scene.write("new.yaml", "a: hunter2\n");
    scene.write("plain.yaml", PLAIN);
    for (args, code, words) in [
        (&["new.yaml"][..], 8, "--output"),
        (&["-i", "s.yaml"], 8, "--in-place"),
        (&["--output", "nope.yaml", "new.yaml"], 100, "non-existent file"),
        (&["--output", "plain.yaml", "new.yaml"], 1, "sops metadata not found"),
        (&["--age", BOB_AGE, "--output", "s.yaml", "new.yaml"], 8, "--age"),
        (&["--encrypted-regex", "^b", "--output", "s.yaml", "new.yaml"], 8, "--encrypted-regex"),
        (&["--output", "s.yaml", "deep/t.yaml"], 203, "already being encrypted"),
    ] {
        let args = [&["encrypt", "--keep"], args].concat();
        ran(&scene, &args).code(code).says(words).silent_on("hunter2");
    }
    run(&mut keyless(&scene, &["encrypt", "--keep", "--output", "s.yaml", "new.yaml"])).code(128);
    assert_eq!(both(&scene), before);
    assert_eq!(scene.read("plain.yaml"), PLAIN);
}

#[test]
fn textconv_prints_the_plaintext_or_the_file_itself() {
    let scene = scene();
    let text = scene.read("s.yaml");
    assert_eq!(ran(&scene, &["decrypt", "--textconv", "s.yaml"]).ok().out(), PLAIN);
    let locked = run(&mut keyless(&scene, &["decrypt", "--textconv", "s.yaml"])).ok();
    assert_eq!((locked.out(), locked.stderr.as_str()), (text.as_str(), ""));
    scene.write("plain.yaml", "a: b\n");
    assert_eq!(ran(&scene, &["decrypt", "--textconv", "plain.yaml"]).ok().out(), "a: b\n");
    scene.write(".sops.yaml", "creation_rules: [\n");
    assert_eq!(ran(&scene, &["decrypt", "--textconv", "s.yaml"]).ok().out(), PLAIN, "broken rules");
    scene.write("odd", &text);
    let odd = ["decrypt", "--textconv", "--input-type", "yaml", "odd"];
    assert_eq!(ran(&scene, &odd).ok().out(), PLAIN);
    let piped =
        run_with(&mut sops(&scene, &["decrypt", "--textconv", "--input-type", "yaml"]), text.as_bytes());
    assert_eq!(piped.ok().out(), PLAIN);
    for more in [&["-i"][..], &["--output", "x"], &["--extract", "[\"a\"]"], &["--output-type", "json"]] {
        ran(&scene, &[&["decrypt", "--textconv"], more, &["s.yaml"]].concat()).code(8);
    }
    ran(&scene, &["decrypt", "--textconv", "nope"]).code(100);
    assert_eq!(scene.read("s.yaml"), text);
}

#[test]
fn filestatus_finds_what_civm_s_own_check_finds() {
    let scene = scene();
    let check = |name: &str| run(&mut keyless(&scene, &["filestatus", "--check", name]));
    let fine = check("s.yaml").ok();
    assert_eq!((fine.out(), fine.stderr.as_str()), ("", ""));
    let damaged = scene.read("s.yaml").replace(line(&scene.read("s.yaml"), "b:"), "b: clear");
    scene.write("s.yaml", damaged);
    scene.write("splain.yaml", PLAIN);
    rules(&scene, &format!("{ALICE_AGE},{BOB_AGE}"));
    for name in ["s.yaml", "splain.yaml"] {
        let ours = run(&mut scene.civm(&["secrets", "check", name])).code(1);
        let found = check(name).code(1).says("help: ");
        assert_eq!(found.out(), ours.out(), "{name}");
        assert!(found.out().starts_with(name), "{}", found.out());
    }
    scene.write("unruled.yaml", scene.read("deep/t.yaml"));
    check("unruled.yaml").ok().says("no rule for unruled.yaml");
    check("nope").code(1).says("cannot check file status");
    check(".").code(1).says("cannot check file status");
    ran(&scene, &["filestatus", "--check", "--input-type", "yaml", "s.yaml"]).code(8);
}

#[test]
fn the_help_tells_which_flags_are_none_of_sops() {
    let scene = scene();
    for (command, flags) in [
        ("updatekeys", &["--check", "--all"][..]),
        ("encrypt", &["--keep"]),
        ("decrypt", &["--textconv"]),
        ("filestatus", &["--check"]),
    ] {
        let help = ran(&scene, &[command, "--help"]).ok();
        let (of_sops, own) = help.out().split_once("\nOPTIONS THAT ONLY CIVM HAS:\n").expect("two lists");
        assert_eq!(own.lines().count(), flags.len(), "{own}");
        for flag in flags {
            let is_told = |text: &str| text.lines().any(|line| line.trim_start().starts_with(flag));
            assert!(is_told(own) && !is_told(of_sops), "{command} {flag}: {}", help.out());
        }
    }
    assert!(!ran(&scene, &["edit", "--help"]).ok().out().contains("ONLY CIVM"));
}

//! civm called as sops: streams, exit codes, and what it does better.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Stdio};

use crate::support::{Ran, Scene, run, run_with};

/// Throw-away identities; they protect nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";
const PLAIN: &str = "a: one\nb: 2\nl:\n    - x\nm:\n    k: v\n";

/// A project with rules, a plaintext `plain.yaml`, its encrypted form `s.yaml`, and a link named sops.
fn scene() -> Scene {
    let scene = Scene::new();
    symlink(assert_cmd::cargo::cargo_bin!("civm"), scene.path("sops")).expect("a link");
    scene.write(".sops.yaml", format!("creation_rules:\n  - age: {ALICE_AGE}\n"));
    scene.write("plain.yaml", PLAIN);
    let text = run(&mut sops(&scene, &["encrypt", "plain.yaml"])).ok();
    scene.write("s.yaml", &text.stdout);
    scene
}

fn sops(scene: &Scene, args: &[&str]) -> Command {
    let mut command = scene.command(scene.path("sops"));
    command.args(args).env("SOPS_AGE_KEY", ALICE);
    command
}

fn ran(scene: &Scene, args: &[&str]) -> Ran {
    run(&mut sops(scene, args))
}

/// What is on stderr, the time taken out.
fn said(ran: &Ran) -> String {
    let mut text = String::new();
    for line in ran.stderr.lines() {
        match line.split_once("time=\"").and_then(|(head, rest)| Some((head, rest.split_once("\" ")?.1))) {
            Some((head, rest)) => text.push_str(&format!("{head}{rest}\n")),
            None => text.push_str(&format!("{line}\n")),
        }
    }
    text
}

#[test]
fn a_copy_of_the_program_and_civm_sops_are_sops_as_well() {
    let scene = scene();
    let by_link = ran(&scene, &["decrypt", "s.yaml"]).ok();
    assert_eq!((by_link.out(), by_link.stderr.as_str()), (PLAIN, ""));
    let copy = scene.path("home/sops");
    // By a program of its own: a descriptor that another test's child inherits would keep it from being run.
    run(scene.command("cp").arg(assert_cmd::cargo::cargo_bin!("civm")).arg(&copy)).ok();
    let by_copy = run(scene.command(&copy).args(["-d", "s.yaml"]).env("SOPS_AGE_KEY", ALICE)).ok();
    assert_eq!(by_copy.out(), PLAIN);
    let by_verb = |args: &[&str]| run(scene.civm(&["sops"]).args(args).env("SOPS_AGE_KEY", ALICE));
    assert_eq!(by_verb(&["decrypt", "--extract", "[\"a\"]", "s.yaml"]).ok().out(), "one");
    assert_eq!(by_verb(&["--version"]).ok().out(), "sops 3.13.3\n");
    assert_eq!(by_verb(&["-v"]).ok().out(), "sops 3.13.3\n");
    assert!(by_verb(&["--help"]).ok().out().contains("\n   sops [options]"));
    assert!(by_verb(&["decrypt", "-h"]).ok().out().contains("--ignore-mac"));
}

#[test]
fn legacy_flags_behind_the_file_are_warned_of_and_ignored() {
    let scene = scene();
    let before = scene.read("s.yaml");
    let ran = ran(&scene, &["-d", "s.yaml", "-i"]).ok();
    assert_eq!(ran.out(), PLAIN);
    assert_eq!(
        said(&ran),
        "[CMD]\t level=warning msg=\"More than one positional argument provided. Only the first one will be \
         used!\"\n[CMD]\t level=warning msg=\"Note that one of the ignored positional argument is \\\"-i\\\", \
         which looks like a flag. Flags must always be provided before the first positional argument!\"\n"
    );
    assert_eq!(scene.read("s.yaml"), before);
}

#[test]
fn a_wrong_flag_is_shown_with_help_and_logged() {
    let scene = scene();
    let ran = ran(&scene, &["decrypt", "--no-such", "s.yaml"]).code(1);
    assert!(ran.out().starts_with("Incorrect Usage: flag provided but not defined: -no-such\n\nNAME:\n"));
    assert_eq!(said(&ran), "[CMD]\t level=fatal msg=\"flag provided but not defined: -no-such\"\n");
}

#[test]
fn guards_have_their_codes() {
    let scene = scene();
    for (args, code, words) in [
        (&[][..], 100, "Error: no file specified\n"),
        (&["encrypt", "nope"], 100, "Error: cannot operate on non-existent file \""),
        (&["encrypt"], 8, "Error: must specify --filename-override when reading from stdin\n"),
        (&["decrypt", "-i"], 8, "Error: cannot use --in-place when reading from stdin\n"),
        (
            &["decrypt", "-i", "--output", "x", "s.yaml"],
            8,
            "Error: cannot operate on both --output and --in-place\n",
        ),
        (&["encrypt", "s.yaml"], 203, "The file you have provided contains a top-level entry called 'sops'"),
        (&["decrypt", "plain.yaml"], 1, "sops metadata not found\n"),
        (&["decrypt", "--extract", "a", "s.yaml"], 91, "error parsing --extract path: "),
        (
            &["decrypt", "--decryption-order", "age,pgp,age", "s.yaml"],
            112,
            "Duplicate decryption key type: age\n",
        ),
        (
            &["rotate", "--rm-age", BOB_AGE, "nope"],
            49,
            "Error: cannot add or remove keys on non-existent file \"",
        ),
        (&["set", "s.yaml", "[\"a\"]", "no json"], 7, "Value for --set is not valid JSON\n"),
        (&["help", "nope"], 3, "No help topic for 'nope'\n"),
    ] {
        let ran = ran(&scene, args).code(code);
        assert!(ran.stderr.starts_with(words), "{args:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn where_sops_panics_there_are_words() {
    let scene = scene();
    let before = scene.read("s.yaml");
    for (args, code) in [
        (&["decrypt", "--extract", "[\"a\"][\"x\"]", "s.yaml"][..], 1),
        (&["decrypt", "--extract", "[\"l\"][\"x\"]", "s.yaml"], 1),
        (&["decrypt", "--extract", "[-1]", "s.yaml"], 91),
        (&["decrypt", "--extract", "[]", "s.yaml"], 91),
        (&["decrypt", "--extract", "[\"", "s.yaml"], 91),
        (&["set", "s.yaml", "[\"l\"][\"x\"]", "1"], 1),
        (&["set", "s.yaml", "", "1"], 1),
        (&["unset", "s.yaml", ""], 1),
        (&["groups", "delete", "-f", "s.yaml", "7"], 1),
    ] {
        let ran = ran(&scene, args).code(code);
        assert_eq!(ran.stderr.lines().count(), 1, "{args:?}: {}", ran.stderr);
        ran.silent_on("panic");
    }
    assert_eq!(scene.read("s.yaml"), before);
}

#[test]
fn what_would_lock_everybody_out_is_not_done() {
    let scene = scene();
    let before = scene.read("s.yaml");
    ran(&scene, &["groups", "delete", "-f", "s.yaml", "-i", "0"]).code(1);
    ran(&scene, &["groups", "add", "-f", "s.yaml", "-i"]).code(1);
    ran(&scene, &["rotate", "-i", "--rm-age", ALICE_AGE, "s.yaml"]).code(1).says("empty key group");
    assert_eq!(scene.read("s.yaml"), before);
    let broken = ran(&scene, &["encrypt", "--encrypted-regex", "(", "plain.yaml"]).code(1);
    assert!(broken.stdout.is_empty(), "plaintext was written for an expression that is none");
}

#[test]
fn other_kinds_of_keys_are_refused_by_name_and_only_where_they_count() {
    let scene = scene();
    for (args, flag) in [
        (&["encrypt", "--pgp", "F00", "plain.yaml"][..], "--pgp"),
        (&["encrypt", "-k", "arn", "plain.yaml"], "--kms"),
        (&["encrypt", "--encryption-context", "a:b", "plain.yaml"], "--encryption-context"),
        (&["rotate", "-i", "--add-gcp-kms", "x", "s.yaml"], "--add-gcp-kms"),
        (&["groups", "add", "-f", "s.yaml", "--age", BOB_AGE, "--azure-kv", "x"], "--azure-kv"),
        (&["-e", "--hckms", "x", "plain.yaml"], "--hckms"),
        (&["decrypt", "--keyservice", "tcp://x", "s.yaml"], "--keyservice tcp://x"),
    ] {
        let ran = ran(&scene, args).code(1).says(flag);
        assert!(ran.stdout.is_empty(), "{args:?}");
    }
    let with_pgp = |args: &[&str]| run(sops(&scene, args).env("SOPS_PGP_FP", "F00"));
    with_pgp(&["encrypt", "plain.yaml"]).code(1).says("SOPS_PGP_FP");
    with_pgp(&["edit", "new.yaml"]).code(1).says("SOPS_PGP_FP");
    assert_eq!(with_pgp(&["-d", "s.yaml"]).ok().out(), PLAIN, "nothing is encrypted");
    ran(&scene, &["publish", "s.yaml"]).code(1).says("not supported");
    ran(&scene, &["keyservice"]).code(1).says("not supported");
}

#[test]
fn plaintext_is_written_for_its_reader_alone() {
    let scene = scene();
    ran(&scene, &["decrypt", "--output", "out.yaml", "s.yaml"]).ok();
    assert_eq!(scene.read("out.yaml"), PLAIN);
    let mode = fs::metadata(scene.file("out.yaml")).expect("the output").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_is_edited_with_the_keys_in_view_is_kept_and_the_keys_are_left() {
    let scene = scene();
    let edit = |script: &str, input: &[u8]| {
        run_with(sops(&scene, &["edit", "-s", "s.yaml"]).env("EDITOR", script), input)
    };
    edit("sed -i s/one/changed/", b"").ok();
    assert_eq!(ran(&scene, &["decrypt", "--extract", "[\"a\"]", "s.yaml"]).ok().out(), "changed");
    let before = scene.read("s.yaml");
    let swapped = edit(&format!("sed -i s/{ALICE_AGE}/{BOB_AGE}/"), b"");
    let swapped = swapped.code(2).says("SOPS metadata is invalid. Press enter to return to the editor");
    assert!(said(&swapped).contains(" error=\""), "{}", swapped.stderr);
    assert_eq!(scene.read("s.yaml"), before);
}

#[test]
fn the_end_of_the_input_is_no_answer() {
    let scene = scene();
    let before = scene.read("s.yaml");
    scene.write("two", format!("creation_rules:\n  - age: {ALICE_AGE},{BOB_AGE}\n"));
    let asked = ran(&scene, &["--config", "two", "updatekeys", "s.yaml"]).code(1);
    assert!(asked.out().ends_with(&format!("+++ {BOB_AGE}\nIs this okay? (y/n):")), "{}", asked.out());
    assert!(asked.stderr.ends_with("\nEOF\n"), "{}", asked.stderr);
    let broken = run(sops(&scene, &["edit", "s.yaml"]).env("EDITOR", "sed -i 's/^a: one/a: [one/'"));
    let broken = broken.code(2).says("Could not load tree, probably due to invalid syntax. Press enter");
    assert!(!broken.stderr.contains("[one"), "{}", broken.stderr);
    assert_eq!(scene.read("s.yaml"), before);
}

#[test]
fn what_was_changed_while_a_question_stood_is_not_undone() {
    let scene = scene();
    scene.write("two", format!("creation_rules:\n  - age: {ALICE_AGE},{BOB_AGE}\n"));
    let mut command = sops(&scene, &["--config", "two", "updatekeys", "s.yaml"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut told = Vec::new();
    let mut byte = [0];
    let stdout = child.stdout.as_mut().expect("piped");
    while !told.ends_with(b"(y/n):") && stdout.read(&mut byte).expect("stdout") > 0 {
        told.push(byte[0]);
    }
    run(&mut sops(&scene, &["set", "s.yaml", "[\"a\"]", "\"theirs\""])).ok();
    child.stdin.take().expect("piped").write_all(b"y\n").expect("an answer");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("changed by another process"));
    assert!(scene.read("s.yaml").contains(BOB_AGE), "the answer was for these recipients");
    let theirs = run(&mut sops(&scene, &["decrypt", "--extract", "[\"a\"]", "s.yaml"])).ok();
    assert_eq!(theirs.out(), "theirs");
}

#[test]
fn one_file_that_fails_does_not_keep_the_others_from_their_new_keys() {
    let scene = scene();
    scene.write("two", format!("creation_rules:\n  - age: {ALICE_AGE},{BOB_AGE}\n"));
    fs::copy(scene.file("s.yaml"), scene.file("t.yaml")).expect("a copy");
    let args = ["--config", "two", "updatekeys", "-y", "s.yaml", "nope.yaml", "t.yaml"];
    let ran = ran(&scene, &args).code(1);
    assert!(ran.stderr.ends_with("failed updating 1 key(s)\n"), "{}", ran.stderr);
    assert!(said(&ran).contains("[CMD]\t level=error msg=\"stat "), "{}", ran.stderr);
    for name in ["s.yaml", "t.yaml"] {
        assert!(scene.read(name).contains(BOB_AGE), "{name}");
    }
}

#[test]
fn rules_are_found_from_here_then_from_the_file() {
    let scene = scene();
    let elsewhere = scene.path("home");
    let mut command = sops(&scene, &["encrypt", "../project/plain.yaml"]);
    let ran_elsewhere = run(command.current_dir(&elsewhere)).ok();
    assert!(ran_elsewhere.out().contains(ALICE_AGE));
    scene.write(".sops.yaml", format!("creation_rules:\n  - path_regex: no$\n    age: {ALICE_AGE}\n"));
    let mut command = sops(&scene, &["encrypt", "../project/plain.yaml"]);
    run(command.current_dir(&elsewhere)).code(1).says("no matching creation rules found");
    let mut command = sops(&scene, &["encrypt", "--age", BOB_AGE, "../project/plain.yaml"]);
    run(command.current_dir(&elsewhere)).ok();
    let mut command = sops(&scene, &["../project/s.yaml"]);
    run(command.current_dir(&elsewhere).env("EDITOR", "true")).code(200);
    fs::rename(scene.file(".sops.yaml"), scene.file(".sops.yml")).expect("renamed");
    let ran = ran(&scene, &["encrypt", "plain.yaml"]).code(1);
    assert_eq!(
        said(&ran),
        "[CMD]\t level=warning msg=\"ignoring \\\".sops.yml\\\" when searching for config file; the config file \
         must be called \\\".sops.yaml\\\"\"\nconfig file not found, or has no creation rules, and no keys \
         provided through command line options\n"
    );
}

#[test]
fn recipients_of_the_environment_are_told_where_they_replace_the_rule_s() {
    let scene = scene();
    let named = run(sops(&scene, &["encrypt", "plain.yaml"]).env("SOPS_AGE_RECIPIENTS", BOB_AGE)).ok();
    assert!(named.out().contains(BOB_AGE) && !named.out().contains(ALICE_AGE));
    named.says("SOPS_AGE_RECIPIENTS is set");
    let same = run(sops(&scene, &["encrypt", "plain.yaml"]).env("SOPS_AGE_RECIPIENTS", ALICE_AGE)).ok();
    assert_eq!(same.stderr, "");
    ran(&scene, &["encrypt", "--age", ALICE, "plain.yaml"]).code(1).silent_on(&ALICE[20..]);
}

#[test]
fn a_comment_that_is_not_encrypted_is_told_and_not_repeated() {
    let scene = scene();
    let text = scene.read("s.yaml").replacen("a: ENC", "# in the clear\na: ENC", 1);
    scene.write("s.yaml", text);
    let ran = ran(&scene, &["decrypt", "--ignore-mac", "s.yaml"]).ok();
    assert_eq!(ran.out(), format!("# in the clear\n{PLAIN}"));
    assert_eq!(
        said(&ran),
        "[SOPS]\t level=warning msg=\"Found possibly unencrypted comment in file. This is to be expected if the \
         file being decrypted was created with an older version of SOPS.\" place=\"the top level of document 1\"\n"
    );
}

#[test]
fn shells_get_scripts_that_ask_the_program() {
    let scene = scene();
    for shell in ["bash", "zsh"] {
        let ran = ran(&scene, &["completion", shell]).ok();
        assert!(ran.out().contains("--generate-bash-completion"), "{shell}");
    }
    assert!(ran(&scene, &["--generate-bash-completion"]).ok().out().lines().any(|line| line == "updatekeys"));
    let script = format!(
        "source <({0} completion bash); COMP_WORDS=({0} groups ''); COMP_CWORD=2; _sops; echo ${{COMPREPLY[@]}}",
        scene.path("sops").display()
    );
    let bash = scene.command("bash").args(["--norc", "-c", &script]).output();
    match bash {
        Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout), "add delete\n"),
        Err(_) => eprintln!("skipped: no bash at hand"),
    }
}

#[test]
fn links_are_made_and_nothing_is_lost() {
    let scene = scene();
    let made = run(&mut scene.civm(&["links", "bin"])).ok();
    assert_eq!(made.out().lines().count(), 3, "{}", made.out());
    assert_eq!(run(scene.command(scene.file("bin/sops")).arg("--version")).ok().out(), "sops 3.13.3\n");
    run_with(&mut scene.command(scene.file("bin/ssh-to-age")), b"").ok();
    run(&mut scene.civm(&["links", "bin"])).ok();
    fs::remove_file(scene.file("bin/sops")).expect("removed");
    fs::remove_file(scene.file("bin/ssh-to-age")).expect("removed");
    scene.write("bin/ssh-to-age", "the real one");
    run(&mut scene.civm(&["links", "bin"])).code(3).says("ssh-to-age").says("--force");
    assert_eq!(scene.read("bin/ssh-to-age"), "the real one");
    assert!(!scene.file("bin/sops").exists(), "none is made where one cannot be");
    run(&mut scene.civm(&["links", "--force", "bin"])).ok();
    assert!(scene.file("bin/ssh-to-age").is_symlink());
}

//! `--input-type`, `--output-type` and `--indent` of `civm secrets`.

use std::process::Command;

use crate::support::{Ran, Scene, run, run_with};

/// Throw-away identities; they protect nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";
const YAML: &str = "NAME: one\nOTHER: two\n";
const JSON: &str = "{\n\t\"NAME\": \"one\",\n\t\"OTHER\": \"two\"\n}\n";
const DOTENV: &str = "NAME=one\nOTHER=two\n";

/// A project with rules, `s.yaml` with two texts, and `odd`, which is YAML and whose name does not say so.
fn scene() -> Scene {
    let scene = Scene::new();
    rules(&scene, ALICE_AGE);
    for (name, args) in [("s.yaml", &["-i", "s.yaml"][..]), ("odd", &["-i", "--input-type", "yaml", "odd"])] {
        scene.write(name, YAML);
        ran(&scene, "encrypt", args).ok();
    }
    assert!(scene.read("odd").starts_with("NAME: ENC["), "{}", scene.read("odd"));
    scene
}

fn rules(scene: &Scene, recipients: &str) {
    scene.write(".sops.yaml", format!("creation_rules:\n  - age: {recipients}\n"));
}

fn secrets(scene: &Scene, verb: &str, args: &[&str]) -> Command {
    let mut command = scene.civm(&["secrets", verb]);
    command.args(args).env("SOPS_AGE_KEY", ALICE);
    command
}

fn ran(scene: &Scene, verb: &str, args: &[&str]) -> Ran {
    run(&mut secrets(scene, verb, args))
}

#[test]
fn a_plaintext_is_printed_in_the_format_that_is_asked_for() {
    let scene = scene();
    for (format, plain) in [("yaml", YAML), ("json", JSON), ("dotenv", DOTENV)] {
        let printed = ran(&scene, "decrypt", &["--output-type", format, "s.yaml"]).ok();
        assert_eq!(printed.out(), plain);
    }
    assert_eq!(ran(&scene, "decrypt", &["--output-type", "ini", "s.yaml"]).code(4).out(), "");
    ran(&scene, "decrypt", &["--output-type", "toml", "s.yaml"]).code(2).says("dotenv");
    let text = scene.read("s.yaml");
    let piped = run_with(&mut secrets(&scene, "decrypt", &["--output-type", "json"]), text.as_bytes()).ok();
    assert_eq!(piped.out(), JSON);
}

#[test]
fn the_ending_of_the_output_chooses_its_format_unless_another_one_is_named() {
    let scene = scene();
    for (output, more, plain) in [
        ("x.json", &[][..], JSON),
        ("x.env", &[], DOTENV),
        ("x.txt", &[], YAML),
        ("y.json", &["--output-type", "yaml"], YAML),
    ] {
        ran(&scene, "decrypt", &[&["--output", output, "s.yaml"], more].concat()).ok();
        assert_eq!(scene.read(output), plain, "{output}");
    }
    scene.write("plain.env", DOTENV);
    ran(&scene, "encrypt", &["--output", "made.json", "plain.env"]).ok();
    assert!(scene.read("made.json").starts_with("{\n\t\"NAME\": \"ENC["), "{}", scene.read("made.json"));
    assert_eq!(ran(&scene, "decrypt", &["made.json"]).ok().out(), JSON);
}

#[test]
fn what_is_one_value_stays_it_whatever_ending_its_plaintext_gets() {
    let scene = scene();
    scene.write("account", JSON);
    ran(&scene, "encrypt", &["-i", "account"]).ok();
    ran(&scene, "decrypt", &["--output", "account.json", "account"]).ok();
    assert_eq!(scene.read("account.json"), JSON);
    scene.write("one.yaml", JSON);
    ran(&scene, "encrypt", &["-i", "--input-type", "binary", "one.yaml"]).ok();
    assert!(scene.read("one.yaml").starts_with("data: ENC["), "{}", scene.read("one.yaml"));
    assert_eq!(ran(&scene, "decrypt", &["--output-type", "binary", "one.yaml"]).ok().out(), JSON);
}

#[test]
fn a_format_that_cannot_hold_the_content_is_refused_and_nothing_is_written() {
    let scene = scene();
    scene.write("deep.yaml", "a:\n    b: hunter2\n");
    ran(&scene, "encrypt", &["-i", "deep.yaml"]).ok();
    let refused = ran(&scene, "decrypt", &["--output", "deep.env", "deep.yaml"]).code(4);
    refused.says("use --output-type yaml to keep its own format").silent_on("hunter2");
    assert!(!scene.file("deep.env").exists());
    scene.write("plain.yaml", "a:\n    b: hunter2\n");
    let refused = ran(&scene, "encrypt", &["--output", "made.env", "plain.yaml"]).code(4);
    refused.says("it cannot be written as dotenv").silent_on("hunter2");
    assert!(!scene.file("made.env").exists());
}

#[test]
fn no_document_is_left_out_where_a_format_has_but_one() {
    let scene = scene();
    scene.write("two.yaml", "a: b\n---\nc: hunter2\n");
    ran(&scene, "encrypt", &["-i", "two.yaml"]).ok();
    let args = ["--output-type", "json", "two.yaml"];
    let refused =
        ran(&scene, "decrypt", &args).code(4).says("json can hold only one document, but there are 2");
    assert_eq!(refused.silent_on("hunter2").out(), "");
    ran(&scene, "exec-file", &[&args[..], &["--", "cat", "{}"]].concat()).code(4).silent_on("hunter2");
    assert_eq!(ran(&scene, "decrypt", &["two.yaml"]).ok().out(), "a: b\n---\nc: hunter2\n");
}

#[test]
fn a_part_of_a_file_is_no_file_of_the_format_that_its_name_says() {
    let scene = scene();
    scene.write("deep.yaml", "port: 5\ndb:\n    user: me\n");
    ran(&scene, "encrypt", &["-i", "deep.yaml"]).ok();
    for (path, plain) in [("[\"port\"]", "5\n"), ("[\"db\"]", "user: me\n")] {
        ran(&scene, "decrypt", &["--extract", path, "--output", "part.env", "deep.yaml"]).ok();
        assert_eq!(scene.read("part.env"), plain, "{path}");
    }
    let told = ["--extract", "[\"db\"]", "--output-type", "json", "deep.yaml"];
    assert_eq!(ran(&scene, "decrypt", &told).ok().out(), "{\n\t\"user\": \"me\"\n}\n");
}

#[test]
fn an_encrypted_file_has_the_format_by_which_it_is_found_again() {
    let scene = scene();
    let named = ["--input-type", "dotenv", "--filename-override", "made.yaml", "--output", "made.yaml"];
    run_with(&mut secrets(&scene, "encrypt", &named), DOTENV.as_bytes()).ok();
    assert_eq!(ran(&scene, "decrypt", &["made.yaml"]).ok().out(), YAML);
    scene.write("plain", DOTENV);
    let as_it_is = ran(&scene, "encrypt", &["--input-type", "dotenv", "plain"]).ok();
    assert!(as_it_is.out().starts_with("NAME=ENC["), "{}", as_it_is.out());
    let told = ran(&scene, "encrypt", &["--input-type", "dotenv", "--output-type", "json", "plain"]).ok();
    assert!(told.out().starts_with("{\n\t\"NAME\": \"ENC["), "{}", told.out());
}

#[test]
fn every_verb_works_on_a_file_whose_name_tells_no_format() {
    let scene = scene();
    let odd =
        |verb: &str, more: &[&str]| ran(&scene, verb, &[&["--input-type", "yaml", "odd"], more].concat());
    ran(&scene, "get", &["--input-type", "json", "odd", "NAME"]).code(2);
    assert_eq!(odd("get", &["NAME"]).ok().out(), "one");
    assert_eq!(odd("get", &["NAME", "--output-type", "json"]).ok().out(), "one");
    assert_eq!(odd("decrypt", &[]).ok().out(), YAML);
    odd("set", &["NAME", "changed"]).ok();
    odd("unset", &["OTHER"]).ok();
    assert_eq!(odd("textconv", &[]).ok().out(), "NAME: changed\n");
    let edited =
        run(secrets(&scene, "edit", &["--input-type", "yaml", "odd"])
            .env("EDITOR", "sed -i s/changed/edited/"));
    edited.ok();
    assert!(odd("status", &[]).ok().out().starts_with("encrypted odd: 1 recipient(s)"));
    rules(&scene, &format!("{ALICE_AGE},{BOB_AGE}"));
    odd("updatekeys", &["--yes"]).ok();
    let before = scene.read("odd");
    odd("rotate", &[]).ok();
    assert!(before.contains(BOB_AGE) && scene.read("odd").contains(BOB_AGE) && before != scene.read("odd"));
    assert_eq!(odd("exec-env", &["--", "sh", "-c", "printf %s \"$NAME\""]).ok().out(), "edited");
    assert_eq!(odd("exec-file", &["--", "cat", "{}"]).ok().out(), "NAME: edited\n");
    let replace = ["odd", "--output-type", "yaml", "--input-type", "dotenv"];
    run_with(&mut secrets(&scene, "replace", &replace), DOTENV.as_bytes()).ok();
    assert_eq!(odd("decrypt", &[]).ok().out(), YAML);
}

#[test]
fn a_command_gets_its_file_in_the_format_that_it_reads() {
    let scene = scene();
    let read = ran(&scene, "exec-file", &["--output-type", "dotenv", "s.yaml", "--", "cat", "{}"]).ok();
    assert_eq!(read.out(), DOTENV);
    scene.write("deep.yaml", "db:\n    user: me\n");
    ran(&scene, "encrypt", &["-i", "deep.yaml"]).ok();
    let part = ran(&scene, "get", &["--output-type", "json", "deep.yaml", "db"]).ok();
    assert_eq!(part.out(), "{\n\t\"user\": \"me\"\n}\n");
}

#[test]
fn a_new_file_of_any_name_starts_from_an_example_of_the_format_that_is_named() {
    let scene = scene();
    let args = ["--input-type", "dotenv", "new"];
    run(secrets(&scene, "edit", &args).env("EDITOR", "sed -i -n '3s/example_value/x/p'")).ok();
    assert!(scene.read("new").starts_with("EXAMPLE_KEY=ENC["), "{}", scene.read("new"));
}

#[test]
fn one_format_is_not_for_all_files_of_a_directory() {
    let scene = scene();
    let before = scene.read("s.yaml");
    ran(&scene, "rotate", &["--input-type", "yaml", "."]).code(8).says("is a directory");
    ran(&scene, "rotate", &["--input-type", "yaml", "--all"]).code(8);
    assert_eq!(scene.read("s.yaml"), before);
}

#[test]
fn the_indent_is_that_of_the_command_line_before_that_of_the_rules() {
    let scene = scene();
    scene.write("deep.yaml", "a:\n    b: c\n");
    let rules = format!("stores:\n  yaml:\n    indent: 3\ncreation_rules:\n  - age: {ALICE_AGE}\n");
    scene.write(".sops.yaml", rules);
    let encrypted = ran(&scene, "encrypt", &["--indent", "2", "deep.yaml"]).ok();
    assert!(encrypted.out().starts_with("a:\n  b: ENC["), "{}", encrypted.out());
    scene.write("e.yaml", &encrypted.stdout);
    assert_eq!(ran(&scene, "decrypt", &["e.yaml"]).ok().out(), "a:\n   b: c\n");
    assert_eq!(ran(&scene, "decrypt", &["--indent", "5", "e.yaml"]).ok().out(), "a:\n     b: c\n");
    let json = ["--indent", "1", "--output-type", "json", "e.yaml"];
    assert_eq!(ran(&scene, "decrypt", &json).ok().out(), "{\n \"a\": {\n  \"b\": \"c\"\n }\n}\n");
    ran(&scene, "decrypt", &["--indent", "-1", "e.yaml"]).code(4);
}

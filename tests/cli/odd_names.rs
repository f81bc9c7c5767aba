//! sops files whose names do not tell their format: found, read and changed by what they hold.

use std::process::Command;

use crate::support::{Ran, Scene, peer, run, run_with};

/// Throw-away identities; they protect nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";

/// Name, format and plaintext of each, in the order of their names.
const FILES: [(&str, &str, &str); 7] = [
    (".env.production", "dotenv", "NAME=one\nOTHER=two\n"),
    ("app.conf", "ini", "NAME  = one\nOTHER = two\n"),
    ("app.json.enc", "json", "{\n\t\"NAME\": \"one\",\n\t\"OTHER\": \"two\"\n}\n"),
    ("key.der", "binary", "one"),
    ("s.yaml.enc", "yaml", "NAME: one\nOTHER: two\n"),
    ("secrets", "yaml", "NAME: one\nOTHER: two\n"),
    ("values.json", "yaml", "NAME: one\nOTHER: two\n"),
];

fn rules(scene: &Scene, recipients: &str) {
    let keys = format!("keys:\n  - &alice {ALICE_AGE}\n  - &bob {BOB_AGE}\n");
    scene.write(".sops.yaml", format!("{keys}creation_rules:\n  - age: [{recipients}]\n"));
}

/// A project with all of them, for alice and bob.
fn scene() -> Scene {
    let scene = Scene::new();
    rules(&scene, "*alice, *bob");
    for (name, format, plain) in FILES {
        scene.write(name, plain);
        civm(&scene, &["encrypt", "-i", "--input-type", format, "--output-type", format, name]).ok();
    }
    scene.write("README.md", format!("Like this:\n\n```yaml\n{}```\n", scene.read("secrets")));
    scene
}

fn command(scene: &Scene, words: &[&str]) -> Command {
    let mut command = scene.civm(&["secrets"]);
    command.args(words).env("SOPS_AGE_KEY", ALICE);
    command
}

fn civm(scene: &Scene, words: &[&str]) -> Ran {
    run(&mut command(scene, words))
}

fn sops(scene: &Scene, words: &[&str]) -> Ran {
    run(scene.civm(&["sops"]).args(words).env("SOPS_AGE_KEY", ALICE))
}

/// The files that a command's lines name.
fn named(ran: &Ran) -> Vec<String> {
    let names = FILES.map(|(name, ..)| name);
    let words = ran.out().lines().flat_map(|line| line.split([' ', ':']));
    words.filter(|word| names.contains(word)).map(str::to_owned).collect()
}

#[test]
fn the_verbs_for_trees_see_them() {
    let scene = scene();
    let all = FILES.map(|(name, ..)| name);
    civm(&scene, &["check"]).ok().says("7 sops files checked: 0 findings");
    assert_eq!(named(&civm(&scene, &["who", "bob"]).ok()), all);
    let before = all.map(|name| scene.read(name));
    civm(&scene, &["rotate", "--all"]).ok().says("7 files: 7 rotated");
    assert!(all.iter().zip(&before).all(|(name, before)| scene.read(name) != *before));
    run(scene.civm(&["keys", "rm", "bob", "--yes"]).env("SOPS_AGE_KEY", ALICE)).ok().says("7 rotated");
    assert!(all.iter().all(|name| !scene.read(name).contains(BOB_AGE)));
    rules(&scene, "*alice, *bob");
    civm(&scene, &["update-all", "--check"]).code(1).says("7 files: 7 behind");
    civm(&scene, &["update-all"]).ok().says("7 files: 7 updated");
    for (name, format, plain) in FILES {
        assert_eq!(civm(&scene, &["decrypt", "--input-type", format, name]).ok().out(), plain, "{name}");
    }
}

#[test]
fn the_verbs_for_single_files_need_no_flag() {
    let scene = scene();
    for (name, format, plain) in FILES {
        assert_eq!(civm(&scene, &["decrypt", name]).ok().out(), plain, "{name}");
        let piped = run_with(&mut command(&scene, &["decrypt", "-"]), scene.read(name).as_bytes()).ok();
        assert_eq!(piped.out(), plain, "{name} on standard input");
        assert!(civm(&scene, &["status", name]).ok().out().starts_with("encrypted"), "{name}");
        assert_eq!(civm(&scene, &["textconv", name]).ok().out(), plain, "{name}");
        assert_eq!(civm(&scene, &["exec-file", name, "--", "cat", "{}"]).ok().out(), plain, "{name}");
        let before = scene.read(name);
        scene.write("copy", &before);
        civm(&scene, &["rotate", name]).ok();
        assert_ne!(scene.read(name), before);
        assert!(civm(&scene, &["diff", "copy", name]).ok().out().contains("the data key"), "{name}");
        if format == "binary" {
            continue;
        }
        let key = if format == "ini" { "DEFAULT/NAME" } else { "NAME" };
        civm(&scene, &["set", name, key, "changed"]).ok();
        assert_eq!(civm(&scene, &["get", name, key]).ok().out(), "changed", "{name}");
        run(command(&scene, &["edit", name]).env("EDITOR", "sed -i s/changed/edited/")).ok();
        civm(&scene, &["unset", name, &key.replace("NAME", "OTHER")]).ok();
        if format != "ini" {
            let env = civm(&scene, &["exec-env", name, "--", "sh", "-c", "printf %s \"$NAME$OTHER\""]).ok();
            assert_eq!(env.out(), "edited", "{name}");
        }
        run_with(&mut command(&scene, &["replace", name]), plain.as_bytes()).ok();
        assert_eq!(civm(&scene, &["decrypt", name]).ok().out(), plain, "{name}");
        rules(&scene, "*alice");
        civm(&scene, &["updatekeys", "--yes", name]).ok();
        assert!(!scene.read(name).contains(BOB_AGE), "{name}");
        rules(&scene, "*alice, *bob");
    }
}

#[test]
fn nobody_encrypts_them_twice() {
    let scene = scene();
    for (name, ..) in FILES {
        let before = scene.read(name);
        civm(&scene, &["encrypt", "-i", name]).code(203).says("already encrypted");
        let piped = ["encrypt", "--filename-override", "other", "-"];
        run_with(&mut command(&scene, &piped), before.as_bytes()).code(203);
        assert_eq!(scene.read(name), before);
    }
    // A rule that names them does not take them for plaintext.
    let rule = "  - path_regex: (enc|conf|secrets|production)$\n    age: [*alice, *bob]\n";
    let text = scene.read(".sops.yaml").replace("creation_rules:\n", &format!("creation_rules:\n{rule}"));
    scene.write(".sops.yaml", text);
    civm(&scene, &["check"]).ok().says("0 findings");
    // Who insists says which format the text is to be taken for.
    civm(&scene, &["encrypt", "--input-type", "binary", "secrets"]).ok();
}

#[test]
fn under_the_name_of_sops_they_are_read_where_sops_has_no_answer() {
    let scene = scene();
    for (name, format, plain) in FILES {
        assert_eq!(sops(&scene, &["decrypt", name]).ok().out(), plain, "{name}");
        assert_eq!(sops(&scene, &["filestatus", name]).ok().out(), "{\"encrypted\":true}\n", "{name}");
        sops(&scene, &["rotate", "-i", name]).ok();
        if format != "binary" && format != "ini" {
            sops(&scene, &["set", name, "[\"NAME\"]", "\"changed\""]).ok();
            assert_eq!(sops(&scene, &["decrypt", "--extract", "[\"NAME\"]", name]).ok().out(), "changed");
            sops(&scene, &["unset", name, "[\"OTHER\"]"]).ok();
        }
        rules(&scene, "*alice");
        sops(&scene, &["updatekeys", "--yes", name]).ok();
        rules(&scene, "*alice, *bob");
        assert_eq!(sops(&scene, &["decrypt", "--input-type", format, "--output-type", format, name]).code, 0);
    }
    // What comes through a pipe is read once.
    let script = "cat key.der | \"$0\" sops exec-file /dev/stdin 'cat {}'";
    let mut piped = scene.command("sh");
    let piped = piped.args(["-c", script]).arg(scene.civm(&[]).get_program()).env("SOPS_AGE_KEY", ALICE);
    assert_eq!(run(piped).ok().out(), "one");
    // There sops has one: the file is encrypted as one value.
    assert!(sops(&scene, &["encrypt", "secrets"]).ok().out().starts_with("{\n\t\"data\": \"ENC["));
}

#[test]
fn sops_reads_what_becomes_of_its_files() {
    let Some(real) = peer("sops") else {
        return eprintln!("skipped: sops is not installed");
    };
    let scene = Scene::new();
    rules(&scene, "*alice, *bob");
    for (name, format, plain) in FILES {
        scene.write(name, plain);
        let types = ["--input-type", format, "--output-type", format];
        let real = |words: &[&str]| {
            run(scene.command(&real).args([words, &types, &[name]].concat()).env("SOPS_AGE_KEY", ALICE))
        };
        real(&["encrypt", "-i"]).ok();
        civm(&scene, &["rotate", name]).ok();
        assert_eq!(real(&["decrypt"]).ok().out(), plain, "{name}");
    }
    civm(&scene, &["check"]).ok().says("7 sops files checked: 0 findings");
}

#[test]
fn standard_input_is_a_dash_and_its_rule_that_of_the_output() {
    let scene = Scene::new();
    scene.write(
        ".sops.yaml",
        format!(
            "creation_rules:\n  - path_regex: ^a/\n    age: {ALICE_AGE}\n  - path_regex: ^b/\n    age: {BOB_AGE}\n"
        ),
    );
    scene.write("a/none", "");
    scene.write("b/none", "");
    let encrypt = |words: &[&str]| run_with(&mut command(&scene, &[&["encrypt"], words].concat()), b"x: y\n");
    encrypt(&["--output", "a/s.yaml", "-"]).ok();
    assert!(scene.read("a/s.yaml").contains(ALICE_AGE) && scene.read("a/s.yaml").starts_with("x: ENC["));
    encrypt(&["--output", "b/s.yaml"]).ok();
    assert!(scene.read("b/s.yaml").contains(BOB_AGE));
    let told = encrypt(&["--filename-override", "b/s.json", "--input-type", "yaml", "-"]).ok();
    assert!(told.out().contains(BOB_AGE) && told.out().starts_with('{'), "{}", told.out());
    encrypt(&["--output", "a/t.yaml", "--filename-override", "b/s.yaml", "-"]).ok();
    assert!(scene.read("a/t.yaml").contains(BOB_AGE));
    encrypt(&["-"]).code(8).says("--output");
    encrypt(&["-i", "-"]).code(8);
    run_with(&mut command(&scene, &["decrypt", "-i", "-"]), b"").code(100);
    run_with(&mut command(&scene, &["replace", "--from", "-", "a/s.yaml"]), b"x: z\n").ok();
    assert_eq!(civm(&scene, &["decrypt", "a/s.yaml"]).ok().out(), "x: z\n");
}

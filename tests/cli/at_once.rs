//! A dozen processes that write one file at the same time: whatever each of them did is there afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};

use crate::support::{Scene, run};

/// A throw-away identity; it protects nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";
/// How many at once.
const MANY: usize = 12;
/// Both names that civm has for its verbs.
const NAMES: [&str; 2] = ["civm", "sops"];

/// A project with an encrypted `s.yaml` that holds `a` and `key0` to `key11`.
fn scene() -> Scene {
    let scene = Scene::new();
    symlink(assert_cmd::cargo::cargo_bin!("civm"), scene.path("sops")).expect("a link");
    rules(&scene, ALICE_AGE);
    let keys: String = (0..MANY).map(|number| format!("key{number}: x\n")).collect();
    scene.write("s.yaml", format!("a: b\n{keys}"));
    run(&mut command(&scene, "civm", &["encrypt", "-i", "s.yaml"])).ok();
    scene
}

fn rules(scene: &Scene, recipients: &str) {
    scene.write(".sops.yaml", format!("creation_rules:\n  - age: {recipients}\n"));
}

/// A verb under one of the names.
fn command(scene: &Scene, name: &str, args: &[&str]) -> Command {
    let mut command = match name {
        "sops" => scene.command(scene.path("sops")),
        _ => scene.civm(&["secrets"]),
    };
    command.args(args).env("SOPS_AGE_KEY", ALICE).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts them all, then waits for them all.
fn all_at_once(commands: impl IntoIterator<Item = Command>) -> Vec<Output> {
    let started: Vec<_> =
        commands.into_iter().map(|mut command| command.spawn().expect("it starts")).collect();
    started.into_iter().map(|child| child.wait_with_output().expect("it ends")).collect()
}

#[track_caller]
fn all_succeed(commands: impl IntoIterator<Item = Command>) {
    for output in all_at_once(commands) {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[track_caller]
fn one_succeeds(commands: impl IntoIterator<Item = Command>, code: i32) {
    let mut codes: Vec<_> =
        all_at_once(commands).into_iter().map(|output| output.status.code().unwrap_or(-1)).collect();
    codes.sort_unstable();
    assert_eq!(codes, [vec![0], vec![code; MANY - 1]].concat());
}

fn plain(scene: &Scene, file: &str) -> String {
    run(&mut command(scene, "civm", &["decrypt", file])).ok().out().to_owned()
}

fn keys(scene: &Scene, file: &str) -> BTreeSet<String> {
    plain(scene, file).lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect()
}

/// Nothing is beside the files that were there.
#[track_caller]
fn nothing_is_left(scene: &Scene) {
    let names: BTreeSet<_> = fs::read_dir(scene.path("project"))
        .expect("listed")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    assert_eq!(names, BTreeSet::from([".sops.yaml".to_owned(), "s.yaml".to_owned()]));
}

fn recipients() -> Vec<String> {
    (0..MANY).map(|_| age::x25519::Identity::generate().to_public().to_string()).collect()
}

#[test]
fn values_that_are_set() {
    for name in NAMES {
        let scene = scene();
        all_succeed((0..MANY).map(|number| match name {
            "civm" => command(&scene, name, &["set", "s.yaml", &format!("new{number}"), "y"]),
            // Half of them in the older form.
            _ if number % 2 == 0 => {
                command(&scene, name, &["set", "s.yaml", &format!("[\"new{number}\"]"), "\"y\""])
            }
            _ => command(&scene, name, &["--set", &format!("[\"new{number}\"] \"y\""), "s.yaml"]),
        }));
        assert_eq!(keys(&scene, "s.yaml").len(), 1 + 2 * MANY, "{name}: {}", plain(&scene, "s.yaml"));
        nothing_is_left(&scene);
    }
}

#[test]
fn values_that_are_removed() {
    for name in NAMES {
        let scene = scene();
        all_succeed((0..MANY).map(|number| {
            let (civm, sops) = (format!("key{number}"), format!("[\"key{number}\"]"));
            command(&scene, name, &["unset", "s.yaml", if name == "civm" { &civm } else { &sops }])
        }));
        assert_eq!(plain(&scene, "s.yaml"), "a: b\n", "{name}");
        nothing_is_left(&scene);
    }
}

#[test]
fn recipients_that_come_with_new_data_keys() {
    for name in NAMES {
        let scene = scene();
        let new = recipients();
        all_succeed(new.iter().map(|recipient| match name {
            "civm" => command(&scene, name, &["rotate", "s.yaml", "--add-age", recipient]),
            _ => command(&scene, name, &["rotate", "-i", "--add-age", recipient, "s.yaml"]),
        }));
        let text = scene.read("s.yaml");
        assert!(new.iter().all(|recipient| text.contains(recipient)), "{name}");
        assert_eq!(keys(&scene, "s.yaml").len(), 1 + MANY);
        nothing_is_left(&scene);
    }
}

#[test]
fn groups_that_are_added_and_removed() {
    for name in NAMES {
        let scene = scene();
        let new = recipients();
        all_succeed(new.iter().map(|recipient| {
            match name {
                "civm" => command(
                    &scene,
                    name,
                    &["groups", "add", "s.yaml", ALICE_AGE, recipient, "--threshold", "2"],
                ),
                _ => command(
                    &scene,
                    name,
                    &[
                        &["groups", "add", "-i", "--file", "s.yaml", "--age", ALICE_AGE, "--age", recipient]
                            [..],
                        &["--shamir-secret-sharing-threshold", "2"],
                    ]
                    .concat(),
                ),
            }
        }));
        let text = scene.read("s.yaml");
        assert!(new.iter().all(|recipient| text.contains(recipient)), "{name}");
        assert_eq!(keys(&scene, "s.yaml").len(), 1 + MANY);
        // Whichever it is when its turn comes: as many go as were to go.
        all_succeed((1..MANY).map(|_| match name {
            "civm" => command(&scene, name, &["groups", "rm", "s.yaml", "1"]),
            _ => command(&scene, name, &["groups", "delete", "-i", "--file", "s.yaml", "1"]),
        }));
        let text = scene.read("s.yaml");
        assert_eq!(new.iter().filter(|recipient| text.contains(*recipient)).count(), 1, "{name}");
        nothing_is_left(&scene);
    }
}

/// Verbs that bring a file in line with the rules, while others set values.
#[test]
fn recipients_of_the_rules_while_values_are_set() {
    let verbs: [(&str, &[&str]); 4] = [
        ("civm", &["updatekeys", "--yes", "s.yaml"]),
        ("civm", &["update-all"]),
        ("sops", &["updatekeys", "-y", "s.yaml"]),
        ("sops", &["updatekeys", "-y", "--all"]),
    ];
    for (name, verb) in verbs {
        let scene = scene();
        rules(&scene, &format!("{ALICE_AGE},{BOB_AGE}"));
        all_succeed((0..MANY).map(|number| match number % 2 {
            0 => command(&scene, name, verb),
            _ => command(&scene, "civm", &["set", "s.yaml", &format!("new{number}"), "y"]),
        }));
        assert!(scene.read("s.yaml").contains(BOB_AGE), "{verb:?}");
        assert_eq!(keys(&scene, "s.yaml").len(), 1 + MANY + MANY / 2, "{verb:?}");
        nothing_is_left(&scene);
    }
}

/// A whole new plaintext replaces the values, and nothing that is not one.
#[test]
fn a_plaintext_that_is_replaced_while_recipients_come() {
    for name in NAMES {
        let scene = scene();
        let new = recipients();
        fs::write(scene.path("plain.yaml"), "a: c\n").expect("written");
        let plaintext = scene.path("plain.yaml").display().to_string();
        all_succeed(new.iter().enumerate().map(|(number, recipient)| match (number % 2, name) {
            (0, "civm") => command(&scene, name, &["replace", "s.yaml", "--from", &plaintext]),
            (0, _) => command(&scene, name, &["encrypt", "--keep", "--output", "s.yaml", &plaintext]),
            _ => command(&scene, "civm", &["rotate", "s.yaml", "--add-age", recipient]),
        }));
        let text = scene.read("s.yaml");
        assert!(new.iter().skip(1).step_by(2).all(|recipient| text.contains(recipient)), "{name}");
        assert_eq!(plain(&scene, "s.yaml"), "a: c\n", "{name}");
    }
}

#[test]
fn one_encrypts_and_one_decrypts_and_the_others_are_told() {
    for name in NAMES {
        let scene = scene();
        let before = plain(&scene, "s.yaml");
        one_succeeds((0..MANY).map(|_| command(&scene, name, &["decrypt", "-i", "s.yaml"])), 1);
        assert_eq!(scene.read("s.yaml"), before, "{name}");
        one_succeeds((0..MANY).map(|_| command(&scene, name, &["encrypt", "-i", "s.yaml"])), 203);
        assert_eq!(plain(&scene, "s.yaml"), before, "{name}");
        nothing_is_left(&scene);
    }
}

#[test]
fn what_was_typed_into_editors_is_in_the_file_or_beside_it() {
    for name in NAMES {
        for file in ["s.yaml", "new.yaml"] {
            let scene = scene();
            let outputs = all_at_once((0..MANY).map(|number| {
                let mut edit = command(&scene, name, &["edit", file]);
                edit.env("EDITOR", "sh -c 'echo \"$KEY: y\" >> \"$0\"'").env("KEY", format!("new{number}"));
                edit
            }));
            for output in outputs {
                let code = output.status.code();
                assert!([Some(0), Some(3)].contains(&code), "{}", String::from_utf8_lossy(&output.stderr));
            }
            let mut found = BTreeSet::new();
            for entry in fs::read_dir(scene.path("project")).expect("listed") {
                let entry = entry.expect("an entry").file_name().into_string().expect("UTF-8");
                if entry != ".sops.yaml" {
                    assert!(!entry.starts_with(".civm"), "{entry} is left");
                    found.extend(keys(&scene, &entry).into_iter().filter(|key| key.starts_with("new")));
                }
            }
            assert_eq!(found.len(), MANY, "{name} {file}: {found:?}");
        }
    }
}

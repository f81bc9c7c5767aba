//! Plaintext that lies in a private directory is gone, however civm ends.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{Scene, run, run_with};

/// The private half of `age1ega644…`, of the recorded cases of ssh-to-age.
const KEY: &str = "AGE-SECRET-KEY-15GGPTFQLRXR469SVV4U6WCP5KTDE89ACUWK3LFYUJVX7NAKX00YSYF8DZL";
const RECIPIENT: &str = "age1ega644j3ux6kqwm8tyvh4hyzfy9e9rsdtn7f8l2mrjtl7k3075vsgx0fws";

/// A scene with an encrypted file, and an editor that notes where the plaintext lies and then runs `script`.
fn scene(script: &str) -> Scene {
    let scene = Scene::new();
    scene.write("plain.yaml", "password: hunter2\n");
    let sealed = run(&mut scene.civm(&["secrets", "encrypt", "--age", RECIPIENT, "plain.yaml"])).ok();
    scene.write("secrets.yaml", &sealed.stdout);
    let editor = scene.write("editor", format!("#!/bin/sh\necho \"$1\" > seen\n{script}\n"));
    fs::set_permissions(editor, fs::Permissions::from_mode(0o755)).expect("set");
    scene
}

/// Edits the file; returns the exit code (-1 for a signal) and where the plaintext lay.
fn edit(scene: &Scene) -> (i32, PathBuf) {
    // Whatever the tests were started with: a shell's background job ignores SIGINT.
    let mut command = scene.command("env");
    command.arg("--default-signal").arg(assert_cmd::cargo::cargo_bin!("civm"));
    command.args(["secrets", "edit", "secrets.yaml"]);
    command.env("SOPS_AGE_KEY", KEY).env("EDITOR", scene.file("editor"));
    let ran = run_with(&mut command, b"");
    let plain = PathBuf::from(scene.read("seen").trim());
    assert!(plain.is_absolute(), "{}", ran.stderr);
    (ran.code, plain)
}

#[track_caller]
fn is_gone(plain: &Path) {
    let directory = plain.parent().expect("a directory");
    assert!(!directory.exists(), "{} is left behind", directory.display());
}

#[test]
fn it_is_private_while_it_is_edited_and_gone_afterwards() {
    let scene = scene(r#"stat -c %a "$(dirname "$1")" "$1" > modes; cat "$1" > text"#);
    let (code, plain) = edit(&scene);
    assert_eq!((code, scene.read("text").as_str()), (200, "password: hunter2\n"));
    assert_eq!(scene.read("modes"), "700\n600\n");
    is_gone(&plain);
}

#[test]
fn a_signal_that_ends_civm_takes_it_away() {
    for signal in ["TERM", "INT", "HUP"] {
        // The editor still runs when civm ends.
        let scene = scene(&format!("kill -{signal} $PPID; sleep 0.5"));
        let (code, plain) = edit(&scene);
        assert_eq!(code, -1, "{signal}");
        is_gone(&plain);
    }
}

#[test]
fn what_a_kill_left_behind_the_next_run_sweeps() {
    let killed = scene("kill -KILL $PPID");
    let (code, plain) = edit(&killed);
    assert_eq!(code, -1);
    let left = plain.parent().expect("a directory").to_owned();
    if !left.starts_with("/dev/shm") && !left.starts_with("/run/user") {
        // On a disk each scene has a place of its own, which no other run looks at.
        return;
    }
    edit(&scene("true"));
    is_gone(&plain);
}

/// In a mount namespace whose places in memory are directories on a disk.
const WITHOUT_MEMORY: &str = r#"
for place in /dev/shm /run/user; do
    if [ -d $place ]; then mount --bind "$1" $place || exit 99; fi
done
exec "$2" secrets edit secrets.yaml"#;

#[test]
fn without_a_place_in_memory_it_lies_on_a_disk_wiped_afterwards_and_civm_says_so() {
    let scene = scene(r#"stat -c %a "$(dirname "$1")" > modes; exec 9< "$1"; (sleep 1; cat <&9 > left) &"#);
    let disk = scene.path("disk");
    fs::create_dir(&disk).expect("made");
    let kind = run(scene.command("stat").args(["-f", "-c", "%T"]).arg(&disk));
    if kind.out().trim() == "tmpfs" {
        return eprintln!("skipped: temporary directories lie in memory here");
    }
    let mut command = scene.command("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", WITHOUT_MEMORY, "sh"]);
    command.arg(&disk).arg(assert_cmd::cargo::cargo_bin!("civm"));
    command.env("SOPS_AGE_KEY", KEY).env("EDITOR", scene.file("editor"));
    let ran = run_with(&mut command, b"");
    if ran.code == 99 || ran.stderr.contains("unshare") {
        return eprintln!("skipped: no mount namespaces for this user: {}", ran.stderr);
    }
    let ran = ran.code(200).says("the plaintext is on disk").says("/dev/shm");
    let plain = PathBuf::from(scene.read("seen").trim());
    assert!(plain.starts_with(scene.path("tmp")), "{}: {}", plain.display(), ran.stderr);
    assert_eq!(scene.read("modes"), "700\n");
    is_gone(&plain);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !scene.file("left").exists() || scene.read("left").is_empty() {
        assert!(Instant::now() < deadline, "nothing was left to look at");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!scene.read("left").contains("hunter2"), "the plaintext is still on the disk");
    assert_eq!(fs::read_dir(&disk).expect("there").count(), 0, "something was left in the other places");
}

#[test]
fn nothing_of_it_can_be_read_any_more_however_the_edit_ends() {
    for ending in
        ["", "exit 3", "echo 'password: other' > \"$1\"", "echo '[' > \"$1\"", "kill -TERM $PPID; sleep 0.3"]
    {
        // Something still has the file open when it goes, as an indexer or a disk has.
        let scene = scene(&format!(
            "(exec 3<\"$1\"; : > opened; while [ -e \"$1\" ]; do sleep 0.02; done; cat <&3 > after; : > read) \
             >/dev/null 2>&1 </dev/null &\nwhile [ ! -e opened ]; do sleep 0.02; done\n{ending}"
        ));
        let (_, plain) = edit(&scene);
        is_gone(&plain);
        let end = Instant::now() + Duration::from_secs(20);
        while !scene.file("read").exists() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        let after = scene.read("after");
        assert!(!after.is_empty() && after.bytes().all(|byte| byte == 0), "{ending}: {after:?}");
    }
}

#[test]
fn an_editor_that_does_not_wait_gets_a_hint() {
    for (name, hint) in [("code", "code --wait"), ("gvim", "gvim -f"), ("my-editor", "returned at once")] {
        let scene = scene("");
        fs::rename(scene.file("editor"), scene.file(name)).expect("renamed");
        for verb in [&["secrets", "edit", "secrets.yaml"][..], &["sops", "edit", "secrets.yaml"]] {
            let mut command = scene.civm(verb);
            command.env("SOPS_AGE_KEY", KEY).env("EDITOR", scene.file(name));
            let ran = run(&mut command).code(200);
            // Under the name of sops only what is sure is said.
            let said = verb[0] == "secrets" || name != "my-editor";
            assert_eq!(ran.stderr.contains(hint), said, "{name} {verb:?}: {}", ran.stderr);
        }
    }
}

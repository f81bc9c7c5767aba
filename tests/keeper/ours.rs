//! What is wrong on the keeper's own machine, and what it leaves there and elsewhere.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::{Signal, kill};

use crate::scene::{Scene, cache, pid, told, wait_until};

pub const ALL: &[(&str, fn())] = &[
    ("a_configuration_that_ssh_rejects", rejected),
    ("a_list_of_revoked_host_keys", revoked),
    ("what_a_cut_push_left_is_removed", cut_push),
    ("keys_of_a_builder_that_nobody_wants_are_removed", no_keys_left),
];

/// A keeper whose user has this in ssh's configuration.
fn configured(text: &str) -> (Scene, PathBuf) {
    let scene = Scene::new();
    scene.put(&scene.builder("big", "plain"));
    let bin = scene.path("ours/bin");
    fs::create_dir(&bin).unwrap();
    fs::write(scene.path("ours/config"), text).unwrap();
    // ssh looks for its user's file where the account has its home.
    let script = format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", scene.path("ours/config").display());
    fs::write(bin.join("ssh"), script).unwrap();
    fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = PathBuf::from(format!("{}:/usr/bin:/bin", bin.display()));
    (scene, path)
}

fn rejected() {
    for (text, said) in [
        ("Host *\n  Colour red\n", "line 2: Bad configuration option: colour"),
        ("Port\n", "line 1: no argument after keyword"),
    ] {
        let (mut scene, path) = configured(text);
        scene.keep_with(&[("PATH", &path)]);
        let reason = scene.until("big", "failed").reason.unwrap();
        assert!(reason.message.starts_with("ssh rejects its own configuration here: "), "{reason}");
        assert!(reason.message.contains(said), "{reason}");
        assert!(reason.hint.unwrap().contains("mend that file"));
        assert_eq!(scene.log().matches("connecting to").count(), 1, "{}", scene.log());
        scene.end();
        scene.nothing_is_left();
    }
    // What it only warns of is not a reason, and no command of the user's has a say about host keys.
    let (mut scene, path) = configured("RSAAuthentication yes\nKnownHostsCommand /bin/false\n");
    scene.keep_with(&[("PATH", &path)]);
    scene.until("big", "ready");
    scene.end();
    scene.nothing_is_left();
}

fn revoked() {
    let (mut scene, path) = configured("RevokedHostKeys /no/such/list\n");
    scene.keep_with(&[("PATH", &path)]);
    let reason = scene.until("big", "failed").reason.unwrap();
    assert!(
        reason.message.contains("is refused here: ") && reason.message.contains("/no/such/list"),
        "{reason}"
    );
    assert!(reason.hint.unwrap().contains("RevokedHostKeys"));
    scene.end();
    let list = scene.path("lender/host_key.pub");
    fs::write(scene.path("ours/config"), format!("RevokedHostKeys {}\n", list.display())).unwrap();
    scene.keep_with(&[("PATH", &path)]);
    let reason = scene.until("big", "failed").reason.unwrap();
    assert!(reason.message.contains("revoked by file"), "{reason}");
    scene.end();
    scene.nothing_is_left();
}

fn cut_push() {
    let scene = Scene::new();
    let mut builder = scene.builder("big", "");
    builder.run_with.clear();
    scene.put(&builder);
    fs::create_dir(scene.path("run")).unwrap();
    symlink(scene.path("parcels"), scene.path("run/parcels")).unwrap();
    let bin = cache().join("civm/bin");
    assert_eq!(scene.run(&["ls", "--remote", "big"]).0, Some(0));
    let hash = "0123456789abcdef".repeat(4);
    // One that is gone, one that still pushes, and what is not ours.
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let names = [
        format!(".{hash}.{}", gone.id()),
        format!(".{hash}.{}", std::process::id()),
        format!(".{hash}"),
        format!(".x.{}", gone.id()),
    ];
    for name in &names {
        fs::write(bin.join(name), "part of it").unwrap();
    }
    assert_eq!(scene.run(&["ls", "--remote", "big"]).0, Some(0));
    let left = names.each_ref().map(|name| bin.join(name).exists());
    for name in &names {
        let _ = fs::remove_file(bin.join(name));
    }
    assert_eq!(left, [false, true, true, true]);
}

/// The copies of keys of a builder's own in the keeper's place.
fn copies(scene: &Scene) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![scene.path("run")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.ends_with("remotes/big") || path.ends_with("for-big") {
                found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn no_keys_left() {
    let mut scene = Scene::new();
    let mut builder = scene.builder("big", "plain");
    builder.key = Some("their_key".into());
    scene.put(&builder);
    fs::copy(scene.path("ours/other"), scene.path("parcels/big/key")).unwrap();
    scene.keep();
    let works = || {
        scene.until("big", "ready");
        assert_eq!(copies(&scene), ["big", "for-big"]);
        let (code, out, err) = told(scene.ssh("big", "echo here").output().unwrap());
        assert_eq!((code, out.as_str()), (Some(0), "here\n"), "{err}");
    };
    works();
    assert_eq!(scene.run(&["down", "big"]).0, Some(0));
    assert_eq!(copies(&scene), [""; 0]);
    // Who wants it again has them again.
    assert_eq!(scene.run(&["up", "big"]).0, Some(0));
    works();
    // One that is made of nothing any more is gone for good.
    fs::remove_dir_all(scene.path("parcels/big")).unwrap();
    kill(pid(scene.keeper.as_ref().unwrap()), Signal::SIGHUP).unwrap();
    wait_until("it is gone", || scene.views().is_empty().then_some(()));
    assert_eq!(copies(&scene), [""; 0]);
    scene.end();
    scene.nothing_is_left();
}

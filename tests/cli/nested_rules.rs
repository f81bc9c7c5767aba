//! A `.sops.yaml` further down governs what lies below it.

use crate::support::{Ran, Scene, run};

/// A throw-away identity and two recipients; they protect nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";

fn rules(scene: &Scene, place: &str, text: &str) {
    let text = text.replace("ALICE", ALICE_AGE).replace("BOB", BOB_AGE);
    scene.write(&format!("{place}.sops.yaml"), text);
}

fn in_directory(scene: &Scene, directory: &str, words: &[&str]) -> Ran {
    run(scene.civm(words).current_dir(scene.file(directory)).env("SOPS_AGE_KEY", ALICE))
}

/// alice at the root, alice and bob in team/, which has files at two depths.
fn scene() -> Scene {
    let scene = Scene::new();
    rules(&scene, "", "keys:\n  - &alice ALICE\n  - &bob BOB\ncreation_rules:\n  - age: [*alice]\n");
    rules(
        &scene,
        "team/",
        "keys:\n  - &lead ALICE\n  - &dev BOB\ncreation_rules:\n  - path_regex: ^(sub/)?[a-z]+\\.yaml$\n    age: [*lead, *dev]\n",
    );
    for name in ["own.yaml", "team/t.yaml", "team/sub/u.yaml"] {
        scene.write(name, "a: b\n");
        let (directory, file) = name.rsplit_once('/').unwrap_or(("", name));
        in_directory(&scene, directory, &["secrets", "encrypt", "-i", file]).ok();
    }
    assert!(scene.read("team/t.yaml").contains(BOB_AGE) && !scene.read("own.yaml").contains(BOB_AGE));
    scene
}

#[test]
fn the_root_takes_nobody_out_of_what_others_govern() {
    let scene = scene();
    let before = scene.read("team/t.yaml");
    for directory in ["", "team", "team/sub"] {
        in_directory(&scene, directory, &["secrets", "check"]).ok().says("0 findings");
        in_directory(&scene, directory, &["secrets", "update-all", "--check"]).ok().says("0 behind");
        in_directory(&scene, directory, &["secrets", "update-all"]).ok().says("0 updated");
    }
    in_directory(&scene, "", &["secrets", "updatekeys", "--yes", "team/t.yaml"]).ok().says("up to date");
    in_directory(&scene, "", &["--project", ".", "secrets", "update-all"]).ok().says("0 updated");
    assert_eq!(scene.read("team/t.yaml"), before);
    in_directory(&scene, "", &["sops", "updatekeys", "--all", "--check"]).ok();
    in_directory(&scene, "", &["sops", "filestatus", "--check", "team/t.yaml"]).ok();
    // A new file gets at once what the check wants of it, wherever one stands.
    scene.write("team/new.yaml", "a: b\n");
    in_directory(&scene, "", &["secrets", "encrypt", "-i", "team/new.yaml"]).ok();
    in_directory(&scene, "", &["secrets", "check"]).ok().says("4 sops files checked: 0 findings");
    // sops itself knows only the rules that it finds from where it is.
    in_directory(&scene, "", &["sops", "updatekeys", "--yes", "team/new.yaml"]).ok();
    assert!(!scene.read("team/new.yaml").contains(BOB_AGE));
    let ran = in_directory(&scene, "", &["secrets", "check"]).code(1);
    assert!(ran.out().contains("its rule has other recipients: +dev"), "{}", ran.out());
    // Named rules are for everything.
    in_directory(&scene, "", &["secrets", "update-all", "--check", "--config", ".sops.yaml"]).code(1);
}

#[test]
fn update_all_does_the_same_from_the_root_and_from_below() {
    for directory in ["", "team"] {
        let scene = scene();
        rules(&scene, "team/", "keys:\n  - &dev BOB\ncreation_rules:\n  - age: ALICE\n");
        let check = in_directory(&scene, directory, &["secrets", "update-all", "--check"]).code(1);
        assert!(check.out().contains("team/t.yaml: -dev\n") || check.out().contains("behind t.yaml: -dev\n"));
        in_directory(&scene, directory, &["secrets", "update-all"]).ok().says("2 updated");
        assert!(["team/t.yaml", "team/sub/u.yaml"].iter().all(|name| !scene.read(name).contains(BOB_AGE)));
    }
}

#[test]
fn a_submodule_has_rules_of_its_own() {
    let scene = scene();
    if !scene.command("git").args(["init", "-q"]).output().is_ok_and(|ran| ran.status.success()) {
        return eprintln!("skipped: git is not installed");
    }
    let other = scene.path("other");
    std::fs::create_dir(&other).expect("a directory");
    let git = |directory: &std::path::Path, args: &[&str]| {
        let mut command = scene.command("git");
        command.current_dir(directory).args(["-c", "user.name=a", "-c", "user.email=a@b"]);
        run(command.args(["-c", "protocol.file.allow=always"]).args(args)).ok();
    };
    git(&other, &["init", "-q"]);
    std::fs::write(other.join(".sops.yaml"), format!("creation_rules:\n  - age: {ALICE_AGE},{BOB_AGE}\n"))
        .expect("rules");
    std::fs::write(other.join("s.yaml"), "a: b\n").expect("a file");
    run(scene.civm(&["secrets", "encrypt", "-i", "s.yaml"]).current_dir(&other)).ok();
    git(&other, &["add", "-A"]);
    git(&other, &["commit", "-qm", "one"]);
    git(&scene.path("project"), &["submodule", "--quiet", "add", "../other", "sub"]);
    in_directory(&scene, "", &["secrets", "check"]).ok().says("4 sops files checked: 0 findings");
    in_directory(&scene, "", &["secrets", "update-all"]).ok().says("0 updated, 4 current");
    assert!(scene.read("sub/s.yaml").contains(BOB_AGE));
}

#[test]
fn names_are_those_of_the_rules_that_govern_a_file() {
    let scene = scene();
    let who = in_directory(&scene, "", &["secrets", "who"]).ok();
    assert_eq!(who.out(), "own.yaml         alice\nteam/sub/u.yaml  lead dev\nteam/t.yaml      lead dev\n");
    for word in ["dev", "bob", BOB_AGE] {
        let who = in_directory(&scene, "", &["secrets", "who", word]).ok();
        assert_eq!(who.out(), "team/sub/u.yaml\nteam/t.yaml\n", "{word}");
    }
}

#[test]
fn a_removed_key_is_taken_out_of_the_files_that_its_rules_govern() {
    let scene = scene();
    rules(&scene, "", "keys:\n  - &alice ALICE\n  - &bob BOB\ncreation_rules:\n  - age: [*alice, *bob]\n");
    in_directory(&scene, "", &["secrets", "update-all"]).ok().says("1 updated");
    let ran = in_directory(&scene, "", &["keys", "rm", "bob", "--yes"]).ok();
    assert_eq!(ran.out(), "rotated own.yaml\n");
    ran.says("team/.sops.yaml` still lists it, so 2 file(s)");
    assert!(!scene.read("own.yaml").contains(BOB_AGE) && scene.read("team/t.yaml").contains(BOB_AGE));
    in_directory(&scene, "team", &["keys", "rm", "dev", "--yes"]).ok().says("2 rotated");
    assert!(!scene.read("team/t.yaml").contains(BOB_AGE));
}

#[test]
fn staged_rules_govern_what_is_staged_below_them() {
    let scene = scene();
    let git = |args: &[&str]| scene.git(args);
    if !git(&["init", "-q"]) {
        return eprintln!("skipped: git is not installed");
    }
    assert!(git(&["add", "-A"]));
    in_directory(&scene, "", &["secrets", "check", "--staged"]).ok().says("3 sops files checked: 0 findings");
    assert!(git(&["commit", "-qm", "one"]));
    // Rules that change below put files behind there, though these are not staged.
    rules(&scene, "team/", "creation_rules:\n  - age: ALICE\n");
    in_directory(&scene, "", &["secrets", "check", "--staged"]).ok();
    assert!(git(&["add", "-A"]));
    std::fs::remove_file(scene.file("team/.sops.yaml")).expect("removed");
    let ran = in_directory(&scene, "", &["secrets", "check", "--staged"]).code(1);
    assert_eq!(ran.out().lines().count(), 2, "{}", ran.out());
    assert!(ran.out().lines().all(|line| line.starts_with("team/")), "{}", ran.out());
}

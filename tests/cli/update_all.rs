//! Which files `civm secrets update-all` looks at.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use crate::support::{Ran, Scene, run};

/// A throw-away identity and two recipients; they protect nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";

/// A project with these sops files, which are all behind the rules: bob is to be added.
fn behind(names: &[&str]) -> Scene {
    let scene = Scene::new();
    rules(&scene, ALICE_AGE);
    for name in names {
        scene.write(name, "a: b\n");
        run(&mut scene.civm(&["secrets", "encrypt", "-i", name])).ok();
    }
    rules(&scene, &format!("{ALICE_AGE},{BOB_AGE}"));
    scene
}

fn rules(scene: &Scene, recipients: &str) {
    scene.write(
        ".sops.yaml",
        format!("creation_rules:\n  - path_regex: ^([a-z]+|hosts/.*)\\.yaml$\n    age: {recipients}\n"),
    );
}

fn check(scene: &Scene, paths: &[&str]) -> Ran {
    let mut words = vec!["secrets", "update-all", "--check"];
    words.extend(paths);
    run(&mut scene.civm(&words))
}

/// The files that a check calls behind.
fn found(scene: &Scene, paths: &[&str]) -> Vec<String> {
    let ran = check(scene, paths).code(1);
    ran.out()
        .lines()
        .map(|line| {
            line.strip_prefix("behind ").and_then(|line| line.split_once(':')).expect(line).0.to_owned()
        })
        .collect()
}

/// Runs git in the project; false where it is not installed.
fn git(scene: &Scene, args: &[&str]) -> bool {
    match scene.command("git").args(args).output() {
        Ok(ran) => {
            assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
            true
        }
        Err(_) => false,
    }
}

#[test]
fn what_cannot_be_read_fails_and_the_others_go_on() {
    let scene = behind(&["a.yaml", "b.yaml", "hosts/c.yaml", "z.yaml"]);
    let set =
        |name: &str, mode| fs::set_permissions(scene.file(name), fs::Permissions::from_mode(mode)).unwrap();
    let root = fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    let civm = scene.civm(&[]);
    let mut command = if root {
        // To root nothing is closed: somebody else has to look.
        let mut command = scene.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(civm.get_program());
        if !command.arg("--version").output().is_ok_and(|ran| ran.status.success()) {
            eprintln!("skipped: nobody but root can run civm here");
            return;
        }
        fs::set_permissions(scene.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["a.yaml", "z.yaml"] {
            set(name, 0o644);
        }
        let mut command = scene.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(civm.get_program());
        command
    } else {
        civm
    };
    set("b.yaml", 0o000);
    set("hosts", 0o000);
    let ran = run(command.args(["secrets", "update-all", "--check"]));
    set("hosts", 0o755);
    let ran = ran.code(1).says("b.yaml").says("hosts`").says("4 files: 2 behind, 0 current, 2 failed");
    assert_eq!(ran.out(), format!("behind a.yaml: +{BOB_AGE}\nbehind z.yaml: +{BOB_AGE}\n"));
}

#[test]
fn rules_that_are_not_the_projects_hide_nothing() {
    let scene = behind(&["a.yaml", "b.yaml"]);
    if !git(&scene, &["init", "-q"]) {
        fs::create_dir(scene.file(".git")).unwrap();
    }
    fs::write(scene.path(".gitignore"), "*\n").unwrap();
    fs::write(scene.path("home/ignored"), "*\n").unwrap();
    let config = format!("[core]\n\texcludesFile = {}\n", scene.path("home/ignored").display());
    fs::write(scene.path("home/.gitconfig"), config).unwrap();
    scene.write(".ignore", "*\n");
    assert_eq!(found(&scene, &[]), ["a.yaml", "b.yaml"]);
    fs::create_dir_all(scene.file(".git/info")).unwrap();
    scene.write(".git/info/exclude", "/b.yaml\n");
    assert_eq!(found(&scene, &[]), ["a.yaml"]);
}

#[test]
fn a_tracked_file_is_never_passed_over() {
    let scene = behind(&["a.yaml", "b.yaml", "hosts/c.yaml"]);
    scene.write(".gitignore", "*.yaml\n/hosts\n");
    if !git(&scene, &["init", "-q"]) {
        eprintln!("skipped: git is not installed");
        return;
    }
    check(&scene, &[]).ok().says("0 files");
    git(&scene, &["add", "-f", "b.yaml", "hosts/c.yaml"]);
    assert_eq!(found(&scene, &[]), ["b.yaml", "hosts/c.yaml"]);
    let mut hook = scene.civm(&["secrets", "update-all", "--check"]);
    let ran = run(hook.env("GIT_INDEX_FILE", scene.path("none")).env("GIT_DIR", scene.path("none"))).code(1);
    assert_eq!(ran.out().lines().count(), 2, "a hook's variables lead nowhere else: {}", ran.out());
}

#[test]
fn text_about_sops_files_is_none() {
    let scene = behind(&["a.yaml"]);
    let text = scene.read("a.yaml");
    scene.write("README.md", format!("```yaml\n{text}```\n"));
    scene.write("tests/it.rs", format!("const TEXT: &str = r#\"\n{text}\"#;\n"));
    assert_eq!(found(&scene, &[]), ["a.yaml"]);
    check(&scene, &[]).says("1 files: 1 behind, 0 current, 0 failed");
}

#[test]
fn a_file_is_looked_at_once_however_it_is_named() {
    let scene = behind(&["a.yaml", "hosts/c.yaml"]);
    symlink("hosts", scene.file("hl")).unwrap();
    symlink("hosts/c.yaml", scene.file("link.yaml")).unwrap();
    assert_eq!(check(&scene, &["hl"]).code(1).out().lines().count(), 1);
    let ran = check(&scene, &["link.yaml", "hosts/c.yaml", "./hosts/c.yaml", "hl", "hosts"]).code(1);
    ran.says("1 files: 1 behind, 0 current, 0 failed");
    assert_eq!(found(&scene, &["link.yaml", "hl"]), ["hosts/c.yaml"], "shown as what it is");
    run(scene.civm(&["secrets", "update-all", "link.yaml"]).env("SOPS_AGE_KEY", ALICE)).ok();
    assert!(fs::symlink_metadata(scene.file("link.yaml")).unwrap().is_symlink(), "a link stays one");
    assert!(scene.read("hosts/c.yaml").contains(BOB_AGE));
    check(&scene, &["hosts"]).ok().says("1 files: 0 behind, 1 current");
}

#[test]
fn rules_named_through_a_link_match_the_files_beside_them() {
    let scene = behind(&["a.yaml", "hosts/c.yaml"]);
    symlink(scene.path("project"), scene.path("link")).unwrap();
    let rules = scene.path("link/.sops.yaml").display().to_string();
    let ran = run(&mut scene.civm(&["secrets", "update-all", "--config", &rules, "--check"])).code(1);
    ran.says("2 files: 2 behind, 0 current, 0 failed");
}

#[test]
fn the_rules_of_this_project_match_its_files() {
    let root = env!("CARGO_MANIFEST_DIR");
    let scene = Scene::new();
    let mut command: Command = scene.civm(&["secrets", "update-all", "--check", "--json"]);
    let ran = run(command.current_dir(root));
    let ran = ran.ok();
    let json: serde_json::Value = serde_json::from_str(ran.out()).expect("JSON");
    let paths: Vec<_> =
        json["files"].as_array().expect("files").iter().map(|one| one["path"].to_string()).collect();
    assert!(paths.iter().any(|path| path.contains("jenkins-controller")), "{paths:?}");
    for ending in [".md\"", ".rs\""] {
        assert!(!paths.iter().any(|path| path.ends_with(ending)), "{paths:?}");
    }
    let mut command: Command = scene.civm(&["secrets", "check"]);
    run(command.current_dir(root)).ok().says("1 sops file checked").says("0 findings");
}

#[test]
fn files_without_a_rule_fail_only_where_somebody_asks_for_them() {
    let scene = behind(&["a.yaml"]);
    rules(&scene, ALICE_AGE);
    scene.write("tests/input/broken.yaml", scene.read("a.yaml").replace("version", "versions"));
    scene.write("tests/input/good.yaml", scene.read("a.yaml"));
    let ran = check(&scene, &[])
        .ok()
        .says("no rule matches tests/input/good.yaml")
        .says("no rule matches tests/input/broken.yaml");
    ran.says("3 files: 0 behind, 1 current, 0 failed, 2 without a rule");
    check(&scene, &["tests"]).ok().says("2 without a rule");
    check(&scene, &["tests/input/good.yaml"]).code(1).says("no creation rule").says("1 failed");
    check(&scene, &["--strict"]).code(1).says("0 behind, 1 current, 2 failed");
    let json = check(&scene, &["--json"]).ok();
    let json: serde_json::Value = serde_json::from_str(json.out()).expect("JSON");
    let states: Vec<_> = json["files"].as_array().expect("files").iter().map(|file| &file["state"]).collect();
    assert_eq!(states, ["current", "no-rule", "no-rule"]);
}

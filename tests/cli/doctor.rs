//! `civm doctor`: what it finds on this machine and in a project, and what `--fix` repairs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Ran, Scene, peer, run};

/// Runs it for a script; the report.
fn report(scene: &Scene, args: &[&str]) -> (Ran, Value) {
    let args: Vec<&str> = ["doctor", "--json"].iter().chain(args).copied().collect();
    let ran = run(&mut scene.civm(&args));
    let report = serde_json::from_str(ran.out()).unwrap_or_else(|error| panic!("{error}: {}", ran.out()));
    (ran, report)
}

/// State and message of everything that it says about an area.
fn about(report: &Value, area: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let checks = report["checks"].as_array().expect("checks").iter().filter(|check| check["area"] == area);
    checks.map(|check| (text(&check["state"]), text(&check["message"]))).collect()
}

fn counts(report: &Value) -> [usize; 2] {
    let checks = report["checks"].as_array().expect("checks");
    ["problem", "warning"].map(|state| checks.iter().filter(|check| check["state"] == state).count())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn directories_that_cannot_be_written_are_told() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("home/.local")).unwrap();
    for name in ["home/.local/state", "home/.cache"] {
        fs::write(scene.path(name), "no directory").unwrap();
    }
    let (ran, found) = report(&scene, &["--fix"]);
    assert_eq!(ran.code, 1);
    for (area, name) in [("state", "home/.local/state"), ("images", "home/.cache")] {
        let message = format!("cannot write in {}: not a directory", scene.path(name).display());
        assert!(about(&found, area).contains(&("problem".into(), message)), "{found:#}");
    }
    // Where nothing is made yet, nothing is left by the look either.
    let scene = Scene::new();
    let (_, found) = report(&scene, &[]);
    assert_eq!(about(&found, "state")[0].0, "ok");
    assert!(!scene.path("home/.local").exists());
}

#[test]
fn a_script_gets_every_check_with_its_state_and_the_exit_code_says_whether_there_is_a_problem() {
    let scene = Scene::new();
    let (ran, found) = report(&scene, &[]);
    for check in found["checks"].as_array().unwrap() {
        let state = check["state"].as_str().unwrap();
        assert!(["ok", "warning", "problem"].contains(&state), "{check}");
        assert_eq!(check["remedy"].is_null(), state == "ok", "{check}");
    }
    let [problems, warnings] = counts(&found);
    assert_eq!(
        (found["problems"].as_u64(), found["warnings"].as_u64()),
        (Some(problems as u64), Some(warnings as u64))
    );
    assert_eq!(ran.code, i32::from(problems > 0), "{found:#}");
    for area in ["kvm", "qemu", "namespaces", "ssh", "images", "disk space", "leftovers", "project"] {
        // Without a state directory nothing can be left in it.
        assert!(!about(&found, area).is_empty() || area == "leftovers", "{area}: {found:#}");
    }
    assert!(about(&found, "project")[0].1.starts_with("none"));
    assert!(!scene.path("home/.local/state/civm").exists(), "nothing is made unless asked");
    let [(state, kvm)] = about(&found, "kvm").try_into().unwrap();
    // Where KVM does not work that is not a problem: machines get TCG, and that is said.
    assert!(
        state == "ok" || (state == "warning" && (kvm.contains("TCG") || kvm.contains("no QEMU"))),
        "{kvm}"
    );
}

#[test]
fn a_qemu_that_does_not_start_is_a_problem_with_a_remedy() {
    let scene = Scene::new();
    let bin = scene.path("bin");
    fs::create_dir(&bin).unwrap();
    let (_, found) = report_with_path(&scene, &bin);
    let qemu = |found: &Value| about(found, "qemu");
    assert!(qemu(&found)[0].1.contains("is not in PATH"), "{found:#}");
    assert!(about(&found, "ssh")[0].1.contains("`ssh` is not in PATH"));
    let program = bin.join(format!("qemu-system-{}", std::env::consts::ARCH));
    fs::write(&program, "#!/bin/sh\necho 'name \"virtio-blk-pci\", bus PCI'\n").unwrap();
    set_mode(&program, 0o755);
    let (ran, found) = report_with_path(&scene, &bin);
    let (state, message) = qemu(&found).remove(0);
    assert!(
        state == "problem" && message.contains("has no ") && message.contains("virtio-9p-pci"),
        "{message}"
    );
    assert!(!message.contains("virtio-blk-pci"), "{message}");
    assert_eq!(ran.code, 1);
}

#[test]
fn a_kvm_on_which_nothing_runs_is_told_soon() {
    let scene = Scene::new();
    let bin = scene.path("bin");
    fs::create_dir(&bin).unwrap();
    if std::env::consts::ARCH != "x86_64"
        || fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err()
    {
        return eprintln!("skipped: there is no /dev/kvm that this user may open");
    }
    // What runs on such a KVM never gets to print anything.
    let program = bin.join("qemu-system-x86_64");
    fs::write(&program, "#!/bin/sh\n[ \"$2\" = help ] || exec /bin/sleep 100\n").unwrap();
    set_mode(&program, 0o755);
    let begun = std::time::Instant::now();
    let (_, found) = report_with_path(&scene, &bin);
    let (state, message) = about(&found, "kvm").remove(0);
    assert!(
        state == "warning" && message.contains("hangs or crawls") && message.contains("TCG"),
        "{message}"
    );
    assert!(begun.elapsed().as_secs() < 50, "the program was not waited for");
    let kept = fs::read_to_string(scene.path("home/.cache/civm/accel.json")).unwrap();
    assert!(kept.contains("hangs or crawls") && kept.contains("\"works\": false"), "{kept}");
}

fn report_with_path(scene: &Scene, path: &Path) -> (Ran, Value) {
    let ran = run(scene.civm(&["doctor", "--json"]).env("PATH", path));
    let report = serde_json::from_str(ran.out()).unwrap();
    (ran, report)
}

#[test]
fn a_fix_makes_private_what_others_could_read_and_removes_what_a_kill_left() {
    let scene = Scene::new();
    scene.write("hosts/x/host.yaml", "");
    let state = scene.path("home/.local/state/civm");
    let (_, found) = report(&scene, &["--fix"]);
    assert_eq!(mode(&state), 0o700);
    assert!(found["fixed"][0].as_str().unwrap().starts_with("created "), "{found:#}");

    set_mode(&state, 0o755);
    let keys = scene.path("home/.config/sops/age/keys.txt");
    fs::create_dir_all(keys.parent().unwrap()).unwrap();
    // A new identity, which opens nothing.
    let identity = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX\n";
    fs::write(&keys, identity).unwrap();
    set_mode(&keys, 0o644);
    let partial = scene.write(".x.qcow2.abc.partial.qcow2", "half a disk");
    let build = scene.path("home/.cache/civm/images/.building-0f-dead");
    fs::create_dir_all(&build).unwrap();
    fs::write(build.join("disk"), vec![7; 9000]).unwrap();
    let dead = state.join("project-0/x");
    fs::create_dir_all(&dead).unwrap();
    let runtime = dead.join("run");
    fs::create_dir(&runtime).unwrap();
    let record = serde_json::json!({
        "version": 2, "project": scene.path("project"), "host": "x", "phase": "ready", "started_at": 1, "accel": "tcg",
        "cpus": 1, "memory_mib": 256, "disk": null, "ephemeral": false, "forwards": [], "runtime": runtime,
        "namespaces": true, "key_removed": true, "reason": null
    });
    fs::write(dead.join("instance.json"), record.to_string()).unwrap();
    fs::write(dead.join("ssh_host_ed25519_key"), "its identity").unwrap();
    let strange = state.join("project-0/newer");
    fs::create_dir_all(&strange).unwrap();
    let newer = r#"{"version": 99, "phase": "ready"}"#;
    fs::write(strange.join("instance.json"), newer).unwrap();

    let (ran, found) = report(&scene, &[]);
    assert_eq!(ran.code, 1, "private files that others read are a problem");
    assert!(about(&found, "state")[0].1.contains("mode 0755"), "{found:#}");
    assert!(
        about(&found, "identities")
            .iter()
            .any(|(state, words)| state == "problem" && words.contains("keys.txt"))
    );
    assert_eq!(about(&found, "leftovers").len(), 3, "{found:#}");
    assert!(about(&found, "instances").iter().any(|(_, words)| words.contains("a newer civm wrote it")));
    assert!(partial.exists() && build.exists() && runtime.exists(), "without --fix nothing is removed");
    assert!(!ran.stderr.contains("AGE-SECRET") && !ran.out().contains("AGE-SECRET"));

    let (_, found) = report(&scene, &["--fix"]);
    assert_eq!((mode(&state), mode(&keys)), (0o700, 0o600));
    assert!(!partial.exists() && !build.exists() && !runtime.exists(), "{found:#}");
    assert_eq!(found["fixed"].as_array().unwrap().len(), 5, "{found:#}");
    assert_eq!(fs::read_to_string(dead.join("ssh_host_ed25519_key")).unwrap(), "its identity");
    assert_eq!(fs::read_to_string(strange.join("instance.json")).unwrap(), newer);
    assert_eq!(about(&report(&scene, &["--fix"]).1, "leftovers"), [("ok".to_owned(), "none".to_owned())]);
}

#[test]
fn rules_identities_and_locked_files_are_told() {
    let Some(keygen) = peer("ssh-keygen") else { return eprintln!("skipped: no ssh-keygen") };
    let scene = Scene::new();
    fs::create_dir(scene.path("home/.ssh")).unwrap();
    let key = scene.path("home/.ssh/id_ed25519");
    run(Command::new(keygen).args(["-q", "-t", "ed25519", "-N", "", "-C", "me", "-f"]).arg(&key)).ok();
    run(&mut scene.civm(&["init"])).ok();
    run(&mut scene.civm(&["keys", "new-host", "web"])).ok();
    let (_, found) = report(&scene, &[]);
    let identities = about(&found, "identities");
    assert!(
        identities.iter().any(|(state, words)| state == "ok" && words.ends_with("opens 1 of 1 files")),
        "{found:#}"
    );
    assert!(about(&found, "secrets").is_empty(), "{found:#}");

    // A rule that no file comes under, and a key that sops does not know.
    let rules = scene.read(".sops.yaml");
    let (head, rest) = rules.split_once("creation_rules:\n").unwrap();
    let indent = &rest[..rest.find('-').unwrap()];
    let unused = format!("{indent}- path_regex: ^nowhere/\n{indent}  agee: x\n{indent}  age: age1\n");
    let more = format!("{head}creation_rules:\n{unused}{rest}");
    assert_ne!(more, rules);
    scene.write(".sops.yaml", &more);
    let (_, found) = report(&scene, &[]);
    let of_rules = about(&found, "rules");
    assert!(
        of_rules.iter().any(|(_, words)| words.contains("no file comes under the rule `^nowhere/`")),
        "{found:#}"
    );
    assert!(of_rules.iter().any(|(_, words)| words.contains("agee")), "{found:#}");

    // Rules that cannot be parsed: a problem, and the rest is looked at all the same.
    scene.write(".sops.yaml", "creation_rules: [\n");
    let (ran, found) = report(&scene, &[]);
    assert!(about(&found, "rules").iter().any(|(state, _)| state == "problem"), "{found:#}");
    assert!(ran.code == 1 && !about(&found, "hosts").is_empty());

    scene.write(".sops.yaml", &rules);
    fs::remove_file(&key).unwrap();
    fs::remove_file(key.with_extension("pub")).unwrap();
    let (_, found) = report(&scene, &[]);
    assert!(
        about(&found, "secrets")[0].1.contains("no identity here opens hosts/web/secrets.yaml"),
        "{found:#}"
    );
    scene.write("hosts/bad/host.yaml", "cpuss: 1\n");
    let (ran, found) = report(&scene, &[]);
    assert!(
        ran.code == 1
            && about(&found, "hosts")
                .iter()
                .any(|(state, words)| state == "problem" && words.contains("cpuss"))
    );
}

#[test]
fn a_port_that_is_taken_is_named_with_its_holder() {
    let scene = Scene::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    scene.write("hosts/x/host.yaml", format!("forwards:\n  web: {port}:80\n"));
    let (_, found) = report(&scene, &[]);
    let (state, words) = about(&found, "ports").remove(0);
    assert_eq!(state, "warning");
    assert!(words.contains(&format!("process {}", std::process::id())), "{words}");
}

#[test]
fn people_get_a_line_each_and_the_remedy_below_it() {
    let scene = Scene::new();
    scene.write("hosts/x/host.yaml", "memory: 900G\n");
    let ran = run(&mut scene.civm(&["doctor"]));
    let lines: Vec<&str> = ran.out().lines().collect();
    let at = lines.iter().position(|line| line.contains("`x` asks for 921600 MiB of memory")).unwrap();
    assert!(lines[at].starts_with("warning  memory "), "{}", lines[at]);
    assert!(lines[at + 1].trim_start().starts_with("help: "), "{}", lines[at + 1]);
    run(&mut scene.civm(&["doctor", "--project", "/nonexistent"])).says("/nonexistent");
}

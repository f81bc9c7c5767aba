//! Names of instances, and the verbs on instances that are not running. None of this needs QEMU or an image.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Ran, Scene, run};

/// Unavailable machines, and input that cannot be read (README, exit codes).
const MACHINE: i32 = 69;
const INPUT: i32 = 2;
const USAGE: i32 = 2;

fn scene() -> Scene {
    let scene = Scene::new();
    scene.write("hosts/builder/host.yaml", "forwards: {ssh: '2322:22', web: '8080:80'}\ncpus: 3\n");
    scene.write("hosts/other/host.yaml", "");
    scene
}

fn civm(scene: &Scene, args: &[&str]) -> Ran {
    run(&mut scene.civm(args))
}

/// The directory of state of an instance, made if need be.
fn state(scene: &Scene, name: &str) -> PathBuf {
    civm(scene, &["up", "builder", "--dry-run"]).ok();
    let home = scene.path("home/.local/state/civm");
    let project = fs::read_dir(home).unwrap().next().unwrap().unwrap().path();
    let place = project.join(name);
    fs::create_dir_all(&place).unwrap();
    place
}

/// Leaves the record of an instance that has ended.
fn ended(scene: &Scene, name: &str, host: &str) -> PathBuf {
    let place = state(scene, name);
    let project = scene.path("project").canonicalize().unwrap();
    let record = json!({
        "version": 3, "project": project, "name": name, "host": host, "phase": "ended", "started_at": 1,
        "accel": "tcg", "cpus": 1, "memory_mib": 512, "disk": null, "ephemeral": false,
        "forwards": [{"address": "127.0.0.1", "host_port": 40022, "guest_port": 22}],
        "runtime": null, "namespaces": true, "key_removed": true, "reason": "the guest powered off",
    });
    fs::write(place.join("instance.json"), record.to_string()).unwrap();
    place
}

fn row(ran: &Ran, name: &str) -> String {
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    line.strip_prefix(name).unwrap_or_default().trim().to_owned()
}

#[test]
fn an_instance_of_another_name_has_a_disk_and_ports_of_its_own() {
    let scene = scene();
    let own = civm(&scene, &["up", "builder", "--dry-run"]).ok();
    assert_eq!(row(&own, "instance"), "builder");
    assert_eq!(row(&own, "ports"), "127.0.0.1:2322 -> 22, 127.0.0.1:8080 -> 80");
    let second = civm(&scene, &["up", "builder", "--name", "b2", "--dry-run"]).ok();
    assert_eq!((row(&second, "instance"), row(&second, "host")), ("b2".to_owned(), "builder".to_owned()));
    assert_eq!(row(&second, "ports"), "a free port -> 22, a free port -> 80");
    assert!(row(&second, "disk").contains("/b2.qcow2"), "{}", row(&second, "disk"));
    assert!(!scene.file("b2.qcow2").exists() && !scene.path("home/.cache/civm").exists(), "nothing is made");
    let project = fs::read_dir(scene.path("home/.local/state/civm")).unwrap().next().unwrap().unwrap().path();
    assert!(!project.join("builder").exists() && !project.join("b2").exists(), "there is no instance yet");
    civm(&scene, &["status", "b2"]).code(1);
}

#[test]
fn a_dry_run_says_which_disk_would_be_lost() {
    let scene = scene();
    let plan = || civm(&scene, &["up", "builder", "--fresh", "--dry-run"]).ok();
    assert!(!plan().out().contains("lost"));
    fs::write(scene.file("builder.qcow2"), "disk").unwrap();
    let disk = scene.file("builder.qcow2").canonicalize().unwrap();
    assert_eq!(row(&plan(), "to be lost"), format!("the disk {}", disk.display()));
    assert!(disk.exists());
}

#[test]
fn flags_take_the_place_of_what_host_yaml_says() {
    let scene = scene();
    let plan = |args: &[&str]| civm(&scene, &[&["up", "builder", "--dry-run"], args].concat());
    let ran =
        plan(&["--cpus", "2", "--memory", "1G", "--disk", "40G", "-p", "auto:22", "-p", "0.0.0.0:9090:90"]);
    let ran = ran.ok();
    assert_eq!((row(&ran, "cpus"), row(&ran, "memory")), ("2".to_owned(), "1G".to_owned()));
    assert!(row(&ran, "disk").ends_with("(40G)"));
    assert_eq!(row(&ran, "ports"), "127.0.0.1:8080 -> 80, a free port -> 22, 0.0.0.0:9090 -> 90");
    plan(&["-p", "8080:22"]).code(INPUT).says("port 8080 is forwarded twice");
    plan(&["-p", "web"]).code(USAGE).says("is not a forward");
    plan(&["--disk", "1G"]).code(INPUT).says("a disk of 1G");
    plan(&["--memory", "9999999G"]).code(INPUT).says("9999999G of memory: a machine can have 256M to");
    plan(&["--memory", "lots"]).code(USAGE).says("is not a size");
    plan(&["--ephemeral", "--fresh"]).code(8);
    let command = civm(&scene, &["up", "builder", "--print-command", "--", "-device", "vmgenid"]);
    if command.code == 0 {
        assert!(String::from_utf8_lossy(&command.stdout).trim_end().ends_with("-device vmgenid"));
    } else {
        eprintln!("skipped: no QEMU to print a command for: {}", command.stderr);
    }
}

#[test]
fn a_name_belongs_to_one_host() {
    let scene = scene();
    let name = |name: &str| civm(&scene, &["up", "builder", "--dry-run", "--name", name]);
    name("other").code(INPUT).says("`other` is a host of this project");
    name("../x").code(INPUT).says("is not a machine name");
    name("").code(INPUT);
    civm(&scene, &["up", "nobody", "--name", "b2", "--dry-run"]).code(1).says("no host `nobody`");
    ended(&scene, "b2", "other");
    name("b2").code(INPUT).says("instance `b2` is a machine of host `other`");
    // One whose record cannot be read may be anybody's.
    fs::write(state(&scene, "b5").join("instance.json"), "{").unwrap();
    name("b5").code(MACHINE).says("b5/instance.json: it is damaged");
    civm(&scene, &["up", "b5", "--dry-run"]).code(MACHINE).says("b5/instance.json: it is damaged");
    // An instance that exists is started again by its own name, with the port that it had.
    ended(&scene, "b3", "builder");
    let again = civm(&scene, &["up", "b3", "--dry-run"]).ok();
    assert_eq!((row(&again, "instance"), row(&again, "host")), ("b3".to_owned(), "builder".to_owned()));
    assert!(row(&again, "ports").starts_with("127.0.0.1:40022 -> 22"), "{}", row(&again, "ports"));
}

#[test]
fn verbs_say_that_an_instance_does_not_run_or_does_not_exist() {
    let scene = scene();
    ended(&scene, "b2", "builder");
    for args in [
        &["ssh", "b2"][..],
        &["exec", "b2", "true"],
        &["cp", "b2:/etc/hostname", "."],
        &["port", "b2"],
        &["console", "b2"],
        &["ssh-config", "b2"],
        &["wait", "b2"],
        &["wait", "b2", "--for", "ssh"],
    ] {
        civm(&scene, args).code(MACHINE).says("`b2` is not running").says("`civm up b2` starts it");
    }
    for args in [
        &["ssh", "b4"][..],
        &["down", "b4"],
        &["rm", "b4"],
        &["logs", "b4"],
        &["status", "b4"],
        &["inspect", "b4"],
        &["wait", "b4"],
        &["restart", "b4"],
    ] {
        civm(&scene, args).code(1).says("no host `b4`");
    }
    civm(&scene, &["up", "b4", "--dry-run"]).code(1).says("no host `b4`");
    civm(&scene, &["status", "b4"]).code(1).says("no host `b4`");
    civm(&scene, &["wait", "b2", "--for", "ended"]).ok();
    let for_ever = u64::MAX.to_string();
    civm(&scene, &["wait", "b2", "--for", "ended", "--timeout", &for_ever]).ok();
    civm(&scene, &["wait", "b2", "--timeout", "0"]).code(MACHINE).says("`b2` is not running");
    civm(&scene, &["down", "b2", "builder"])
        .ok()
        .says("`b2` is not running")
        .says("`builder` is not running");
    civm(&scene, &["down", "--all"]).ok().says("no instance of this project is running");
    civm(&scene, &["down"]).code(USAGE);
    let status = civm(&scene, &["status", "b2"]).ok();
    assert_eq!(String::from_utf8_lossy(&status.stdout), "b2: down (the guest powered off)\n");
    let inspected = civm(&scene, &["inspect", "b2"]).ok();
    let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["state"], "down");
    assert_eq!(inspected["instance"]["host"], "builder");
    assert_eq!(inspected["processes"], json!([]));
}

#[test]
fn what_cannot_be_copied_is_refused() {
    let scene = scene();
    civm(&scene, &["cp", "a", "b"]).code(INPUT).says("neither side is a path in an instance");
    civm(&scene, &["cp", "x:a", "y:b"]).code(INPUT).says("two instances");
    civm(&scene, &["cp", "x:a"]).code(USAGE);
}

#[test]
fn logs_are_printed_without_what_steers_a_terminal() {
    let scene = scene();
    let place = ended(&scene, "b2", "builder");
    civm(&scene, &["logs", "b2"]).code(100).says("`b2` has no such log yet");
    fs::write(place.join("console.log"), "boots\r\n\x1b[2Jhello\n").unwrap();
    fs::write(place.join("console.log.1"), "before\n").unwrap();
    fs::write(place.join("events.jsonl"), "{\"event\":\"busy\u{9b}\"}\n").unwrap();
    let out = |args: &[&str]| {
        String::from_utf8(civm(&scene, &[&["logs", "b2"], args].concat()).ok().stdout).unwrap()
    };
    assert_eq!(out(&[]), "boots\n[2Jhello\n");
    assert_eq!(out(&["--follow"]), "boots\n[2Jhello\n", "it is down, so nothing follows");
    assert_eq!(out(&["--boot", "1"]), "before\n");
    assert_eq!(out(&["--log", "events"]), "{\"event\":\"busy\"}\n");
    civm(&scene, &["logs", "b2", "--boot", "9"]).code(100).says("no log of boot 9");
}

#[test]
fn what_an_instance_was_asked_for_is_read_or_told_to_be_damaged() {
    let scene = scene();
    let request = ended(&scene, "builder", "builder").join("request.json");
    for damaged in ["", "{", r#"{"host": 1}"#] {
        fs::write(&request, damaged).unwrap();
        civm(&scene, &["restart", "builder"])
            .code(MACHINE)
            .says("request.json")
            .says("damaged")
            .says("`civm up builder` writes it anew");
        civm(&scene, &["up", "builder", "--dry-run"]).ok();
    }
    let newer = r#"{"version": 99, "hosts": ["builder"]}"#;
    fs::write(&request, newer).unwrap();
    for verb in [&["restart", "builder"][..], &["up", "builder", "--dry-run"]] {
        civm(&scene, verb).code(MACHINE).says("request.json").says("a newer civm wrote it");
    }
    assert_eq!(fs::read_to_string(&request).unwrap(), newer);
}

/// A start, an apply and a removal of one instance have their turns: whoever is second waits, or says why it does not.
#[test]
fn an_instance_is_started_changed_or_removed_by_one_at_a_time() {
    let scene = scene();
    let place = ended(&scene, "builder", "builder");
    let lock = fs::File::create(place.join("up.lock")).unwrap();
    lock.lock().unwrap();
    civm(&scene, &["rm", "builder", "--yes"]).code(MACHINE).says("starting, changing or removing `builder`");
    let waiters = [&["up", "builder", "-d"][..], &["apply", "builder"]].map(|verb| {
        let mut command = scene.civm(verb);
        // Without QEMU nothing is started or built when its turn has come.
        let mut child = command.env("PATH", "/nowhere").stderr(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        told.read_line(&mut line).unwrap();
        assert!(line.contains("another civm is starting or changing builder; waiting"), "{verb:?}: {line}");
        (child, told)
    });
    drop(lock);
    for ((mut child, mut told), then) in waiters.into_iter().zip(["is not in PATH", "is not running"]) {
        let mut rest = String::new();
        told.read_to_string(&mut rest).unwrap();
        assert!(rest.contains(then), "{rest}");
        assert_eq!(child.wait().unwrap().code(), Some(MACHINE));
    }
    civm(&scene, &["rm", "builder", "--yes"]).ok();
    assert!(!place.exists());
}

#[test]
fn a_state_directory_of_another_user_is_refused() {
    let scene = scene();
    let state = scene.path("home/.local/state/civm");
    fs::create_dir_all(&state).unwrap();
    if chown(&state, Some(65534), Some(65534)).is_err() {
        return eprintln!("skipped: a state directory of another user (only root makes one)");
    }
    for verb in [&["ls"][..], &["up", "builder", "-d"], &["down", "builder"]] {
        civm(&scene, verb).code(1).says("belongs to user 65534").says("XDG_STATE_HOME");
    }
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    let told = civm(&scene, &["doctor"]);
    assert!(told.out().contains("belongs to user 65534"), "{}", told.out());
}

#[test]
fn a_name_that_no_instance_can_have_is_wrong_input() {
    let scene = scene();
    for name in ["a/b", "../x", "", "-", "a b", "\u{e4}", "x.y", &"x".repeat(99)] {
        let named = format!("--name={name}");
        civm(&scene, &["up", "builder", "--dry-run", &named]).code(INPUT);
    }
}

#[test]
fn rm_asks_and_removes_the_disk_and_the_state_of_one_instance() {
    let scene = scene();
    let (place, other) = (ended(&scene, "b2", "builder"), ended(&scene, "builder", "builder"));
    for name in ["b2", "builder"] {
        fs::write(scene.file(&format!("{name}.qcow2")), "disk").unwrap();
    }
    civm(&scene, &["rm", "b2"]).code(1).says("b2.qcow2").says("use --yes");
    assert!(place.exists() && scene.file("b2.qcow2").exists());
    let asked = scene.on_terminal("rm b2", "n").code(1);
    assert!(asked.out().contains("Remove these, and all that is on the disk of b2?"), "{}", asked.out());
    assert!(place.exists() && scene.file("b2.qcow2").exists());
    scene.on_terminal("rm b2", "y").ok();
    assert!(!place.exists() && !scene.file("b2.qcow2").exists());
    assert!(other.exists() && scene.file("builder.qcow2").exists(), "another instance stays");
    civm(&scene, &["rm", "b2", "--yes"]).code(1).says("no host `b2`");
    // A wrong name stops everything.
    civm(&scene, &["rm", "--yes", "builder", "b4"]).code(1).says("no host `b4`");
    assert!(other.exists() && scene.file("builder.qcow2").exists());
    // So does a machine of somebody else that has the disk: QEMU locks it like this.
    let disk = fs::File::options().write(true).open(scene.file("builder.qcow2")).unwrap();
    let lock = nix::libc::flock {
        l_type: i16::try_from(nix::libc::F_WRLCK).unwrap(),
        l_whence: i16::try_from(nix::libc::SEEK_SET).unwrap(),
        l_start: 100,
        l_len: 1,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&disk, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    civm(&scene, &["rm", "builder", "--yes"]).code(MACHINE).says("is in use by");
    assert!(other.exists() && scene.file("builder.qcow2").exists());
    drop(disk);
    // A record of another civm stands for what that one may run.
    fs::write(other.join("instance.json"), r#"{"version": 99, "phase": "ready"}"#).unwrap();
    civm(&scene, &["rm", "builder", "--yes", "--force"]).code(MACHINE).says("a newer civm wrote it");
    assert!(other.exists() && scene.file("builder.qcow2").exists());
}

#[test]
fn rm_removes_a_link_to_a_state_directory_and_leaves_nothing_behind_it() {
    let scene = scene();
    let place = ended(&scene, "builder", "builder");
    let target = scene.path("elsewhere");
    fs::rename(&place, &target).unwrap();
    std::os::unix::fs::symlink(&target, &place).unwrap();
    let names = || {
        let entries = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name());
        entries.collect::<std::collections::BTreeSet<_>>()
    };
    let before = names();
    civm(&scene, &["rm", "builder", "--yes"]).ok();
    assert!(!place.is_symlink());
    assert_eq!(names(), before, "what the link led to stays, and no more");
}

#[test]
fn what_an_instance_that_runs_cannot_be_given_is_said() {
    let scene = scene();
    let place = ended(&scene, "b2", "builder");
    let record = fs::read_to_string(place.join("instance.json")).unwrap().replace("\"ended\"", "\"ready\"");
    fs::write(place.join("instance.json"), record).unwrap();
    fs::write(place.join("request.json"), r#"{"host": "builder", "name": "b2", "cpus": 2}"#).unwrap();
    let started = json!({
        "image": "x", "arch": "x86_64", "machine": "q35", "network": "no-host", "cpus": 2, "memory_mib": 1,
        "disk_mib": 1, "forwards": [],
    });
    fs::write(place.join("started.json"), started.to_string()).unwrap();
    let lock = fs::File::create(place.join("lock")).unwrap();
    lock.lock().unwrap();
    let up = |args: &[&str]| civm(&scene, &[&["up", "b2"], args].concat());
    for flag in ["--fresh", "--ephemeral"] {
        up(&[flag]).code(MACHINE).says("`b2` is running already").says("`civm down b2` stops it");
    }
    up(&["--cpus", "4"]).ok().says("not changed, since it is running: cpus: 2 -> 4");
    let plain = up(&[]).ok().says("`civm restart b2` brings it: memory");
    assert!(!plain.stderr.contains("cpus"), "it has what it was asked for with: {}", plain.stderr);
    // Without the key to its secrets it would stay down.
    scene.write("hosts/builder/secrets.yaml", include_str!("../../hosts/jenkins-controller/secrets.yaml"));
    civm(&scene, &["restart", "b2"]).code(128).says("--without-secrets");
}

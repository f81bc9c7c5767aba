//! `civm image` and `civm gc`, on a cache that nothing was built for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::{Scene, run};

const DAY: u64 = 86_400;
const MACHINE: i32 = 69;
const NO_SUCH: i32 = 100;

/// An image that was last used so many days ago.
fn image(scene: &Scene, digit: &str, days: u64) -> PathBuf {
    let images = scene.path("home/.cache/civm/images");
    let id = digit.repeat(32);
    let dir = images.join(&id);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("disk.qcow2"), vec![1; 200_000]).unwrap();
    fs::write(dir.join("image.json"), r#"{"suite": "bookworm", "arch": "amd64", "packages": ["git"]}"#)
        .unwrap();
    fs::write(dir.join("contents.json"), r#"{"disk.qcow2": 200000}"#).unwrap();
    fs::write(images.join(format!("{id}.log")), "log").unwrap();
    fs::write(images.join(format!("{id}.lock")), "").unwrap();
    let then = SystemTime::now() - Duration::from_secs(days * DAY);
    for path in [images.join(format!("{id}.lock")), dir.clone()] {
        fs::File::open(path).and_then(|file| file.set_modified(then)).unwrap();
    }
    dir
}

/// A template of an image, whose machine was last resumed so many days ago.
fn template(scene: &Scene, digit: &str, of: &str, days: u64) -> PathBuf {
    let templates = scene.path("home/.cache/civm/templates");
    let dir = templates.join(digit.repeat(32));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("disk.qcow2"), vec![1; 200_000]).unwrap();
    fs::write(dir.join("contents.json"), r#"{"disk.qcow2": 200000}"#).unwrap();
    let what = serde_json::json!({
        "image": of.repeat(32), "cpus": 2, "memory_mib": 1024, "disk_mib": 16384, "accel": "tcg",
    });
    fs::write(dir.join("template.json"), what.to_string()).unwrap();
    let lock = templates.join(format!("{}.lock", digit.repeat(32)));
    fs::write(&lock, "").unwrap();
    let then = SystemTime::now() - Duration::from_secs(days * DAY);
    for path in [lock, dir.clone()] {
        fs::File::open(path).and_then(|file| file.set_modified(then)).unwrap();
    }
    dir
}

fn json(scene: &Scene, args: &[&str]) -> Value {
    serde_json::from_str(run(&mut scene.civm(args)).ok().out()).unwrap()
}

/// A machine as far as the cache can see: a process that has the disk open.
fn user(dir: &Path) -> std::process::Child {
    let disk = fs::File::open(dir.join("disk.qcow2")).unwrap();
    std::process::Command::new("tail").arg("-f").stdin(disk).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn images_are_listed_with_what_they_are_and_who_uses_them() {
    let scene = Scene::new();
    run(&mut scene.civm(&["image", "ls"])).ok().says("no image is built");
    assert_eq!(json(&scene, &["image", "ls", "--json"]), serde_json::json!([]));
    let dir = image(&scene, "a", 3);
    fs::remove_file(image(&scene, "b", 0).join("disk.qcow2")).unwrap();
    let mut machine = user(&dir);
    let list = json(&scene, &["image", "ls", "--json"]);
    assert_eq!(list[0]["id"], "a".repeat(32));
    assert_eq!((&list[0]["suite"], &list[0]["packages"][0]), (&"bookworm".into(), &"git".into()));
    assert_eq!((&list[0]["complete"], &list[1]["complete"]), (&true.into(), &false.into()));
    assert!(list[0]["size"].as_u64().unwrap() >= 200_000 && list[0]["hosts"] == serde_json::json!([]));
    let holder = list[0]["used_by"][0].as_str().unwrap();
    assert!(holder.starts_with(&format!("process {} (", machine.id())), "{holder}");
    let table = run(&mut scene.civm(&["image", "ls"])).ok();
    assert!(table.out().contains("aaaaaaaaaaaa") && table.out().contains("3 d ago"), "{}", table.out());
    assert!(table.out().contains("bbbbbbbbbbbb (incomplete)"), "{}", table.out());
    machine.kill().unwrap();
    machine.wait().unwrap();
}

#[test]
fn an_image_is_removed_when_that_is_meant_and_never_from_under_a_machine() {
    let scene = Scene::new();
    let (a, b) = (image(&scene, "a", 1), image(&scene, "b", 1));
    let fresh = image(&scene, "d", 0);
    run(&mut scene.civm(&["image", "rm", "aaa"])).code(1).says("--yes");
    let asked = scene.on_terminal("image rm aaa", "n").code(1);
    assert!(asked.out().contains("[y/N]"), "{}", asked.out());
    run(&mut scene.civm(&["image", "rm", "-y", "c"])).code(NO_SUCH).says("there is no image `c`");
    let mut machine = user(&a);
    // All or nothing: the other one stays as well.
    run(&mut scene.civm(&["image", "rm", "-y", "b", "a"])).code(MACHINE).says("is in use by process");
    assert!(a.is_dir() && b.is_dir());
    let kept = json(&scene, &["image", "gc", "--older-than", "0", "--dry-run", "--json"]);
    assert_eq!(kept["images"].as_array().unwrap().len(), 1, "{kept:#}");
    machine.kill().unwrap();
    machine.wait().unwrap();
    run(&mut scene.civm(&["image", "rm", "--yes", "aaaa", "aa"])).ok().says("removed aaaaaaaaaaaa");
    let all = json(&scene, &["image", "gc", "--older-than", "0", "--dry-run", "--json"]);
    assert_eq!(all["images"][0]["id"], "b".repeat(32), "not the one that somebody has just asked for");
    assert!(fresh.is_dir());
    assert!(!a.exists() && b.is_dir() && !a.with_extension("log").exists());
}

#[test]
fn old_images_go_and_those_of_hosts_and_recent_ones_stay() {
    let scene = Scene::new();
    let (old, recent) = (image(&scene, "a", 20), image(&scene, "b", 2));
    scene.write("hosts/x/host.yaml", "image: {suite: bookworm}\n");
    // The name that the host's image would have, told by where `up` would look for it.
    let command = run(&mut scene.civm(&["up", "x", "--print-command"])).ok();
    let id = command.out().split("/images/").nth(1).and_then(|rest| rest.get(..32)).unwrap().to_owned();
    let needed = old.with_file_name(&id);
    fs::rename(image(&scene, "c", 20), &needed).unwrap();
    fs::File::open(&needed)
        .and_then(|dir| dir.set_modified(SystemTime::now() - Duration::from_secs(20 * DAY)))
        .unwrap();
    assert_eq!(
        json(&scene, &["image", "ls", "--json"])
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["id"] == id.as_str())
            .unwrap()["hosts"],
        serde_json::json!(["x"])
    );
    run(&mut scene.civm(&["image", "gc", "-n"])).ok().says("1 image would be removed");
    assert!(old.exists());
    let gone = json(&scene, &["gc", "--json"]);
    assert_eq!(gone["removed"][0]["kind"], "image");
    assert!(gone["size"].as_u64().unwrap() >= 200_000, "{gone:#}");
    assert!(!old.exists() && recent.exists() && needed.exists());
    run(&mut scene.civm(&["gc"])).ok().says("there is nothing to remove");
    scene.write("hosts/broken/host.yaml", "cpuss: 1\n");
    let ran = run(&mut scene.civm(&["image", "gc", "--older-than", "1"])).ok();
    ran.says("while it is not known what these hosts need: broken");
    assert!(recent.exists());
}

#[test]
fn old_templates_go_and_those_without_an_image_but_none_from_under_a_machine() {
    let scene = Scene::new();
    image(&scene, "a", 0);
    let (old, recent) = (template(&scene, "b", "a", 20), template(&scene, "c", "a", 2));
    let (orphan, used) = (template(&scene, "d", "e", 0), template(&scene, "f", "a", 20));
    let listed = json(&scene, &["image", "ls", "--json"]);
    assert_eq!(listed[0]["templates"].as_array().unwrap().len(), 3, "{listed:#}");
    let mut machine = user(&used);
    let would = json(&scene, &["image", "gc", "--dry-run", "--json"]);
    assert_eq!((would["templates"].as_array().unwrap().len(), old.exists()), (2, true), "{would:#}");
    let gone = json(&scene, &["image", "gc", "--json"]);
    let ids: Vec<_> = gone["templates"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert_eq!(ids, ["b".repeat(32), "d".repeat(32)]);
    assert!(gone["size"].as_u64().unwrap() >= 400_000 && gone["images"].as_array().unwrap().is_empty());
    assert_eq!([&old, &orphan, &recent, &used].map(|dir| dir.exists()), [false, false, true, true]);
    machine.kill().unwrap();
    machine.wait().unwrap();
    run(&mut scene.civm(&["image", "gc"])).ok().says("1 template removed");
    assert!(!used.exists() && recent.exists());
}

#[test]
fn logs_of_hosts_that_are_gone_go_but_never_their_keys() {
    let scene = Scene::new();
    scene.write("hosts/x/host.yaml", "");
    let place = |host: &str, project: &Path| {
        let dir = scene.path("home/.local/state/civm/project-0").join(host);
        fs::create_dir_all(&dir).unwrap();
        let record = serde_json::json!({
            "version": 2, "project": project, "host": host, "phase": "ended", "started_at": 1, "accel": "tcg", "cpus": 1,
            "memory_mib": 256, "disk": null, "ephemeral": false, "forwards": [], "runtime": null, "namespaces": true,
            "key_removed": true, "reason": "powered off"
        });
        fs::write(dir.join("instance.json"), record.to_string()).unwrap();
        for name in ["console.log", "ssh_host_ed25519_key"] {
            fs::write(dir.join(name), "x").unwrap();
        }
        dir
    };
    let (alive, gone) = (place("x", &scene.path("project")), place("y", &scene.path("project")));
    run(&mut scene.civm(&["gc", "--dry-run"])).ok().says("would be freed");
    assert!(gone.join("console.log").exists());
    let ran = run(&mut scene.civm(&["gc"])).ok();
    assert!(ran.out().contains("has no host `y`"), "{}", ran.out());
    assert!(!gone.join("console.log").exists() && gone.join("ssh_host_ed25519_key").exists());
    assert!(alive.join("console.log").exists(), "its logs are not old");
}

#[test]
fn a_build_names_what_is_wrong_before_it_starts() {
    let scene = Scene::new();
    run(&mut scene.civm(&["image", "build", "x"])).code(1);
    scene.write("hosts/x/host.yaml", "");
    run(&mut scene.civm(&["image", "build", "x", "y"])).code(1).says("y");
    scene.write("hosts/z/host.yaml", "packages: [-o]\n");
    run(&mut scene.civm(&["image", "build", "z", "x"])).code(2).says("-o");
    assert!(!scene.path("home/.cache/civm/images").exists());
}

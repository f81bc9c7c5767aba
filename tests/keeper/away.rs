//! Where builds go while a remote is away.

use std::process::Stdio;
use std::time::{Duration, Instant};

use civm::host::spec::Start;

use crate::scene::{Scene, free_port, told, wait_until};

pub const ALL: &[(&str, fn())] = &[
    ("builds_go_to_one_that_is_made_on_demand_while_a_remote_is_away", elsewhere_on_demand),
    ("builds_go_elsewhere_while_a_remote_is_away", elsewhere),
];

fn elsewhere_on_demand() {
    let mut scene = Scene::new();
    let mut dead = scene.builder("dead", "plain");
    dead.on.port = free_port();
    scene.put(&dead);
    let mut good = scene.builder("good", "plain");
    good.start = Start::OnDemand;
    scene.put(&good);
    scene.keep();
    scene.until("dead", "waiting");
    let begun = Instant::now();
    let (code, _, err) = told(scene.ssh("dead", "true").output().unwrap());
    assert_eq!(code, Some(255));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(err.contains("another builder of its system"), "{err}");
    let (code, out, err) = told(scene.ssh("good", "echo built").output().unwrap());
    assert_eq!((code, out.as_str()), (Some(0), "built\n"), "{err}");
}

fn elsewhere() {
    let mut scene = Scene::new();
    let mut dead = scene.builder("dead", "plain");
    dead.on.port = free_port();
    scene.put(&dead);
    scene.put(&scene.builder("good", "plain"));
    scene.keep();
    scene.until("good", "ready");
    wait_until("the dead one is out of nix's list", || (!scene.machines().contains("@dead")).then_some(()));
    assert!(scene.machines().contains("@good"));
    let begun = Instant::now();
    let (code, _, err) = told(scene.ssh("dead", "true").output().unwrap());
    assert_eq!(code, Some(255));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(err.contains("another builder of its system is"), "{err}");
    // With the last one gone, whoever comes waits for either.
    assert_eq!(scene.run(&["down", "good"]).0, Some(0));
    wait_until("it is the last hope", || scene.machines().contains("@dead").then_some(()));
    let waits = scene.ssh("dead", "true").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("somebody waits", || (scene.view("dead").waiting == 1).then_some(()));
    assert_eq!(scene.run(&["up", "good"]).0, Some(0));
    let status = waits.wait_with_output().unwrap().status;
    assert_eq!(status.code(), Some(255), "sent on as soon as there is another");
}

//! Where builds go while a remote is away.

use std::process::Stdio;
use std::time::{Duration, Instant};

use civm::host::spec::Start;

use crate::scene::{Scene, free_port, scaled, told, wait_until};

pub const ALL: &[(&str, fn())] = &[
    ("builds_go_to_one_that_is_made_on_demand_while_a_remote_is_away", elsewhere_on_demand),
    ("builds_go_elsewhere_while_a_remote_is_away", elsewhere),
    ("builds_go_elsewhere_while_a_machine_does_not_answer", unwell),
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

fn unwell() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "faints"));
    scene.put(&scene.builder("good", "plain"));
    scene.keep();
    scene.until("good", "ready");
    let since = scene.until("big", "ready").ready_since;
    let listed = |wanted: bool| {
        wait_until(&format!("it is in nix's list: {wanted}"), || {
            (scene.machines().contains("@big") == wanted).then_some(())
        });
    };
    listed(true);
    let begun = Instant::now();
    std::fs::write(scene.path("lender/fainted"), "").unwrap();
    listed(false);
    // Three pings, and what is left of the one before them.
    assert!(begun.elapsed() < scaled(15) + Duration::from_secs(11), "{:?}", begun.elapsed());
    assert!(scene.machines().contains("@good"));
    assert_eq!(scene.view("big").doing, "its machine does not answer");
    let (code, _, err) = told(scene.ssh("big", "true").output().unwrap());
    assert!(code == Some(255) && err.contains("another builder of its system is"), "{err}");
    // With nobody else to build, who comes waits for it.
    assert_eq!(scene.run(&["down", "good"]).0, Some(0));
    listed(true);
    let mut waits = scene.ssh("big", "echo built");
    let waits = waits.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("somebody waits", || (scene.view("big").waiting == 1).then_some(()));
    assert_eq!(scene.run(&["up", "good"]).0, Some(0));
    assert_eq!(told(waits.wait_with_output().unwrap()).0, Some(255), "sent on as soon as there is another");
    listed(false);
    std::fs::remove_file(scene.path("lender/fainted")).unwrap();
    listed(true);
    let (code, out, err) = told(scene.ssh("big", "echo built").output().unwrap());
    assert_eq!((code, out.as_str()), (Some(0), "built\n"), "{err}");
    assert_eq!(scene.view("big").ready_since, since, "it is the same one");
    for said in ["big: its machine does not answer", "big: its machine answers again"] {
        assert!(scene.log().contains(said), "{}", scene.log());
    }
    scene.end();
    scene.nothing_is_left();
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

//! What a keeper does when nothing goes wrong.

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use civm::host::spec::{Arch, Start};

use crate::scene::{Lending, Scene, free_port, status_of, told, wait_until};

pub const ALL: &[(&str, fn())] = &[
    ("a_builder_is_made_used_and_gone", made_used_and_gone),
    ("a_build_that_comes_early_waits", early),
    ("forty_builds_at_once", forty),
    ("one_that_is_started_on_demand_comes_and_goes", on_demand),
    ("a_builder_drains", drains),
    ("a_builder_of_another_kind_than_its_remote", emulated),
    ("a_port_of_this_machine_leads_to_a_builder", port),
    ("doctor_finds_what_works_and_what_does_not", doctor),
    ("what_the_parcels_say_is_read_again", reload),
    ("systemd_is_told_how_it_is", systemd),
    ("a_fleet_comes_up_without_a_herd_and_in_little_memory", fleet),
];

fn made_used_and_gone() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "plain"));
    scene.keep();
    let view = scene.until("big", "ready");
    assert_eq!((view.features.join(","), view.nix.as_deref()), ("benchmark,kvm".into(), Some("2.24.9")));
    assert!(view.published && view.store.ends_with("@big?trusted=true"), "{view:?}");
    let machines = scene.machines();
    assert!(
        machines.contains("@big?trusted=true x86_64-linux,i686-linux - 4 1 benchmark,kvm - "),
        "{machines}"
    );
    let (code, out, err) = told(scene.ssh("big", "echo here; exit 3").output().unwrap());
    assert_eq!((code, out.as_str()), (Some(3), "here\n"), "{err}");
    let (code, out, _) = scene.run(&["ls"]);
    assert_eq!(code, Some(0));
    assert!(
        out.lines().nth(1).is_some_and(|line| line.starts_with("big ") && line.contains(" ready ")),
        "{out}"
    );
    wait_until("it answers a ping", || scene.view("big").health);
    let (_, out, _) = scene.run(&["status", "big"]);
    assert!(out.contains("accelerator  TCG (it is played)") && out.contains("disk free    2 GiB"), "{out}");
    let (_, out, _) = scene.run(&["logs", "big"]);
    assert!(out.contains("big: connecting to ") && out.trim_end().ends_with("big: ready"), "{out}");
    let (code, _, err) = scene.run(&["status", "bog"]);
    assert_eq!((code, err.as_str()), (Some(1), "error: no builder `bog` here; there are: big\n"));
    assert!(!scene.processes().is_empty());
    let took = scene.end();
    assert!(took < Duration::from_secs(15), "{took:?}");
    scene.nothing_is_left();
    let left: Vec<_> =
        std::fs::read_dir(scene.path("run")).unwrap().flatten().map(|one| one.file_name()).collect();
    assert_eq!(left, [".lock"]);
}

fn early() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "slow"));
    scene.keep();
    let (code, out, err) = told(scene.ssh("big", "echo late").output().unwrap());
    assert_eq!((code, out.as_str()), (Some(0), "late\n"), "{err}");
    assert!(err.contains("civm: waiting: `big` on "), "{err}");
}

fn forty() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "plain"));
    scene.keep();
    let spawn =
        |_| scene.ssh("big", "echo done").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Some come before it is ready, some after.
    let mut all: Vec<_> = (0..20).map(spawn).collect();
    scene.until("big", "ready");
    all.extend((0..20).map(spawn));
    for child in all {
        let (code, out, err) = told(child.wait_with_output().unwrap());
        assert_eq!((code, out.as_str()), (Some(0), "done\n"), "{err}");
    }
    wait_until("all connections are closed", || (scene.view("big").connections == 0).then_some(()));
}

fn on_demand() {
    let mut scene = Scene::new();
    let mut builder = scene.builder("big", "plain");
    builder.start = Start::OnDemand;
    scene.put(&builder);
    scene.keep();
    assert_eq!(scene.view("big").state, "idle");
    assert!(scene.machines().contains("@big"), "nix must know of it");
    assert!(
        scene.processes().iter().all(|process| process.contains("builder --dir")),
        "{:?}",
        scene.processes()
    );
    for _ in 0..2 {
        let (code, out, err) = told(scene.ssh("big", "echo up").output().unwrap());
        assert_eq!((code, out.as_str()), (Some(0), "up\n"), "{err}");
        assert_eq!(scene.view("big").state, "ready");
        scene.until("big", "idle");
    }
    assert!(scene.machines().contains("@big"));
    scene.end();
    scene.nothing_is_left();
}

fn emulated() {
    let mut scene = Scene::new();
    let mut builder = scene.builder("far", "emulates");
    builder.arch = if Arch::native() == Some(Arch::X86_64) { Arch::Aarch64 } else { Arch::X86_64 };
    scene.put(&builder);
    let binary = scene.path("ours/civm-for-guests");
    std::fs::write(&binary, crate::played::foreign_program()).unwrap();
    scene.keep_with(&[("CIVM_GUEST_BINARY", &binary)]);
    // The remote has the civm for its guest.
    scene.until("far", "ready");
    assert!(scene.machines().contains(&format!(" {}-linux", builder.arch)), "{}", scene.machines());
    scene.end();
    // The next time it is there already.
    scene.keep_with(&[("CIVM_GUEST_BINARY", &binary)]);
    scene.until("far", "ready");
    scene.end();
    scene.nothing_is_left();
}

fn drains() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "plain"));
    scene.keep();
    scene.until("big", "ready");
    let mut build = scene.ssh("big", "sleep 2; echo built").stdout(Stdio::piped()).spawn().unwrap();
    wait_until("the build runs", || (scene.view("big").connections == 1).then_some(()));
    let begun = Instant::now();
    let (code, _, err) = scene.run(&["drain", "big"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{err}");
    assert!(build.try_wait().unwrap().is_some());
    assert_eq!(build.wait_with_output().unwrap().stdout, b"built\n");
    assert_eq!((scene.view("big").state.as_str(), scene.machines().as_str()), ("idle", ""));
    // What was stopped is not started by somebody who only wants to build.
    let (code, _, err) = told(scene.ssh("big", "true").output().unwrap());
    assert_eq!(code, Some(255));
    assert!(err.contains("`big` was stopped; `civm builder up big` starts it"), "{err}");
    let (code, _, err) = scene.run(&["up", "big"]);
    assert_eq!(code, Some(0), "{err}");
    // At once: the build is lost.
    let build = scene.ssh("big", "sleep 60").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the build runs", || (scene.view("big").connections == 1).then_some(()));
    assert_eq!(scene.run(&["down", "--all", "--now"]).0, Some(0));
    assert_ne!(build.wait_with_output().unwrap().status.code(), Some(0));
    scene.end();
    scene.nothing_is_left();
}

fn port() {
    let mut scene = Scene::new();
    let mut builder = scene.builder("big", "plain");
    let port = free_port();
    builder.port = Some(port);
    scene.put(&builder);
    scene.keep();
    scene.until("big", "ready");
    let mut ssh = std::process::Command::new("ssh");
    ssh.arg("-F").arg(scene.place().ssh_config()).args([
        "-o",
        "ProxyCommand=none",
        "-o",
        "HostName=127.0.0.1",
        "-p",
    ]);
    ssh.arg(port.to_string()).args(["--", "big", "echo here"]).stdin(Stdio::null());
    let (code, out, err) = told(ssh.output().unwrap());
    assert_eq!((code, out.as_str()), (Some(0), "here\n"), "{err}");
}

fn doctor() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "plain"));
    scene.put(&scene.builder("lacking", "lacks"));
    scene.keep();
    scene.until("big", "ready");
    scene.until("lacking", "failed");
    let (code, out, err) = scene.run(&["doctor", "big"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("nix 2.24.9 answers"), "{out}");
    let (code, out, _) = scene.run(&["doctor", "--json"]);
    assert_eq!(code, Some(1));
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    let bad: Vec<_> = found.as_array().unwrap().iter().filter(|one| one["ok"] == false).collect();
    assert_eq!(bad.len(), 1, "{out}");
    assert!(bad[0]["help"].as_str().unwrap().contains("apt-get install qemu-system-x86"), "{out}");
}

fn reload() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "plain"));
    scene.put(&scene.builder("old", "plain"));
    scene.keep();
    let before = scene.until("big", "ready");
    scene.until("old", "ready");
    std::fs::remove_dir_all(scene.path("parcels/old")).unwrap();
    let mut changed = scene.builder("big", "plain");
    changed.speed = 7;
    scene.put(&changed);
    scene.put(&scene.builder("new", "plain"));
    nix::sys::signal::kill(
        crate::scene::pid(scene.keeper.as_ref().unwrap()),
        nix::sys::signal::Signal::SIGHUP,
    )
    .unwrap();
    wait_until("all of it is as the parcels say", || {
        let views = scene.views();
        let ready = views.iter().all(|view| view.state == "ready");
        let names: Vec<&str> = views.iter().map(|view| view.name.as_str()).collect();
        (ready && names == ["big", "new"] && scene.machines().contains(" - 4 7 ")).then_some(())
    });
    assert!(scene.view("big").ready_since >= before.ready_since);
    scene.end();
    scene.nothing_is_left();
}

fn systemd() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "plain"));
    scene.put(&scene.builder("lacking", "lacks"));
    let path = scene.path("ours/notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(crate::scene::patience())).unwrap();
    scene.keep_with(&[("NOTIFY_SOCKET", &path)]);
    let mut told = Vec::new();
    let mut hear = |wanted: &str| {
        while !told.iter().any(|text: &String| text.contains(wanted)) {
            let mut text = [0; 4096];
            let count = socket.recv(&mut text).unwrap_or_else(|error| panic!("{wanted}: {error}; {told:?}"));
            told.push(String::from_utf8_lossy(&text[..count]).into_owned());
        }
    };
    hear("READY=1");
    hear("STATUS=1 of 2 builders are ready; failed: lacking");
    scene.end();
    hear("STOPPING=1");
}

/// So many on one sshd, which begins to turn logins away when ten are on their way at once.
fn fleet() {
    let count: u64 = std::env::var("CIVM_FLEET").ok().and_then(|text| text.parse().ok()).unwrap_or(16);
    let mut scene = Scene::lending(&Lending { sshd: "MaxStartups 10:100:10\n", ..Lending::default() });
    for number in 0..count {
        scene.put(&scene.builder(&format!("b{number}"), "plain"));
    }
    let begun = Instant::now();
    scene.keep();
    wait_until("all are ready", || scene.views().iter().all(|view| view.state == "ready").then_some(()));
    let up = begun.elapsed();
    assert!(!scene.log().contains("tried again"), "{}", scene.log());
    let pid = scene.keeper.as_ref().unwrap().id();
    let each = status_of(pid, "RssAnon:") / count;
    assert!(each < 2048, "{each} KiB for each builder");
    let took = scene.end();
    assert!(took < Duration::from_secs(15), "{took:?}");
    println!(
        "{count} builders: up in {:.1} s, {each} KiB each, down in {:.1} s",
        up.as_secs_f32(),
        took.as_secs_f32()
    );
    scene.nothing_is_left();
}

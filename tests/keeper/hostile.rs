//! Remotes that do what they should not, and callers that go away.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use civm::edge::environment::Environment;
use civm::host::spec::Arch;
use civm::lifecycle;
use nix::sys::signal::{Signal, kill};

use crate::faults::{fails, shared_dir};
use crate::scene::{Lending, Scene, free_port, pid, status_of, wait_until};
use crate::small_image;

pub const ALL: &[(&str, fn())] = &[
    ("a_remote_that_never_stops_talking", talks),
    ("an_sshd_that_has_no_room_for_a_second_session", no_sessions),
    ("a_remote_of_another_architecture", other_arch),
    ("an_image_goes_to_a_remote_that_cannot_build_one", image_is_sent),
    ("the_real_serve_finds_the_civm_for_its_guest", guest_binary),
    ("a_caller_at_a_builders_port_who_has_gone", gone_from_the_port),
    ("a_dial_ends_with_its_ssh", dial_ends),
    ("who_follows_a_log_in_which_nothing_happens", followers),
    ("parcels_that_cannot_be_listed_take_no_builder_away", unlisted),
    ("a_builder_whose_key_is_none_says_so", no_key),
];

fn keeper(scene: &Scene) -> u32 {
    scene.keeper.as_ref().unwrap().id()
}

fn talks() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "talks"));
    scene.keep();
    scene.until("big", "ready");
    std::thread::sleep(Duration::from_secs(5));
    assert!(status_of(keeper(&scene), "RssAnon:") < 32 << 10, "what nobody can hear is not kept");
    let view = scene.view("big");
    assert!(!view.warnings.is_empty() && view.warnings.len() <= 8);
    let log = scene.log();
    assert!(log.len() < 1 << 20 && !log.contains('\u{1b}'), "{} bytes", log.len());
    assert_eq!(scene.run(&["down", "big", "--now"]).0, Some(0));
    scene.end();
    scene.nothing_is_left();
}

fn no_sessions() {
    let lending = Lending { sshd: "MaxSessions 1\n", cache: None, ..Lending::default() };
    let cache = shared_dir();
    fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (message, hint) = fails(&Lending { cache: Some(cache.path().into()), ..lending }, "plain");
    assert!(message.contains("does not allow what is needed"), "{message}");
    assert!(hint.contains("MaxSessions"), "{hint}");
}

fn other_arch() {
    let dir = shared_dir();
    let path = dir.path().join("uname");
    fs::write(&path, "#!/bin/sh\n[ \"$1\" = -m ] && echo riscv64 || echo Linux\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let (message, _) = fails(&Lending { path: Some(dir.path().into()), ..Lending::default() }, "plain");
    assert!(message.ends_with("is a Linux riscv64 machine"), "{message}");
    // One that there is a civm for gets that one.
    let other = if cfg!(target_arch = "x86_64") { "aarch64" } else { "x86_64" };
    fs::write(&path, format!("#!/bin/sh\n[ \"$1\" = -m ] && echo {other} || echo Linux\n")).unwrap();
    let cache = shared_dir();
    fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let lending =
        Lending { path: Some(dir.path().into()), cache: Some(cache.path().into()), ..Lending::default() };
    let mut scene = Scene::lending(&lending);
    scene.put(&scene.builder("big", "plain"));
    let binary = scene.path("ours/civm-for-guests");
    fs::write(&binary, crate::played::foreign_program()).unwrap();
    scene.keep_with(&[("CIVM_GUEST_BINARY", &binary)]);
    // It is not run by a processor that only says that it is such a one.
    let reason = scene.until("big", "failed").reason.unwrap();
    assert!(reason.message.ends_with("the civm there is for another kind of machine"), "{reason}");
    let pushed: Vec<_> = fs::read_dir(cache.path().join("civm/bin")).unwrap().flatten().collect();
    let pushed: Vec<_> = pushed.iter().map(|entry| fs::read(entry.path()).unwrap()).collect();
    assert_eq!(pushed, [crate::played::foreign_program()]);
}

fn image_is_sent() {
    let order = Scene::order(Arch::native().unwrap(), 128);
    let tools = ["qemu-img", order.arch.qemu()];
    if order.arch != Arch::X86_64 || tools.iter().any(|tool| !Path::new("/usr/bin").join(tool).exists()) {
        eprintln!("skipped: the smallest kernel is for x86_64, and needs {}", tools.join(" and "));
        return;
    }
    let theirs = shared_dir();
    fs::set_permissions(theirs.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // The real serve, on a machine without apt's sources.
    let lending = Lending {
        cache: Some(theirs.path().into()),
        variables: "CIVM_APT_SOURCES=/no-such.list",
        ..Lending::default()
    };
    let mut scene = Scene::lending(&lending);
    let mut builder = scene.builder("big", "");
    builder.run_with.clear();
    scene.put_with(&builder, 128);
    let ours = scene.path("ours/cache");
    let id = lifecycle::image_id(&order, &Environment::of_process()).unwrap();
    scene.keep_with(&[("XDG_CACHE_HOME", &ours)]);
    let reason = scene.until("big", "failed").reason.unwrap();
    assert!(reason.message.contains("the image cannot be built"), "{reason}");
    // With the image here it is made. That its kernel does nothing is another matter.
    small_image::add(&id, &ours.join("civm"), scene.dir.path());
    let up = Command::new(crate::scene::CIVM)
        .args(["builder", "--dir", scene.path("run").to_str().unwrap(), "up", "big"])
        .stderr(Stdio::null())
        .spawn();
    wait_until("it boots", || (scene.view("big").state == "starting").then_some(()));
    assert!(theirs.path().join("civm/images").join(&id).join("disk.qcow2").exists());
    assert_eq!(scene.run(&["down", "big", "--now"]).0, Some(0));
    assert_eq!(up.unwrap().wait().unwrap().code(), Some(69));
    scene.end();
    let leases = scene.path("lender/state/civm/leases");
    wait_until("no lease is left", || fs::read_dir(&leases).unwrap().next().is_none().then_some(()));
}

fn guest_binary() {
    let lending = Lending { variables: "CIVM_APT_SOURCES=/no-such.list", ..Lending::default() };
    let mut scene = Scene::lending(&lending);
    let mut builder = scene.builder("far", "");
    builder.run_with.clear();
    builder.arch = if Arch::native() == Some(Arch::X86_64) { Arch::Aarch64 } else { Arch::X86_64 };
    scene.put_with(&builder, 128);
    let binary = scene.path("ours/civm-for-guests");
    fs::write(&binary, crate::played::foreign_program()).unwrap();
    scene.keep_with(&[("CIVM_GUEST_BINARY", &binary)]);
    let reason = scene.until("far", "failed").reason.unwrap();
    // What it lacks is something else.
    assert!(reason.message.contains("the image cannot be built"), "{reason}");
    assert!(!reason.message.contains("no civm for"), "{reason}");
}

/// A builder whose remote is away: who wants it waits.
fn away(scene: &Scene) -> civm::host::spec::Deployed {
    let mut builder = scene.builder("big", "plain");
    builder.on.port = free_port();
    builder.hold = Duration::from_secs(3000);
    builder
}

fn until_waiting(scene: &Scene, count: usize) {
    wait_until(&format!("{count} wait"), || (scene.view("big").waiting == count).then_some(()));
}

fn gone_from_the_port() {
    let mut scene = Scene::new();
    let port = free_port();
    let mut builder = away(&scene);
    builder.port = Some(port);
    scene.put(&builder);
    scene.keep();
    let mut stream = wait_until("it listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    // A client of ssh speaks first.
    stream.write_all(b"SSH-2.0-x\r\n").unwrap();
    until_waiting(&scene, 1);
    drop(stream);
    until_waiting(&scene, 0);
}

fn dial_ends() {
    let mut scene = Scene::new();
    scene.put(&away(&scene));
    scene.keep();
    let mut ssh = scene.ssh("big", "true").stderr(Stdio::null()).spawn().unwrap();
    until_waiting(&scene, 1);
    // As nix does where the build is not wanted any more.
    ssh.kill().unwrap();
    ssh.wait().unwrap();
    until_waiting(&scene, 0);
}

fn followers() {
    let mut scene = Scene::new();
    let mut builder = scene.builder("big", "plain");
    builder.start = civm::host::spec::Start::OnDemand;
    scene.put(&builder);
    scene.keep();
    let follow = |_| -> Child {
        let dir = scene.path("run");
        let words = ["builder", "--dir", dir.to_str().unwrap(), "logs", "-f"];
        scene.civm(&words).stdout(Stdio::null()).spawn().unwrap()
    };
    let all: Vec<Child> = (0..5).map(follow).collect();
    // The threads that answer, by their name.
    let answering = |what: &str, wanted: usize| {
        let tasks = format!("/proc/{}/task", keeper(&scene));
        wait_until(what, || {
            let names = fs::read_dir(&tasks)
                .unwrap()
                .flatten()
                .map(|task| fs::read_to_string(task.path().join("comm")));
            (names.filter(|name| name.as_ref().is_ok_and(|name| name == "ask\n")).count() == wanted)
                .then_some(())
        });
    };
    answering("all follow", all.len());
    for mut child in all {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    answering("nobody waits for them", 0);
}

fn unlisted() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "plain"));
    scene.keep();
    let since = scene.until("big", "ready").ready_since;
    let (parcels, aside) = (scene.path("parcels"), scene.path("aside"));
    fs::rename(&parcels, &aside).unwrap();
    fs::write(&parcels, "").unwrap();
    kill(pid(scene.keeper.as_ref().unwrap()), Signal::SIGHUP).unwrap();
    wait_until("it is told", || scene.log().contains("all builders stay as they are").then_some(()));
    assert_eq!(scene.view("big").ready_since, since);
    assert!(Command::new("rm").arg(&parcels).status().unwrap().success());
    fs::rename(&aside, &parcels).unwrap();
    scene.end();
    scene.nothing_is_left();
}

fn no_key() {
    let mut scene = Scene::new();
    let mut builder = scene.builder("big", "plain");
    builder.key = Some("their_key".into());
    scene.put(&builder);
    fs::write(scene.path("parcels/big/key"), "hush").unwrap();
    scene.keep();
    let (code, _, err) = scene.run(&["up", "big"]);
    assert_eq!(code, Some(1));
    assert!(
        err.starts_with("error: builder `big` cannot be made: the secret `their_key` cannot log in"),
        "{err}"
    );
    assert!(!err.contains("hush"), "{err}");
}

//! What a keeper does when something goes wrong: each fault ends with a message that names its cause.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Uid;

use crate::scene::{Lending, Scene, key, pid, scaled, told, wait_until};

pub const ALL: &[(&str, fn())] = &[
    ("a_wrong_host_key_is_refused_with_both_named", wrong_host_key),
    ("a_key_without_rights", no_rights),
    ("a_stranger_at_the_port_of_a_builder", stranger),
    ("a_stranger_at_the_port_of_this_machine", taken_port),
    ("all_that_a_remote_lacks_is_named_at_once", lacks),
    ("a_noisy_login_shell", noisy),
    ("a_login_shell_that_is_no_posix_shell", other_shells),
    ("an_account_without_a_shell", no_shell),
    ("a_directory_without_execution", noexec),
    ("an_sshd_that_forwards_nothing", no_forwarding),
    ("a_builder_without_nix", no_nix),
    ("a_newer_protocol", newer),
    ("a_machine_that_does_not_boot", no_boot),
    ("a_frozen_sshd_is_noticed", frozen),
    ("a_connection_that_is_cut_comes_back_with_the_same_keys", cut),
    ("a_remote_that_dies_is_tried_again", dies),
    ("a_killed_keeper_leaves_nothing", killed),
    ("a_remote_that_never_says_goodbye", stays),
    ("a_builder_whose_disk_takes_nothing_more_is_made_again", full),
];

/// A builder that fails, and why.
fn failure(scene: &mut Scene, name: &str) -> (String, String) {
    scene.keep();
    let reason = scene.until(name, "failed").reason.unwrap();
    let (code, _, err) = scene.run(&["up", name]);
    assert_eq!(code, Some(69), "{err}");
    assert!(err.contains(&format!("error: `{name}`: {}", reason.message)), "{err}");
    let (code, _, err) = told(scene.ssh(name, "true").output().unwrap());
    assert_eq!(code, Some(255));
    assert!(err.contains(&format!("`{name}` failed: {}", reason.message)), "{err}");
    assert_eq!(scene.machines(), "");
    scene.end();
    scene.nothing_is_left();
    (reason.message, reason.hint.unwrap_or_default())
}

fn wrong_host_key() {
    let mut scene = Scene::new();
    let mut builder = scene.builder("big", "plain");
    builder.on_public_key = key(&scene.path("ours/stranger"));
    scene.put(&builder);
    let print = |path: &str| {
        let said = Command::new("ssh-keygen").arg("-lf").arg(scene.path(path)).output().unwrap();
        String::from_utf8(said.stdout).unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };
    let (known, offered) = (print("ours/stranger.pub"), print("lender/host_key.pub"));
    let (message, hint) = failure(&mut scene, "big");
    assert!(message.contains(&known) && message.contains(&offered), "{message}");
    assert!(hint.contains("on_public_key"), "{hint}");
    assert_eq!(
        scene.log().matches("connecting to").count(),
        2,
        "once by itself, once by `up`: {}",
        scene.log()
    );
}

fn no_rights() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "plain"));
    fs::copy(scene.path("ours/other"), scene.path("parcels/big/on_key")).unwrap();
    let (message, hint) = failure(&mut scene, "big");
    assert!(message.contains("does not let us in") && message.contains("Permission denied"), "{message}");
    assert!(hint.contains("authorized_keys"), "{hint}");
}

fn stranger() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "stranger"));
    let (message, _) = failure(&mut scene, "big");
    assert!(message.starts_with("somebody else answers at the port of `big`"), "{message}");
    assert_eq!(message.matches("SHA256:").count(), 2, "{message}");
}

fn taken_port() {
    let mut scene = Scene::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut builder = scene.builder("big", "plain");
    builder.port = Some(taken.local_addr().unwrap().port());
    scene.put(&builder);
    scene.keep();
    scene.until("big", "ready");
    let warnings = scene.view("big").warnings;
    assert!(warnings.iter().any(|text| text.contains("somebody else listens there")), "{warnings:?}");
    let (code, out, err) = told(scene.ssh("big", "echo here").output().unwrap());
    assert_eq!((code, out.as_str()), (Some(0), "here\n"), "{err}");
    // It is free again: the port leads to the builder after all.
    drop(taken);
    wait_until("the port leads somewhere", || {
        std::net::TcpStream::connect(("127.0.0.1", builder.port.unwrap())).ok()
    });
}

fn lacks() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "lacks"));
    let (message, hint) = failure(&mut scene, "big");
    assert!(message.contains("(Played 1) lacks: qemu-system-x86_64; /dev/kvm"), "{message}");
    assert_eq!(hint, "sudo apt-get install qemu-system-x86\nadd lender to the group kvm");
}

/// A login shell, played by a script.
fn shell(scene_dir: &std::path::Path, script: &str) -> String {
    let path = scene_dir.join("shell");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn works(lending: &Lending, part: &str) {
    let mut scene = Scene::lending(lending);
    scene.put(&scene.builder("big", part));
    scene.keep();
    scene.until("big", "ready");
    scene.end();
    scene.nothing_is_left();
}

pub fn fails(lending: &Lending, part: &str) -> (String, String) {
    let mut scene = Scene::lending(lending);
    scene.put(&scene.builder("big", part));
    failure(&mut scene, "big")
}

pub fn shared_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn noisy() {
    let dir = shared_dir();
    let script = "#!/bin/sh\necho welcome; echo civm-remote is not this; printf '\\033[31mred'; echo\n\
                  exec sh -c \"$SSH_ORIGINAL_COMMAND\"\n";
    let shell = Some(shell(dir.path(), script));
    works(&Lending { shell, ..Lending::default() }, "chatter");
    // One without an end is not listened to for ever.
    let script = "#!/bin/sh\nexec yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n";
    let shell = Some(self::shell(dir.path(), script));
    let (message, _) = fails(&Lending { shell, ..Lending::default() }, "plain");
    assert!(message.contains("more than 64 KiB before its first word"), "{message}");
    assert!(message.contains("before that it said: aaaa"), "{message}");
}

fn other_shells() {
    let dir = shared_dir();
    let mut tried = 0;
    for other in ["/usr/bin/fish", "/bin/tcsh", "/bin/csh", "/usr/bin/xonsh", "/usr/bin/nu"] {
        if std::path::Path::new(other).exists() {
            tried += 1;
            let script = format!("#!/bin/sh\nexec {other} -c \"$SSH_ORIGINAL_COMMAND\"\n");
            works(&Lending { shell: Some(shell(dir.path(), &script)), ..Lending::default() }, "plain");
        }
    }
    if tried == 0 {
        eprintln!("skipped: none of fish, tcsh, csh, xonsh and nu is installed");
    }
}

fn no_shell() {
    let dir = shared_dir();
    let script = "#!/bin/sh\necho This account is currently not available.\nexit 1\n";
    let shell = Some(shell(dir.path(), script));
    let (message, _) = fails(&Lending { shell, ..Lending::default() }, "plain");
    assert!(message.contains("did not run civm") && message.contains("currently not available"), "{message}");
}

fn noexec() {
    let dir = shared_dir();
    let mounted = Uid::effective().is_root()
        && Command::new("mount")
            .args(["-t", "tmpfs", "-o", "noexec,mode=777", "civm-test"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("skipped: a file system cannot be mounted here");
        return;
    }
    let found = std::panic::catch_unwind(|| {
        fails(&Lending { cache: Some(dir.path().into()), ..Lending::default() }, "plain")
    });
    assert!(Command::new("umount").arg(dir.path()).status().unwrap().success());
    let (message, hint) = found.unwrap();
    assert!(message.contains("noexec"), "{message}");
    assert!(hint.contains("XDG_CACHE_HOME"), "{hint}");
}

fn no_forwarding() {
    let lending = Lending { sshd: "AllowTcpForwarding no\n", ..Lending::default() };
    let mut scene = Scene::lending(&lending);
    let mut builder = scene.builder("big", "plain");
    builder.max_jobs = Some(20);
    scene.put(&builder);
    scene.put(&scene.builder("other", "plain"));
    scene.keep();
    scene.until("big", "ready");
    // Nix is told of no more than sshd takes, and who comes besides waits for his turn.
    assert_eq!(scene.view("big").max_jobs, 8);
    let all: Vec<_> = (0..20)
        .map(|n| {
            let mut ssh = scene.ssh("big", &format!("sleep 0.3; echo {n}"));
            ssh.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for (n, child) in all.into_iter().enumerate() {
        let (code, out, err) = told(child.wait_with_output().unwrap());
        assert_eq!((code, out), (Some(0), format!("{n}\n")), "{err}");
    }
    assert!(scene.log().contains("big: the remote's sshd forwards no connections"), "{}", scene.log());
    // Nobody else's machine is led to.
    let (code, _, err) = scene.dial_there("0123", "big");
    assert_eq!((code, err.as_str()), (Some(69), "error: no machine is lent to this keeper as `big`\n"));
    wait_until("all connections are closed", || (scene.view("big").connections == 0).then_some(()));
    scene.end();
    scene.nothing_is_left();
}

fn no_nix() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "no-nix"));
    let (message, hint) = failure(&mut scene, "big");
    assert!(message.starts_with("`big` has no nix-daemon"), "{message}");
    assert!(hint.contains("nix-bin"), "{hint}");
}

fn newer() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "newer"));
    let (message, _) = failure(&mut scene, "big");
    assert!(message.ends_with("speaks protocol 99, this one 1"), "{message}");
}

fn no_boot() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "boot"));
    scene.keep();
    let view = scene.until("big", "waiting");
    assert!(view.again_in_ms.is_some_and(|wait| wait <= 60_000));
    assert!(view.reason.is_some_and(|reason| reason.message.ends_with("no init")));
    let reason = scene.until("big", "failed").reason.unwrap();
    assert_eq!(reason.hint.as_deref(), Some("look at its console"));
    assert_eq!(scene.log().matches("connecting to").count(), 3, "{}", scene.log());
}

fn frozen() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "plain"));
    scene.keep();
    scene.until("big", "ready");
    let frozen = scene.connections();
    assert!(!frozen.is_empty());
    for pid in &frozen {
        kill(*pid, Signal::SIGSTOP).unwrap();
    }
    let begun = Instant::now();
    let view = wait_until("it is noticed", || Some(scene.view("big")).filter(|view| view.state != "ready"));
    assert!(begun.elapsed() < scaled(12) + Duration::from_secs(13), "{:?}", begun.elapsed());
    let said = format!("has said nothing for {} s", scaled(12).as_secs());
    assert!(scene.log().contains(&said), "{view:?} {}", scene.log());
    for pid in &frozen {
        let _ = kill(*pid, Signal::SIGCONT);
    }
    scene.until("big", "ready");
    scene.end();
    scene.nothing_is_left();
}

fn known_hosts(scene: &Scene) -> String {
    fs::read_to_string(scene.place().known_hosts()).unwrap()
}

fn cut() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "plain"));
    scene.keep();
    scene.until("big", "ready");
    let keys = known_hosts(&scene);
    let builds = running(&scene);
    for pid in scene.connections() {
        let _ = kill(pid, Signal::SIGKILL);
    }
    let (code, _, err) = told(builds.wait_with_output().unwrap());
    let why = format!("error: `big` has ended: cannot reach {}", scene.builder("big", "").on);
    assert!(code == Some(255) && err.contains(&why), "{code:?} {err}");
    wait_until("it is noticed", || (scene.view("big").state != "ready").then_some(()));
    // Who builds now waits, and need not know.
    let (code, out, err) = told(scene.ssh("big", "echo again").output().unwrap());
    assert_eq!((code, out.as_str()), (Some(0), "again\n"), "{err}");
    assert_eq!(known_hosts(&scene), keys);
    scene.end();
    scene.nothing_is_left();
}

/// Something that runs in a builder until that ends.
fn running(scene: &Scene) -> Child {
    let mut ssh = scene.ssh("big", "echo begun; sleep 600");
    let mut ssh = ssh.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut begun = [0; 6];
    ssh.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    ssh
}

fn full() {
    for (part, free) in [("full", 3), ("read-only", 300)] {
        let mut scene = Scene::new();
        scene.put(&scene.builder("big", part));
        scene.keep();
        let reason = scene.until("big", "waiting").reason.unwrap();
        let on = scene.builder("big", "").on;
        let why = format!("nothing can be written to its disk any more: {free} MiB are free on {on}");
        assert_eq!(reason.message, why);
        assert!(reason.hint.unwrap().contains("hosts/builder/host.yaml"));
        scene.end();
        scene.nothing_is_left();
    }
}

fn dies() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "dies"));
    scene.keep();
    scene.until("big", "ready");
    let reason = scene.until("big", "waiting").reason.unwrap();
    assert!(reason.message.contains(&scene.builder("big", "").on.to_string()), "{reason}");
    scene.until("big", "ready");
}

fn killed() {
    let mut scene = Scene::new();
    scene.put(&scene.builder("big", "plain"));
    scene.keep();
    scene.until("big", "ready");
    let builds = running(&scene);
    let mut keeper = scene.keeper.take().unwrap();
    kill(pid(&keeper), Signal::SIGKILL).unwrap();
    keeper.wait().unwrap();
    let (_, _, err) = told(builds.wait_with_output().unwrap());
    assert!(err.contains("error: the keeper of builders has ended, and `big` with it"), "{err}");
    scene.nothing_is_left();
    let (code, _, err) = scene.run(&["status", "big"]);
    assert_eq!(code, Some(69), "{err}");
    assert!(err.starts_with("error: no keeper of builders runs here\n"), "{err}");
    scene.keep();
    scene.until("big", "ready");
    let (code, out, err) = told(scene.ssh("big", "echo here").output().unwrap());
    assert_eq!((code, out.as_str()), (Some(0), "here\n"), "{err}");
    scene.end();
    scene.nothing_is_left();
}

fn stays() {
    let mut scene = Scene::new();
    for name in ["a", "b", "c"] {
        scene.put(&scene.builder(name, "stays"));
    }
    scene.keep();
    for name in ["a", "b", "c"] {
        scene.until(name, "ready");
    }
    let took = scene.end();
    assert!(took < Duration::from_secs(16), "{took:?}");
    scene.nothing_is_left();
}

//! Keepers that say what they should not, and machines that lack something.

use std::process::Command;

use civm::builder::wire::{Facts, Kind, ToRemote};
use civm::edge::frame;
use civm::host::parcel::Order;
use civm::host::spec::{Arch, Require};
use civm::vm::spec::{Accel, MachineType};
use serde_json::{Value, json};

use crate::peer::{IMAGE, Peer, World, hello, hello_of, order};
use crate::scene::LONG;

fn framed(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::send(&mut bytes, value).expect("a message");
    bytes
}

fn refused(peer: &mut Peer, part: &str) {
    let (kind, message, _) = peer.failed();
    assert!(kind == Kind::Protocol && message.contains(part), "{kind:?}: {message} instead of {part}");
    peer.gone();
}

pub fn what_is_not_a_message() {
    let world = World::new();
    for (bytes, part) in [
        (vec![0xff; 8], "too long"),
        (b"\0\0\0\0".to_vec(), "empty message"),
        (b"\0\0\0\x03no!".to_vec(), "expected"),
        (b"\0\0\0\x04null".to_vec(), "expected"),
        (framed(&json!({"say": "hello"})), "missing field"),
        (framed(&json!({"say": "image-file", "name": "x", "size": 1, "sha256": ""})), "was not asked for"),
    ] {
        // As the first message, and later.
        for later in [false, true] {
            let mut peer = world.serve();
            if later {
                peer.hello(Some(order()), LONG);
                peer.facts();
            }
            peer.raw(&bytes);
            refused(&mut peer, part);
            assert_eq!(world.lease_names(), [""; 0]);
        }
    }
    // What breaks off is a keeper that is gone.
    for bytes in [b"\0\0".as_slice(), b"\0\0\x01\0{\"say\""] {
        let mut peer = world.serve();
        peer.hello(Some(order()), LONG);
        peer.facts();
        peer.raw(bytes);
        peer.hang_up();
        assert_eq!(peer.gone(), "its keeper is gone");
        assert_eq!(world.lease_names(), [""; 0]);
    }
    for (path, part) in
        [("../../etc/cron.d/x", "not a path in the share"), ("/etc/x", "not a path"), ("a\0b", "not a path")]
    {
        let mut peer = world.serve();
        peer.hello(Some(order()), LONG);
        peer.facts();
        peer.entries(&[(path, 0o644, b"x")]);
        refused(&mut peer, part);
    }
    // More than anybody keeps in memory.
    let mut peer = world.serve();
    peer.hello(Some(order()), LONG);
    peer.facts();
    peer.say(&ToRemote::Entries);
    peer.raw(&framed(&json!({"path": "host/x", "mode": 0o644, "kind": {"file": {"length": 1_u64 << 40}}})));
    refused(&mut peer, "more than");
    assert!(world.scene.processes().is_empty());
    assert_eq!(world.lease_names(), [""; 0]);
}

pub fn out_of_turn() {
    let world = World::new();
    let mut peer = world.serve();
    peer.say(&ToRemote::Start);
    refused(&mut peer, "the first message is not `hello`");
    for (messages, part) in [
        (vec![ToRemote::Start], "a start without files"),
        (vec![hello(None, LONG)], "a second `hello`"),
        (vec![ToRemote::Purge { dry_run: false }], "a purge"),
    ] {
        let mut peer = world.serve();
        peer.hello(Some(order()), LONG);
        peer.facts();
        messages.iter().for_each(|message| peer.say(message));
        refused(&mut peer, part);
    }
    // A name that would be a path.
    let mut peer = world.serve();
    peer.say(&hello_of(Some(order()), LONG, Require::Any, None, "../other"));
    refused(&mut peer, "../other");
    assert_eq!(world.lease_names(), [""; 0]);
}

pub fn newer() {
    let world = World::new();
    let mut peer = world.serve();
    let unknown = framed(&json!({"say": "dance", "steps": [1, {"two": 3}]}));
    peer.raw(&unknown);
    let mut newer = serde_json::to_value(hello(Some(order()), LONG)).expect("JSON");
    newer["more"] = json!({"than": "known"});
    peer.raw(&framed(&newer));
    peer.facts();
    peer.raw(&unknown);
    peer.say(&ToRemote::Stop { now: true });
    peer.gone();
    newer["protocol"] = json!(99);
    let mut peer = world.serve();
    peer.raw(&framed(&newer));
    let (kind, message, hint) = peer.failed();
    assert!(
        kind == Kind::Protocol && message.contains("speaks protocol 1") && message.contains("99"),
        "{message}"
    );
    assert!(hint.is_some());
    peer.gone();
}

/// What a serve finds whose state is in a small file system of its own; none where that cannot be had here.
fn in_small(world: &World, options: &str) -> Option<(Peer, Facts)> {
    let script = format!("mount -t tmpfs -o {options} none \"$0\" && exec \"$1\" remote serve");
    let mut peer = in_namespace(world, &script)?;
    peer.hello(Some(order()), LONG);
    let facts = peer.facts();
    Some((peer, facts))
}

/// A serve that a script runs, in mounts of its own: `$0` is where it has its state, `$1` this program.
fn in_namespace(world: &World, script: &str) -> Option<Peer> {
    let state = world.scene.directory().join("small");
    std::fs::create_dir_all(&state).expect("a directory");
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(&state).arg(program);
    let mut probe = Command::new("unshare");
    let probe =
        probe.args(["--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none"]).arg(&state);
    if !probe.status().is_ok_and(|status| status.success()) {
        println!("skipped: a full disk (no mounts in a namespace here)");
        return None;
    }
    let environment = world.scene.environment.clone().with("XDG_STATE_HOME", &state);
    Some(Peer::of(command, &environment))
}

pub fn a_full_disk() {
    let world = World::new();
    let Some((mut peer, facts)) = in_small(&world, "size=2m") else { return };
    let disk = facts.missing.iter().find(|missing| missing.kind == Kind::Disk).expect("it is named");
    assert!(disk.what.contains("only ") && disk.remedy.contains("make room"), "{disk:?}");
    let (_, message, hint) = peer.failed();
    assert!(message.contains(&disk.what) && hint.expect("a hint").contains(&disk.remedy));
    peer.gone();
    // There is room, but not for another file: the state directory itself takes two.
    let Some((mut peer, facts)) = in_small(&world, "size=2g,nr_inodes=4") else { return };
    assert!(facts.missing.is_empty(), "{:?}", facts.missing);
    let (kind, message, _) = peer.failed();
    assert!(kind == Kind::Disk && message.contains("lease"), "{message}");
    peer.gone();
}

pub fn a_state_that_is_read_only() {
    let world = World::new();
    let serve = "exec \"$1\" remote serve";
    // Nothing can be made there, and nothing more where it was made before.
    let never = format!("mount -t tmpfs -o ro none \"$0\" && {serve}");
    let later = format!(
        "mount -t tmpfs none \"$0\" && mkdir -p \"$0\"/civm/leases && mount -o remount,bind,ro \"$0\" && {serve}"
    );
    for (script, has_looked) in [(never, false), (later, true)] {
        let Some(mut peer) = in_namespace(&world, &script) else { return };
        peer.hello(Some(order()), LONG);
        if has_looked {
            peer.facts();
        }
        let (kind, message, hint) = peer.failed();
        assert_eq!(kind, Kind::State, "{message}");
        assert!(message.contains("/small") && message.contains("Read-only file system"), "{message}");
        assert!(hint.expect("a hint").contains("set XDG_STATE_HOME"));
        peer.gone();
    }
}

pub fn an_archive_that_does_not_answer() {
    let mut world = World::empty();
    if world.scene.environment.clone().with_system_dirs().find_program("mmdebstrap").is_none() {
        return println!("skipped: an archive that does not answer (mmdebstrap is not installed)");
    }
    let sources = world.scene.directory().join("away.list");
    std::fs::write(&sources, "deb http://127.0.0.1:1/debian bookworm main\n").expect("a file");
    world.scene.environment = world.scene.environment.clone().with("CIVM_APT_SOURCES", &sources);
    let mut peer = world.serve();
    peer.say(&hello_of(Some(order()), LONG, Require::Any, None, "big"));
    let facts = peer.facts();
    if !facts.missing.is_empty() {
        let what: Vec<_> = facts.missing.iter().map(|missing| missing.what.as_str()).collect();
        return println!("skipped: an archive that does not answer ({})", what.join("; "));
    }
    peer.start();
    let (kind, message, hint) = peer.failed();
    assert_eq!(kind, Kind::Archive, "{message}");
    assert!(message.contains("127.0.0.1:1") && message.contains("Could not connect"), "{message}");
    assert!(hint.expect("a hint").contains("let that machine reach the archives"), "{message}");
    peer.gone();
    assert_eq!(world.lease_names(), [""; 0]);
}

pub fn no_kvm() {
    let world = World::new();
    let mut peer = world.serve();
    peer.say(&hello_of(Some(order()), LONG, Require::Kvm, Some(IMAGE), "big"));
    let facts = peer.facts();
    if facts.accel == Some(Accel::Kvm) {
        return println!("skipped: a builder that requires KVM where there is none (it works here)");
    }
    let (kind, message, hint) = peer.failed();
    assert!(kind == Kind::Kvm && message.contains(&facts.accel_reason), "{message}");
    assert!(hint.expect("a hint").contains("`require: any`"));
    peer.gone();
    assert_eq!(world.lease_names(), [""; 0]);
}

pub fn another_arch() {
    let world = World::new();
    let mut peer = world.serve();
    let wanted = || Order { arch: Arch::Aarch64, machine_type: MachineType::Virt, ..order() };
    peer.say(&hello_of(Some(wanted()), LONG, Require::Any, Some(IMAGE), "big"));
    peer.facts();
    // Neither the keeper has sent a civm for it, nor is there one beside this program.
    let (_, message, hint) = peer.failed();
    let hint = hint.expect("a hint");
    assert!(
        message.contains("no civm for aarch64 guests") && hint.contains("it is sent along then"),
        "{message}; {hint}"
    );
    peer.gone();
    let mut peer = world.serve();
    peer.say(&hello_of(Some(wanted()), LONG, Require::Kvm, Some(IMAGE), "big"));
    peer.facts();
    let (_, message, _) = peer.failed();
    assert!(!message.contains("no civm for"), "it would be of no use: {message}");
    let has_qemu = world.scene.environment.find_program(Arch::Aarch64.qemu()).is_some();
    let wrong =
        if has_qemu { "the machine is x86_64, and the builder aarch64" } else { "`qemu-system-aarch64`" };
    assert!(message.contains(wrong), "{message}");
    peer.gone();
}

pub fn missing() {
    let mut world = World::empty();
    world.scene.environment = world.scene.environment.clone().with("PATH", "/nonexistent");
    let mut peer = world.serve();
    let wanted = Order { memory_mib: 1 << 30, ..order() };
    peer.say(&hello_of(Some(wanted), LONG, Require::Any, None, "big"));
    let facts = peer.facts();
    let kinds: Vec<Kind> = facts.missing.iter().map(|missing| missing.kind).collect();
    assert_eq!(kinds, [Kind::Tools, Kind::Memory, Kind::Image], "{:?}", facts.missing);
    assert!(facts.missing.iter().all(|missing| !missing.remedy.is_empty()));
    let (_, message, hint) = peer.failed();
    for part in
        ["`qemu-system-x86_64`", "1073741824 MiB of memory", "the image cannot be built", "no-such.list"]
    {
        assert!(message.contains(part), "{message}");
    }
    assert!(hint.expect("a hint").lines().count() >= 3);
    peer.gone();
}

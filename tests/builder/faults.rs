//! Keepers, serves and machines that die.

use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use civm::builder::wire::{FromRemote, Kind, ToRemote};
use civm::edge::frame;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::peer::{World, drain, ends, hello, order, unread};
use crate::scene::{LONG, wait_until};

pub fn the_pipe_ends() {
    let world = World::new();
    let (mut peer, port) = world.started(LONG);
    peer.hang_up();
    peer.ends();
    world.assert_gone(port);
}

pub fn the_pipe_ends_at_any_moment() {
    let world = World::new();
    let begun = Instant::now();
    let (mut peer, port) = world.started(LONG);
    let start = begun.elapsed();
    peer.hang_up();
    peer.ends();
    world.assert_gone(port);
    for point in 0..8 {
        let mut peer = world.serve();
        let until = Instant::now() + start * point * 5 / 32;
        peer.hello(Some(order()), LONG);
        peer.start();
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        // Half of them are told to end, the others are left alone.
        if point % 2 == 0 {
            peer.say(&ToRemote::Stop { now: true });
        }
        peer.hang_up();
        peer.ends();
        wait_until("every process is gone", || world.scene.processes().is_empty());
        assert_eq!(world.lease_names(), [""; 0], "at {point} of 8");
    }
}

pub fn silence() {
    let world = World::new();
    let ttl = Duration::from_secs(2);
    let mut peer = world.serve();
    peer.hello(Some(order()), ttl);
    peer.start();
    let mut port = None;
    let mut until = Instant::now() + LONG;
    // Who says something is not silent.
    while Instant::now() < until {
        peer.say(&ToRemote::Ping { n: 1 });
        match peer.hear_within(Duration::from_millis(100)) {
            Some(FromRemote::Started { port: chosen, .. }) => {
                port = Some(chosen);
                until = Instant::now() + ttl * 3 / 2;
            }
            Some(FromRemote::Gone { reason, .. }) => panic!("{reason}"),
            _ => {}
        }
    }
    assert!(!world.scene.processes().is_empty());
    let silent = Instant::now();
    let reason = peer.gone();
    assert!(reason.starts_with("its keeper was silent for "), "{reason}");
    assert!(silent.elapsed() > ttl / 2);
    world.assert_gone(port.expect("it was started"));
}

pub fn a_full_pipe() {
    let world = World::new();
    let mut command = Command::new("/proc/self/exe");
    let mut child = unread(command.args(["remote", "serve"]), &world.scene.environment);
    let mut to = child.stdin.take().expect("its input");
    let mut begin = Vec::new();
    frame::send(&mut begin, &hello(Some(order()), LONG)).expect("a message");
    to.write_all(&begin).expect("it listens");
    wait_until("it has a lease", || !world.lease_names().is_empty());
    // It is asked and asked, and nobody reads the answers.
    let mut ping = Vec::new();
    frame::send(&mut ping, &ToRemote::Ping { n: 7 }).expect("a message");
    let until = Instant::now() + LONG;
    while to.write_all(&ping).is_ok() {
        assert!(Instant::now() < until, "it goes on for ever");
    }
    ends(&mut child);
    assert_eq!(world.lease_names(), [""; 0]);
    drain(child.stdout.take().expect("its output"));
}

pub fn killed() {
    let world = World::new();
    let (mut living, kept) = world.started(LONG);
    let [of_living] = &world.lease_names()[..] else { panic!("one lease") };
    let (mut peer, port) = world.started(LONG);
    peer.child.kill().expect("it is there");
    peer.ends();
    wait_until("the port is free", || std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    assert_eq!(world.lease_names().len(), 2, "nobody has swept it yet");
    let mut next = world.serve();
    next.hello(None, LONG);
    let facts = next.facts();
    let [swept] = &facts.swept[..] else { panic!("{:?}", facts.swept) };
    assert_ne!(swept, of_living);
    assert_eq!(world.lease_names(), std::slice::from_ref(of_living));
    assert!(std::net::TcpStream::connect(("127.0.0.1", kept)).is_ok(), "the other one goes on");
    living.say(&ToRemote::Stop { now: true });
    living.gone();
    world.assert_gone(kept);
}

pub fn killed_with_a_guest_that_takes_its_time() {
    let world = World::played("power_down() { sleep 60; exit 0; }");
    let mut peer = world.ready();
    let begun = Instant::now();
    peer.child.kill().expect("it is there");
    peer.ends();
    wait_until("every process is gone", || world.scene.processes().is_empty());
    // Less than a guest has that is asked to power off.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(world.scene.staged_keys().is_empty());
}

pub fn killed_while_it_receives() {
    let world = World::empty();
    let mut peer = world.serve();
    peer.hello(Some(order()), LONG);
    peer.facts();
    peer.wait("a call for the image", |message| matches!(message, FromRemote::NeedImage).then_some(()));
    let images = world.cache().join("images");
    let unfinished = || {
        let entries = std::fs::read_dir(&images).expect("a cache").flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".building-")).count()
    };
    assert_eq!(unfinished(), 1);
    peer.child.kill().expect("it is there");
    peer.ends();
    assert_eq!((unfinished(), world.lease_names().len()), (1, 1));
    let mut next = world.serve();
    next.hello(None, LONG);
    assert_eq!(next.facts().swept.len(), 1);
    assert_eq!((unfinished(), world.lease_names().len()), (0, 0));
}

pub fn the_machine_ends() {
    // What powers off runs beside the script itself.
    let world = World::played("guest() { ready; sleep 0.5; (power_down); kill $$; }");
    let mut peer = world.ready();
    let (kind, message, _) = peer.failed();
    assert_eq!((kind, message.as_str()), (Kind::Ended, "the machine ended: the guest powered off"));
    peer.gone();
    assert_eq!(world.lease_names(), [""; 0]);
    // QEMU is killed.
    let world = World::played("");
    let mut peer = world.ready();
    world.scene.kill("qemu-system-x86_64 -name", Signal::SIGKILL);
    let (kind, message, _) = peer.failed();
    assert!(kind == Kind::Ended && message.contains("SIGKILL"), "{message}");
    peer.gone();
    assert_eq!(world.lease_names(), [""; 0]);
}

pub fn the_guest_fails() {
    let world = World::played(r#"guest() { tell failed ',"message":"no share"'; }"#);
    let mut peer = world.serve();
    peer.hello(Some(order()), LONG);
    peer.facts();
    peer.start();
    peer.port();
    let (kind, message, _) = peer.failed();
    assert!(kind == Kind::Boot && message.starts_with("the guest failed: no share"), "{message}");
    peer.gone();
    wait_until("every process is gone", || world.scene.processes().is_empty());
    assert_eq!(world.lease_names(), [""; 0]);
}

pub fn frozen() {
    let world = World::played("");
    let mut peer = world.ready();
    let mut n = 0;
    let mut runs = || {
        n += 1;
        peer.say(&ToRemote::Ping { n });
        peer.wait("a pong", |message| match message {
            FromRemote::Pong(pong) if pong.n == n => Some(pong.qemu),
            _ => None,
        })
    };
    assert!(runs());
    world.scene.kill("qemu-system-x86_64 -name", Signal::SIGSTOP);
    let until = Instant::now() + LONG;
    while runs() {
        assert!(Instant::now() < until, "nobody sees it");
    }
    peer.say(&ToRemote::Stop { now: true });
    peer.gone();
    wait_until("every process is gone", || world.scene.processes().is_empty());
    assert_eq!(world.lease_names(), [""; 0]);
}

pub fn hung() {
    let mut world = World::played("");
    // So that nobody waits as long as usual.
    world.scene.environment = world.scene.environment.clone().with("CIVM_TIMEOUT_SCALE", "0.2");
    let mut peer = world.ready();
    world.scene.kill("__supervisor", Signal::SIGSTOP);
    peer.say(&ToRemote::Stop { now: true });
    assert_eq!(peer.gone(), "as asked");
    wait_until("every process is gone", || world.scene.processes().is_empty());
    assert_eq!(world.lease_names(), [""; 0]);
}

pub fn hurried() {
    // A guest that takes its time.
    let world = World::played("power_down() { sleep 60; exit 0; }");
    let mut peer = world.ready();
    let begun = Instant::now();
    peer.say(&ToRemote::Stop { now: false });
    std::thread::sleep(Duration::from_millis(500));
    peer.say(&ToRemote::Ping { n: 5 });
    peer.wait("a pong", |message| matches!(message, FromRemote::Pong(pong) if pong.n == 5).then_some(()));
    peer.say(&ToRemote::Stop { now: true });
    peer.gone();
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    wait_until("every process is gone", || world.scene.processes().is_empty());
    // One that is told to end by its system does the same as one whose keeper is gone.
    let world = World::new();
    let (mut peer, port) = world.started(LONG);
    kill(Pid::from_raw(i32::try_from(peer.child.id()).expect("a pid")), Signal::SIGTERM).expect("it is ours");
    assert_eq!(peer.gone(), "it was told to end");
    world.assert_gone(port);
}

//! What a keeper wants, and gets.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use civm::builder::wire::{FromRemote, ImageState, Kind, Pong, ToRemote};
use civm::edge::hex;
use civm::image::sent;
use civm::vm::spec::Accel;
use sha2::{Digest as _, Sha256};

use crate::peer::{IMAGE, Peer, World, order};
use crate::scene::{LONG, wait_until};

/// A guest that takes its key, is ready, and says how it is.
const GUEST: &str = r#"guest() {
    show "key: $(cat $key)"
    tell key-taken
    ready
    while read -r line <&$agent; do
        [[ $line == *'"ask"'* ]] || continue
        id=${line##*'"id":'} id=${id%%,*}
        tell answer ",\"id\":$id,\"answer\":{\"answer\":\"report\",\"uptime_ms\":1,\"load\":[150,0,0],\"memory_kib\":1,\"memory_available_kib\":1,\"swap_kib\":0,\"swap_free_kib\":0,\"disk_kib\":9000000,\"disk_available_kib\":2097152}"
    done
}"#;

fn pong(peer: &mut Peer, n: u64) -> Pong {
    peer.say(&ToRemote::Ping { n });
    loop {
        if let FromRemote::Pong(pong) = peer.hear().expect("it answers")
            && pong.n == n
        {
            return pong;
        }
    }
}

pub fn until_it_is_given_back() {
    let world = World::played(GUEST);
    let mut peer = world.serve();
    peer.hello(Some(order()), LONG);
    let facts = peer.facts();
    assert_eq!((facts.image, facts.missing.len(), facts.leases.len()), (ImageState::Present, 0, 0));
    assert!(facts.cpus > 0 && facts.memory_mib > 0 && facts.disk_mib > 0 && !facts.os.is_empty());
    assert!(!facts.accel_reason.is_empty());
    let before = pong(&mut peer, 1);
    assert!(!before.qemu && !before.agent && before.remote_disk_free_mib.is_some());
    peer.start();
    let (port, accel, reason) = peer.wait("its start", |message| match message {
        FromRemote::Started { port, accel, reason } => Some((*port, *accel, reason.clone())),
        _ => None,
    });
    assert_eq!((port, accel), (40123, Accel::Tcg));
    assert!(!reason.is_empty());
    peer.ready();
    let pong = pong(&mut peer, 2);
    assert!(pong.qemu && pong.agent, "{pong:?}");
    assert_eq!((pong.load_centi, pong.disk_free_mib), (Some(150), Some(2048)));
    let [lease] = &world.lease_names()[..] else { panic!("one lease") };
    let record = fs::read_to_string(world.leases().join(lease).join("lease.json")).expect("a record");
    assert!(record.contains("40123"), "{record}");
    // The disk is gone already: QEMU has it open.
    assert!(!world.leases().join(lease).join("big/ephemeral.qcow2").exists());
    // The control socket, the logs and the share know nothing of a second one.
    let mut second = world.serve();
    second.hello(None, LONG);
    let facts = second.facts();
    assert_eq!(facts.swept, [""; 0]);
    assert_eq!(
        facts.leases.iter().map(|lease| (&lease.id, lease.port)).collect::<Vec<_>>(),
        [(lease, Some(port))]
    );
    second.say(&ToRemote::Stop { now: true });
    assert_eq!(second.gone(), "as asked");
    peer.say(&ToRemote::Stop { now: false });
    assert_eq!(peer.gone(), "as asked");
    wait_until("every process is gone", || world.scene.processes().is_empty());
    assert_eq!(world.lease_names(), [""; 0]);
    assert!(world.scene.staged_keys().is_empty());
}

/// Sends an image as a keeper does; `spoil` changes what is said of a file.
fn send(peer: &mut Peer, from: &World, spoil: impl Fn(&str, &mut Vec<u8>)) {
    let cache = from.scene.directory().join("keepers");
    from.add_image(&cache);
    for (name, path) in sent::files(IMAGE, &cache, &from.scene.environment).expect("an image") {
        let mut bytes = fs::read(path).expect("a file");
        let sha256 = hex::encode(&Sha256::digest(&bytes));
        spoil(&name, &mut bytes);
        let mut message = Vec::new();
        let said = ToRemote::ImageFile { name, size: bytes.len() as u64, sha256 };
        civm::edge::frame::send(&mut message, &said).expect("a message");
        message.write_all(&bytes).expect("memory");
        peer.raw(&message);
    }
}

fn need_image(peer: &mut Peer) {
    peer.wait("a call for the image", |message| matches!(message, FromRemote::NeedImage).then_some(()));
}

pub fn an_image_is_sent() {
    let mut world = World::empty();
    world.scene.play(GUEST);
    let mut peer = world.serve();
    peer.hello(Some(order()), LONG);
    assert_eq!(peer.facts().image, ImageState::Absent);
    need_image(&mut peer);
    // It waits for the image, whenever it is asked to start.
    peer.start();
    send(&mut peer, &world, |_, _| {});
    peer.port();
    peer.ready();
    peer.say(&ToRemote::Stop { now: true });
    peer.gone();
    // It stays for the next one.
    let mut peer = world.serve();
    peer.hello(Some(order()), LONG);
    assert_eq!(peer.facts().image, ImageState::Present);
    peer.hang_up();
    peer.ends();
    assert_eq!(world.lease_names(), [""; 0]);
}

pub fn an_image_is_sent_once() {
    let mut world = World::empty();
    world.scene.play(GUEST);
    let mut first = world.serve();
    first.hello(Some(order()), LONG);
    need_image_after_facts(&mut first);
    let mut second = world.serve();
    second.hello(Some(order()), LONG);
    assert_eq!(second.facts().image, ImageState::Absent);
    second.start();
    second.wait("that it waits", |message| match message {
        FromRemote::Progress { phase, .. } => phase.starts_with("waiting for another civm").then_some(()),
        _ => None,
    });
    assert_eq!(pong(&mut second, 1).n, 1);
    send(&mut first, &world, |_, _| {});
    // It was not asked for it.
    second.port();
    second.ready();
    for mut peer in [first, second] {
        peer.say(&ToRemote::Stop { now: true });
        peer.gone();
    }
    assert_eq!(world.lease_names(), [""; 0]);
}

pub fn a_wrong_image_is_refused() {
    let world = World::empty();
    let mut peer = world.serve();
    peer.hello(Some(order()), LONG);
    need_image_after_facts(&mut peer);
    send(&mut peer, &world, |name, bytes| {
        if name == "kernel" {
            bytes[0] ^= 1;
        }
    });
    let (kind, message, _) = peer.failed();
    assert!(kind == Kind::Image && message.contains("SHA-256") && message.contains("kernel"), "{message}");
    peer.gone();
    let left: Vec<_> = fs::read_dir(world.cache().join("images")).expect("a cache").flatten().collect();
    assert!(left.iter().all(|entry| entry.path().extension().is_some_and(|end| end == "lock")), "{left:?}");
    assert_eq!(world.lease_names(), [""; 0]);
    // A keeper that goes in the middle leaves nothing either.
    let mut peer = world.serve();
    peer.hello(Some(order()), LONG);
    need_image_after_facts(&mut peer);
    let message = ToRemote::ImageFile { name: "contents.json".to_owned(), size: 100, sha256: String::new() };
    peer.say(&message);
    peer.hang_up();
    peer.ends();
    let left: Vec<_> = fs::read_dir(world.cache().join("images")).expect("a cache").flatten().collect();
    assert!(left.iter().all(|entry| entry.path().extension().is_some_and(|end| end == "lock")), "{left:?}");
}

fn need_image_after_facts(peer: &mut Peer) {
    assert_eq!(peer.facts().image, ImageState::Absent);
    need_image(peer);
}

pub fn who_only_looks() {
    let world = World::alone();
    let mut peer = world.serve();
    peer.hello(None, LONG);
    let facts = peer.facts();
    assert_eq!(facts.image, ImageState::None);
    let image = world.cache().join("images").join(IMAGE);
    assert!(
        facts.kept.iter().any(|(name, bytes)| *name == image.display().to_string() && *bytes > 0),
        "{:?}",
        facts.kept
    );
    assert_eq!(pong(&mut peer, 3).n, 3);
    peer.say(&ToRemote::Start);
    assert_eq!(peer.failed().0, Kind::Protocol);
    peer.gone();
    assert!(!world.leases().exists(), "who looks takes no lease");
}

pub fn what_is_kept_is_purged() {
    let world = World::alone();
    let binary = world.cache().join("bin").join("ab".repeat(32));
    let other = world.cache().join("bin/other");
    fs::create_dir(world.cache().join("bin")).expect("a directory");
    fs::copy(std::env::current_exe().expect("a path"), &binary).expect("a file");
    fs::write(&other, "not ours").expect("a file");
    // What somebody uses stays, and it is said who.
    let mut command = Command::new(&binary);
    command.args(["remote", "serve"]);
    let mut user = Peer::of(command, &world.scene.environment);
    user.hello(Some(order()), LONG);
    user.facts();
    user.start();
    let port = user.port();
    let mut peer = world.serve();
    peer.hello(None, LONG);
    peer.facts();
    peer.say(&ToRemote::Purge { dry_run: true });
    for kept in [&binary, &world.cache().join("images").join(IMAGE)] {
        let wanted = format!("{} stays: it is in use by ", kept.display());
        peer.wait("a warning", |message| match message {
            FromRemote::Warning { message } => message.starts_with(&wanted).then_some(()),
            _ => None,
        });
    }
    user.say(&ToRemote::Stop { now: true });
    user.gone();
    world.assert_gone(port);
    let shown = peer.wait("a purge", |message| match message {
        FromRemote::Purged { paths, .. } => Some(paths.clone()),
        _ => None,
    });
    assert_eq!(shown, [""; 0]);
    let mut purge = |dry_run| {
        peer.say(&ToRemote::Purge { dry_run });
        peer.wait("a purge", |message| match message {
            FromRemote::Purged { paths, bytes } => Some((paths.clone(), *bytes)),
            _ => None,
        })
    };
    let shown = purge(true);
    assert!(shown.1 > 0 && binary.exists());
    let image = world.cache().join("images").join(IMAGE);
    assert_eq!(shown.0, [&binary, &image].map(|path| path.display().to_string()));
    assert_eq!(purge(false), shown);
    assert!(!binary.exists() && !image.exists() && other.exists());
    assert_eq!(purge(false), (Vec::new(), 0));
}

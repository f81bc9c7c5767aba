//! The keeper's end of the pipe, and the world that a serve works in.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Once, OnceLock};
use std::time::{Duration, Instant};

use civm::builder::wire::{Facts, FromRemote, Kind, Owner, PROTOCOL, ToRemote};
use civm::edge::environment::Environment;
use civm::edge::frame;
use civm::host::parcel::Order;
use civm::host::spec::{Arch, Require};
use civm::vm::network::Network;
use civm::vm::spec::MachineType;
use serde_json::json;

use crate::scene::{KEY, LONG, Scene, wait_until};
use crate::small_image;

/// The name of the image.
pub const IMAGE: &str = "0123456789abcdef0123456789abcdef";
/// The files of the share.
pub const FILES: [(&str, u32, &[u8]); 2] = [(KEY, 0o400, b"private"), ("host/layer.json", 0o400, b"{}")];

/// Where a serve works: state and cache of its own, and an image whose kernel is the smallest.
pub struct World {
    pub scene: Scene,
}

/// A cache with the image that most worlds share: an initrd of this program is a large file.
static SHARED: OnceLock<PathBuf> = OnceLock::new();
static FILLED: Once = Once::new();

/// Runs the cases with such a cache, and removes it.
pub fn with_shared_cache<T>(run: impl FnOnce() -> T) -> T {
    let directory = tempfile::tempdir().expect("a directory");
    // QEMU's own user has to find what is in it.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    SHARED.set(directory.path().to_owned()).expect("it is set once");
    run()
}

impl World {
    /// With the image in a cache that others use as well.
    pub fn new() -> Self {
        let mut world = Self::empty();
        let shared = SHARED.get().expect("it is set");
        FILLED.call_once(|| world.add_image(&shared.join("civm")));
        world.scene.environment = world.scene.environment.clone().with("XDG_CACHE_HOME", shared);
        world
    }

    /// With the image in a cache of its own.
    pub fn alone() -> Self {
        let world = Self::empty();
        world.add_image(&world.cache());
        world
    }

    /// The same with a machine that a script plays.
    pub fn played(guest: &str) -> Self {
        let mut world = Self::new();
        world.scene.play(guest);
        world
    }

    /// Without an image, and without a way to build one.
    pub fn empty() -> Self {
        let mut scene = Scene::new();
        let none = scene.directory().join("no-such.list");
        scene.environment = scene.environment.clone().with("CIVM_APT_SOURCES", none);
        Self { scene }
    }

    pub fn cache(&self) -> PathBuf {
        self.scene.directory().join("cache/civm")
    }

    pub fn leases(&self) -> PathBuf {
        self.scene.directory().join("state/civm/leases")
    }

    /// The names of the leases.
    pub fn lease_names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.leases()).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Puts the image into a cache, as a keeper would send it.
    pub fn add_image(&self, cache: &Path) {
        small_image::add(IMAGE, cache, self.scene.directory());
    }

    /// A serve, greeted.
    pub fn serve(&self) -> Peer {
        let mut command = Command::new("/proc/self/exe");
        command.args(["remote", "serve"]);
        Peer::of(command, &self.scene.environment)
    }

    /// A serve whose machine runs: its port leads to the guest's sshd.
    pub fn started(&self, ttl: Duration) -> (Peer, u16) {
        let mut peer = self.serve();
        peer.hello(Some(order()), ttl);
        peer.facts();
        peer.start();
        let port = peer.port();
        assert!(!self.scene.processes().is_empty(), "it runs");
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(), "its port listens");
        (peer, port)
    }

    /// A serve whose machine is ready.
    pub fn ready(&self) -> Peer {
        let mut peer = self.serve();
        peer.hello(Some(order()), LONG);
        peer.facts();
        peer.start();
        peer.port();
        peer.ready();
        peer
    }

    /// Waits until no process of a machine is left.
    pub fn wait_dead(&self, port: u16) {
        wait_until("every process is gone", || self.scene.processes().is_empty());
        wait_until("the port is free", || std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
        assert!(self.scene.staged_keys().is_empty());
    }

    /// Checks that nothing of a machine is left.
    pub fn assert_gone(&self, port: u16) {
        self.wait_dead(port);
        assert_eq!(self.lease_names(), [""; 0]);
    }
}

/// The machine that is wanted.
pub fn order() -> Order {
    Order {
        host: "builder".to_owned(),
        arch: Arch::X86_64,
        machine_type: MachineType::Q35,
        cpus: 1,
        memory_mib: 128,
        disk_mib: 128,
        network: Network::None,
        suite: None,
        packages: Vec::new(),
        console_log: false,
    }
}

pub fn hello(order: Option<Order>, ttl: Duration) -> ToRemote {
    hello_of(order, ttl, Require::Any, Some(IMAGE), "big")
}

/// The same of a keeper that requires something, has an image or none, and calls its builder something.
pub fn hello_of(
    order: Option<Order>,
    ttl: Duration,
    require: Require,
    image: Option<&str>,
    builder: &str,
) -> ToRemote {
    let text = |text: &str| text.to_owned();
    ToRemote::Hello {
        protocol: PROTOCOL,
        civm: text("0"),
        owner: Owner { keeper: text("k"), host: text("h"), project: text("p"), builder: text(builder) },
        ttl_ms: u64::try_from(ttl.as_millis()).expect("a time"),
        order,
        require,
        image: image.map(text),
    }
}

/// A serve at the other end of two pipes.
pub struct Peer {
    pub child: Child,
    to: Option<ChildStdin>,
    from: Receiver<FromRemote>,
}

impl Peer {
    pub fn of(mut command: Command, environment: &Environment) -> Self {
        let mut child = unread(&mut command, environment);
        let mut from = BufReader::new(child.stdout.take().expect("its output"));
        let mut greeting = String::new();
        from.read_line(&mut greeting).expect("a greeting");
        assert_eq!(greeting, format!("civm-remote {PROTOCOL}\n"));
        let (send, received) = channel();
        std::thread::spawn(move || {
            while let Ok(Some(message)) = frame::receive(&mut from) {
                if send.send(message).is_err() {
                    return;
                }
            }
        });
        Self { to: child.stdin.take(), child, from: received }
    }

    pub fn say(&mut self, message: &ToRemote) {
        frame::send(self.to.as_mut().expect("its input"), message).expect("it listens");
    }

    /// Sends bytes as they are; one that has ended does not take them.
    pub fn raw(&mut self, bytes: &[u8]) {
        let _ = self.to.as_mut().expect("its input").write_all(bytes);
    }

    pub fn hello(&mut self, order: Option<Order>, ttl: Duration) {
        self.say(&hello(order, ttl));
    }

    pub fn entries(&mut self, files: &[(&str, u32, &[u8])]) {
        self.say(&ToRemote::Entries);
        let mut bytes = Vec::new();
        for (path, mode, content) in files {
            let entry = json!({"path": path, "mode": mode, "kind": {"file": {"length": content.len()}}});
            frame::send(&mut bytes, &entry).expect("an entry");
            bytes.extend_from_slice(content);
        }
        frame::send_end(&mut bytes).expect("an end");
        self.raw(&bytes);
    }

    pub fn start(&mut self) {
        self.entries(&FILES);
        self.say(&ToRemote::Start);
    }

    /// The next thing that it says; none where it has ended.
    pub fn hear(&mut self) -> Option<FromRemote> {
        match self.from.recv_timeout(LONG) {
            Ok(message) => Some(message),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("it says nothing"),
        }
    }

    /// What it has said meanwhile, if anything.
    pub fn hear_within(&mut self, patience: Duration) -> Option<FromRemote> {
        self.from.recv_timeout(patience).ok()
    }

    /// The next thing of that kind; what tells only how far it has come is passed over.
    pub fn wait<T>(&mut self, what: &str, wanted: impl Fn(&FromRemote) -> Option<T>) -> T {
        loop {
            let message = self.hear().unwrap_or_else(|| panic!("it ended before {what}"));
            if let Some(found) = wanted(&message) {
                return found;
            }
            let passed = matches!(
                message,
                FromRemote::Progress { .. } | FromRemote::Warning { .. } | FromRemote::Pong(_)
            );
            assert!(passed, "{message:?} instead of {what}");
        }
    }

    pub fn facts(&mut self) -> Facts {
        self.wait("facts", |message| match message {
            FromRemote::Facts(facts) => Some(facts.clone()),
            _ => None,
        })
    }

    pub fn port(&mut self) -> u16 {
        self.wait("its start", |message| match message {
            FromRemote::Started { port, .. } => Some(*port),
            _ => None,
        })
    }

    pub fn ready(&mut self) {
        self.wait("readiness", |message| matches!(message, FromRemote::Ready).then_some(()));
    }

    /// Why it failed.
    pub fn failed(&mut self) -> (Kind, String, Option<String>) {
        self.wait("a failure", |message| match message {
            FromRemote::Failed { kind, message, hint } => Some((*kind, message.clone(), hint.clone())),
            _ => None,
        })
    }

    /// The reason with which it goes; it leaves nothing.
    pub fn gone(&mut self) -> String {
        let reason = self.wait("its end", |message| match message {
            FromRemote::Gone { reason, left } => {
                assert!(left.is_empty(), "{left:?}");
                Some(reason.clone())
            }
            _ => None,
        });
        assert!(self.hear().is_none(), "nothing comes after that");
        self.ends();
        reason
    }

    /// The keeper is gone.
    pub fn hang_up(&mut self) {
        self.to = None;
    }

    /// Waits until the process has ended.
    pub fn ends(&mut self) {
        ends(&mut self.child);
    }
}

pub fn ends(child: &mut Child) {
    let until = Instant::now() + LONG;
    while child.try_wait().expect("it is ours").is_none() {
        assert!(Instant::now() < until, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Whatever a failed test left running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A serve whose output nobody reads.
pub fn unread(command: &mut Command, environment: &Environment) -> Child {
    command.env_clear().envs(environment.iter());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("this program runs")
}

/// All that comes until the end.
pub fn drain(mut from: impl Read) {
    let _ = std::io::copy(&mut from, &mut std::io::sink());
}

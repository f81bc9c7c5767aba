//! A remote and its builder, played: the messages are the real ones, and so is the builder's sshd.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use civm::builder::wire::{Facts, FromRemote, ImageState, Kind, Lease, Missing, Owner, Pong, ToRemote};
use civm::edge::frame;
use civm::host::layer::{HOST_KEY, LAYER, Layer};
use civm::host::spec::Arch;
use civm::vm::spec::Accel;

/// Runs this program as the civm of a remote.
pub const REMOTE: &str = "__remote";
/// Runs it as whatever nix's ssh asks for in a builder.
pub const NIX: &str = "__nix";

/// The builder's sshd, its directory, and its lease with the lock.
struct Builder {
    sshd: Child,
    dir: PathBuf,
    lease: PathBuf,
    _lock: fs::File,
}

impl Drop for Builder {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
        let _ = fs::remove_dir_all(&self.dir);
        let _ = fs::remove_dir_all(&self.lease);
    }
}

fn facts() -> Facts {
    Facts {
        civm: "0".into(),
        arch: Arch::native().unwrap(),
        os: "Played 1".into(),
        cpus: 2,
        memory_mib: 4096,
        disk_mib: 1 << 20,
        accel: Some(Accel::Tcg),
        accel_reason: "it is played".into(),
        missing: Vec::new(),
        image: ImageState::Present,
        swept: Vec::new(),
        leases: Vec::new(),
        kept: Vec::new(),
    }
}

fn missing(kind: Kind, what: &str, remedy: &str) -> Missing {
    Missing { kind, what: what.into(), remedy: remedy.into() }
}

/// Plays a remote until its stdin ends, or its part is over.
pub fn remote(part: &str) -> ExitCode {
    let mut from = BufReader::new(std::io::stdin());
    let mut to = std::io::stdout();
    let mut say = move |message: &FromRemote| {
        let _ = frame::send(&mut to, message);
        let _ = to.flush();
    };
    if part == "chatter" {
        println!("Last login: never");
    }
    println!("civm-remote {}", if part == "newer" { 99 } else { 1 });
    let (mut of, mut files, mut builder) = (None, BTreeMap::new(), None);
    while let Ok(Some(message)) = frame::receive::<ToRemote>(&mut from) {
        match message {
            ToRemote::Hello { owner, .. } => {
                of = Some(owner);
                if part == "emulates" && !has_guest_binary() {
                    eprintln!("no civm for the guest");
                    return ExitCode::FAILURE;
                }
                let mut facts = facts();
                if part == "lacks" {
                    facts.missing = vec![
                        missing(Kind::Tools, "qemu-system-x86_64", "sudo apt-get install qemu-system-x86"),
                        missing(Kind::Kvm, "/dev/kvm", "add lender to the group kvm"),
                    ];
                }
                if part == "builds" {
                    facts.image = ImageState::Buildable;
                }
                say(&FromRemote::Facts(facts));
            }
            ToRemote::Entries => files = receive_files(&mut from),
            ToRemote::Start => {
                let Some(owner) = &of else { return ExitCode::FAILURE };
                let started = Started { port: free_port(), part, owner, files: &files };
                match started.sshd() {
                    Ok(made) => builder = Some(made),
                    Err(error) => {
                        eprintln!("no sshd: {error}");
                        return ExitCode::FAILURE;
                    }
                }
                started.tell(&mut say);
                if part == "talks" {
                    std::thread::spawn(talk);
                }
                if part == "dies" {
                    std::thread::sleep(Duration::from_millis(1500));
                    return ExitCode::FAILURE;
                }
            }
            ToRemote::Ping { n } => {
                let well = part != "faints" || !has_fainted();
                let mut pong =
                    Pong { n, qemu: well, agent: true, disk_free_mib: Some(2048), ..Pong::default() };
                pong.disk_read_only = part == "read-only";
                pong.remote_disk_free_mib = Some(if part == "full" { 3 } else { 300 });
                say(&FromRemote::Pong(pong));
            }
            ToRemote::Stop { .. } => {
                if part == "stays" {
                    // It never says that it is gone.
                    continue;
                }
                drop(builder.take());
                say(&FromRemote::Gone { reason: "stopped".into(), left: Vec::new() });
                return ExitCode::SUCCESS;
            }
            _ => {}
        }
    }
    ExitCode::SUCCESS
}

/// Whether the test wants its machine to stand still.
fn has_fainted() -> bool {
    PathBuf::from(std::env::var_os("CIVM_TEST_LEASES").unwrap()).join("../fainted").exists()
}

/// Warns without end.
fn talk() {
    let mut to = std::io::stdout();
    let long = "x".repeat(4000);
    for n in 0.. {
        let message = format!("\u{1b}[2J{n}{long}");
        if frame::send(&mut to, &FromRemote::Warning { message }).is_err() {
            return;
        }
    }
}

/// The start of a static program for the other kind of machine.
pub fn foreign_program() -> Vec<u8> {
    let machine: u16 = if Arch::native() == Some(Arch::X86_64) { 183 } else { 62 };
    let mut header = b"\x7fELF\x02\x01".to_vec();
    header.resize(64, 0);
    header[18..20].copy_from_slice(&machine.to_le_bytes());
    header
}

/// Whether a civm for guests of the other kind has been sent along.
fn has_guest_binary() -> bool {
    std::env::var_os("CIVM_GUEST_BINARY")
        .is_some_and(|path| fs::read(path).is_ok_and(|bytes| bytes == foreign_program()))
}

/// What a builder is started with.
struct Started<'a> {
    port: u16,
    part: &'a str,
    owner: &'a Owner,
    files: &'a BTreeMap<String, Vec<u8>>,
}

impl Started<'_> {
    fn tell(&self, say: &mut impl FnMut(&FromRemote)) {
        say(&FromRemote::Progress { phase: "disk".into(), done: None, total: None });
        say(&FromRemote::Started { port: self.port, accel: Accel::Tcg, reason: "it is played".into() });
        match self.part {
            "slow" => std::thread::sleep(Duration::from_secs(2)),
            "never" => return,
            "boot" => {
                let hint = Some("look at its console".into());
                say(&FromRemote::Failed { kind: Kind::Boot, message: "no init".into(), hint });
                return;
            }
            _ => {}
        }
        say(&FromRemote::Ready);
    }

    fn sshd(&self) -> std::io::Result<Builder> {
        let base = std::env::var_os("CIVM_TEST_LEASES").unwrap();
        let name = &self.owner.builder;
        let dir = PathBuf::from(base).join(name);
        fs::create_dir_all(&dir)?;
        let key = dir.join("host_key");
        fs::write(&key, &self.files[HOST_KEY])?;
        if self.part == "stranger" {
            // The same one each time.
            fs::copy(dir.join("../../host_key"), &key)?;
        }
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        let layer: Layer = serde_json::from_slice(&self.files[LAYER])?;
        let keys: Vec<String> = layer.users.iter().flat_map(|user| user.authorized_keys.clone()).collect();
        fs::write(dir.join("authorized_keys"), keys.join("\n") + "\n")?;
        let me = std::env::current_exe()?;
        let command =
            if self.part == "no-nix" { "exit 127".to_owned() } else { format!("{} {NIX}", me.display()) };
        let config = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}/authorized_keys\nPidFile none\n\
             UsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             MaxStartups 300:30:600\nForceCommand {command}\n",
            self.port,
            key.display(),
            dir.display()
        );
        fs::write(dir.join("sshd_config"), config)?;
        let (lease, lock) = self.lease()?;
        let sshd = Command::new("/usr/sbin/sshd")
            .args(["-D", "-f"])
            .arg(dir.join("sshd_config"))
            .arg("-E")
            .arg(dir.join("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Builder { sshd, dir, lease, _lock: lock })
    }

    /// A lease as the real serve has it.
    fn lease(&self) -> std::io::Result<(PathBuf, fs::File)> {
        let id = format!("{}-played", self.owner.builder);
        let state = PathBuf::from(std::env::var_os("XDG_STATE_HOME").unwrap());
        let dir = state.join("civm/leases").join(&id);
        fs::create_dir_all(&dir)?;
        let lock = fs::File::create(dir.join("lock"))?;
        lock.lock()?;
        let lease = Lease { id, owner: self.owner.clone(), since: 0, port: Some(self.port) };
        fs::write(dir.join("lease.json"), serde_json::to_vec(&lease)?)?;
        Ok((dir, lock))
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Takes the files of a share.
fn receive_files(from: &mut impl Read) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    while let Some(entry) = frame::receive::<serde_json::Value>(from).unwrap() {
        let length = entry["kind"]["file"]["length"].as_u64().unwrap_or(0);
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        from.read_exact(&mut bytes).unwrap();
        files.insert(entry["path"].as_str().unwrap().to_owned(), bytes);
    }
    files
}

/// Plays what nix's ssh runs in a builder.
pub fn nix() -> ExitCode {
    let command = std::env::var("SSH_ORIGINAL_COMMAND").unwrap_or_default();
    if command == "nix-daemon --stdio" {
        return daemon().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    if command.starts_with("nix ") {
        println!(
            r#"{{"system-features": {{"value": ["benchmark", "kvm"]}}, "extra-platforms": {{"value": ["i686-linux"]}}}}"#
        );
        return ExitCode::SUCCESS;
    }
    let status = Command::new("sh").args(["-c", &command]).status().unwrap();
    ExitCode::from(u8::try_from(status.code().unwrap_or(255)).unwrap())
}

fn daemon() -> std::io::Result<()> {
    let (mut from, mut to) = (std::io::stdin(), std::io::stdout());
    from.read_exact(&mut [0; 8])?;
    to.write_all(b"oixd\0\0\0\0\x25\x01\0\0\0\0\0\0")?;
    to.flush()?;
    from.read_exact(&mut [0; 24])?;
    to.write_all(b"\x06\0\0\0\0\0\0\x002.24.9\0\0\x01\0\0\0\0\0\0\0stla\0\0\0\0")?;
    to.flush()?;
    std::io::copy(&mut from, &mut to).map(drop)
}

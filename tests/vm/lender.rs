//! A machine that lends itself to builders: this one, as another user who is reached through an sshd on loopback.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::machine::{files, id};
use crate::support::run;

/// The user that `devshell/test` makes for it where it runs as root.
pub const USER: &str = "civm-lender";
const SSHD: &str = "/usr/sbin/sshd";

/// The user, and the sshd that leads to it.
pub struct Lender {
    sshd: Child,
    pub port: u16,
    pub uid: u32,
    pub home: PathBuf,
    /// The machine's host key, `type base64`.
    pub host_key: String,
    /// What logs in there.
    pub client_key: String,
    dir: tempfile::TempDir,
}

impl Lender {
    /// The user with nothing of an earlier run, or `None` with a word why not. `templates`: the room for them there.
    pub fn new(templates: &str) -> Option<Self> {
        let skip = |why: &str| {
            eprintln!("skipped: builders on another user's machine: {why}");
            None
        };
        if !nix::unistd::Uid::effective().is_root() {
            return skip("an sshd for another user takes root");
        }
        if !Path::new(SSHD).exists() {
            return skip("there is no sshd");
        }
        let Some(uid) = id(USER, "-u") else {
            return skip("no user civm-lender; devshell/test makes it");
        };
        let home = Path::new("/home").join(USER);
        let _ = fs::remove_dir_all(home.join(".local"));
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let key = |name: &str| {
            let path = dir.path().join(name);
            let made = ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"];
            run(Command::new("ssh-keygen").args(made).arg(&path)).ok();
            fs::read_to_string(path.with_extension("pub")).expect("a public key").trim().to_owned()
        };
        let (host_key, client) = (key("host"), key("client"));
        fs::write(dir.path().join("authorized_keys"), &client).expect("authorized keys");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nPidFile none\nUsePAM no\nStrictModes no\n\
             PasswordAuthentication no\nAllowUsers {USER}\nAuthorizedKeysFile {0}/authorized_keys\n\
             SetEnv CIVM_TEMPLATES={templates}\n",
            dir.path().display()
        );
        fs::write(dir.path().join("config"), config).expect("sshd's configuration");
        fs::create_dir_all("/run/sshd").expect("sshd's directory");
        let sshd = start(dir.path(), port);
        let client_key = fs::read_to_string(dir.path().join("client")).expect("a key");
        Some(Self { sshd, port, uid, home, host_key, client_key, dir })
    }

    /// Gives the user the images of another one, which otherwise take minutes to build.
    pub fn take_images(&self, home: &Path) {
        let cache = self.home.join(".cache/civm");
        let _ = fs::remove_dir_all(&cache);
        fs::create_dir_all(&cache).expect("a cache");
        let from = home.join(".cache/civm/images");
        run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(&cache)).ok();
        let owner = format!("{USER}:");
        run(Command::new("chown").args(["-R", &owner]).arg(self.home.join(".cache"))).ok();
    }

    /// What builders have left with the user: processes, ports, leases, files in memory.
    pub fn remains(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
            let is_theirs = status
                .lines()
                .find_map(|line| line.strip_prefix("Uid:"))
                .is_some_and(|ids| ids.split_whitespace().next() == Some(&self.uid.to_string()));
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if is_theirs && !line.is_empty() {
                found.push(format!("process {}: {line}", entry.file_name().display()));
            }
        }
        let places = [self.home.join(".local/state/civm"), format!("/dev/shm/civm-{}", self.uid).into()];
        found.extend(
            places.iter().flat_map(|place| files(place)).map(|file| format!("file {}", file.display())),
        );
        found
    }

    #[track_caller]
    pub fn nothing_remains(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        let mut remains = self.remains();
        while !remains.is_empty() && Instant::now() < until {
            thread::sleep(Duration::from_millis(100));
            remains = self.remains();
        }
        assert!(remains.is_empty(), "left with the lender:\n{}", remains.join("\n"));
    }

    /// Whether it has a template, and nobody makes one any more.
    pub fn has_template(&self) -> bool {
        let names = fs::read_dir(self.home.join(".cache/civm/templates")).into_iter().flatten().flatten();
        let is_whole = |path: PathBuf| path.join("template.json").exists() && path.join("state").exists();
        let is_there = names.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
        is_there.map(|entry| entry.path()).any(is_whole)
            && !self.remains().iter().any(|line| line.contains("__template"))
    }

    /// The process of a builder's QEMU there.
    pub fn qemu(&self) -> Option<Pid> {
        let found = self.remains().into_iter().find(|line| line.contains("qemu-system"))?;
        let number = found.strip_prefix("process ")?.split(':').next()?.parse().ok()?;
        Some(Pid::from_raw(number))
    }

    /// As if its machine lost power: all its processes are gone, and what was in memory.
    pub fn switch_off(&mut self) {
        let listener = self.sshd.id().to_string();
        let _ = Command::new("pkill").args(["-KILL", "-P", &listener]).status();
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
        let _ = Command::new("pkill").args(["-KILL", "-u", USER]).status();
        // A busy machine takes its time for that, and a lock is held as long.
        let until = Instant::now() + Duration::from_secs(20);
        while self.remains().iter().any(|line| line.starts_with("process")) && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = fs::remove_dir_all(format!("/dev/shm/civm-{}", self.uid));
    }

    /// It is back.
    pub fn switch_on(&mut self) {
        self.sshd = start(self.dir.path(), self.port);
    }

    /// A small file system below its state, until this is dropped; none where it cannot be mounted.
    pub fn small_disk(&self) -> Option<SmallDisk> {
        let at = self.home.join(".local/state");
        fs::create_dir_all(&at).expect("a directory");
        let options = format!("size=1100m,mode=700,uid={0},gid={0}", self.uid);
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).status();
        mounted.is_ok_and(|status| status.success()).then_some(SmallDisk { at })
    }
}

/// A mounted file system.
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Nothing more fits in.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.at.join("filler")).expect("a file");
        let full = std::io::copy(&mut std::io::repeat(0), &mut file).expect_err("it is small");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

/// Starts its sshd, and waits until it listens.
fn start(dir: &Path, port: u16) -> Child {
    let log = fs::File::options().create(true).append(true).open(dir.join("log")).expect("a log");
    let sshd = Command::new(SSHD)
        .args(["-D", "-e", "-f"])
        .arg(dir.join("config"))
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("sshd");
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "sshd does not listen");
        thread::sleep(Duration::from_millis(20));
    }
    sshd
}

impl Drop for Lender {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
        let _ = Command::new("pkill").args(["-KILL", "-u", USER]).status();
    }
}

/// The number of a process.
pub fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a pid"))
}

/// Makes processes stand still, until they are killed.
pub fn stop(processes: &[Pid]) {
    assert!(!processes.is_empty());
    for pid in processes {
        kill(*pid, Signal::SIGSTOP).expect("it stands still");
    }
}

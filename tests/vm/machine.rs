//! A project of its own on this machine, and a user who runs civm in it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

use crate::support::{Ran, peer, run};

/// The ordinary user that `devshell/test` makes where it runs as root.
const USER: &str = "civm-test";

/// The variable that keeps two runs apart, each with images of its own.
const BASE: &str = "CIVM_TESTS_IN";

/// Two guests at once are too many for a small machine, and ports are the machine's own.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Who runs civm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever runs the tests, where that is not root; else `civm-test`.
    Ordinary,
    Root,
}

/// A copy of the repository's project that belongs to one user.
pub struct Machine {
    uid: u32,
    gid: u32,
    pub dir: PathBuf,
    home: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A number of a user's, where there is such a user.
pub fn id(name: &str, what: &str) -> Option<u32> {
    let output = Command::new("id").args([what, name]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

impl Machine {
    /// The project in a directory of its own, or `None` with a word why not. The home, and with it the
    /// cache of images, is the same for every test of a user.
    pub fn new(who: Who, name: &str) -> Option<Self> {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let skip = |why: &str| eprintln!("skipped: {name} as {who:?}: {why}");
        if peer("qemu-system-x86_64").or_else(|| peer("qemu-system-aarch64")).is_none() {
            skip("no QEMU here");
            return None;
        }
        let root = nix::unistd::Uid::effective().is_root();
        let (uid, gid) = match who {
            Who::Root if root => (0, 0),
            Who::Root => {
                skip("the tests do not run as root");
                return None;
            }
            Who::Ordinary if root => match (id(USER, "-u"), id(USER, "-g")) {
                (Some(uid), Some(gid)) => (uid, gid),
                _ => {
                    skip("no user civm-test; devshell/test makes it");
                    return None;
                }
            },
            Who::Ordinary => (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()),
        };
        // Not below /tmp's usual cleaners, and short: sockets have short names.
        let above = std::env::var_os(BASE).map_or_else(|| "/var/tmp".into(), PathBuf::from);
        let base = above.join(format!("civm-tests-{uid}"));
        let home = base.join("home");
        let dir = base.join(name);
        let _ = fs::remove_dir_all(&dir);
        for path in [&base, &home, &dir] {
            fs::create_dir_all(path).expect("a directory for the tests");
            chown(path, Some(uid), Some(gid)).expect("the directory is the user's");
        }
        take_images(&home, uid, gid);
        copy(&repository().join("hosts"), &dir.join("hosts"));
        copy(&repository().join(".sops.yaml"), &dir.join(".sops.yaml"));
        copy(&repository().join("devshell/demo-age-key.txt"), &dir.join("demo-age-key.txt"));
        let binary = std::env::var_os("CIVM_BINARY")
            .map_or_else(|| assert_cmd::cargo::cargo_bin!("civm").into(), PathBuf::from);
        // Removed first: another test's guest may still run the old one.
        let _ = fs::remove_file(base.join("civm"));
        fs::copy(binary, base.join("civm")).expect("a copy of civm");
        own(&dir, uid, gid);
        Some(Self { uid, gid, dir, home, _turn: turn })
    }

    /// Where a test puts programs that are found before this machine's.
    pub fn programs(&self) -> PathBuf {
        self.dir.join("programs")
    }

    /// A program run as the user in the project, with nothing of the tests' own environment.
    pub fn command(&self, program: &str) -> Command {
        self.command_as(self.uid, self.gid, program)
    }

    /// The same as another user.
    pub fn command_as(&self, uid: u32, gid: u32, program: &str) -> Command {
        let mut command = if nix::unistd::Uid::effective().is_root() && uid != 0 {
            let mut command = Command::new("setpriv");
            command
                .args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command
            .current_dir(&self.dir)
            .env_clear()
            .env(
                "PATH",
                format!(
                    "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    self.programs().display()
                ),
            )
            .env("HOME", &self.home)
            .env("LC_ALL", "C.UTF-8")
            // None is made unasked, beside a test that measures or that looks for what is left.
            .env("CIVM_TEMPLATES", "0");
        for name in ["CIVM_TIMEOUT_SCALE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// civm with the demonstration's identity.
    pub fn civm(&self, args: &[&str]) -> Command {
        let mut command = self.without_identity(args);
        command.env("SOPS_AGE_KEY_FILE", self.dir.join("demo-age-key.txt"));
        command
    }

    /// civm with no identity at all.
    pub fn without_identity(&self, args: &[&str]) -> Command {
        let civm = self.dir.parent().expect("a base").join("civm");
        let mut command = self.command(&civm.to_string_lossy());
        command.args(args);
        command
    }

    /// Starts a host in the background, small enough for a small machine.
    pub fn up(&self, host: &str, more: &[&str]) -> Ran {
        let mut args = vec!["up", host, "-d", "--cpus", "2", "--memory", "2G"];
        args.extend(more);
        run(&mut self.civm(&args))
    }

    /// Waits for what a guest does after it is ready: swap, the disk's size.
    pub fn settled(&self, host: &str) {
        self.guest(host, "systemctl start civm-ready.service").ok();
    }

    /// A command in the guest, over `civm ssh`.
    pub fn guest(&self, host: &str, command: &str) -> Ran {
        run(&mut self.civm(&["ssh", host, "--", command]))
    }

    pub fn down(&self, host: &str) -> Ran {
        run(&mut self.civm(&["down", host]))
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory of the project");
        fs::write(path, text).expect("a file of the project");
        own(&self.dir, self.uid, self.gid);
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).expect("a file of the project")
    }

    /// Its owner, as chown takes it.
    pub fn owner(&self) -> String {
        format!("{}:{}", self.uid, self.gid)
    }

    /// The user's home, with the image cache and the state of instances.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Everything of these tests lies below it; its name stands in the command lines of what they start.
    pub fn base(&self) -> String {
        self.dir.parent().expect("a base").to_string_lossy().into_owned()
    }

    /// What of this user's civm is still there: processes, listening ports, mounts, files in memory.
    pub fn remains(&self) -> Vec<String> {
        let mut found = Vec::new();
        let base = self.base();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let zombie =
                fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| stat.contains(") Z "));
            // civm's own processes run the copy below the base, QEMU has its disk there.
            let ours = line.contains(&base);
            if ours && !zombie && !line.contains("setpriv") {
                found.push(format!("process {pid}: {line}"));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        found.extend(mounts.lines().filter(|line| line.contains("civm")).map(|line| format!("mount {line}")));
        if std::env::var_os(BASE).is_some() {
            // Ports, and the user's places in memory, may be another run's.
            return found;
        }
        for port in [2222, 2322, 8081] {
            if std::net::TcpListener::bind(("127.0.0.1", port)).is_err() {
                found.push(format!("port {port} is taken"));
            }
        }
        found.extend(self.files_in_memory().iter().map(|file| format!("file {}", file.display())));
        found
    }

    /// The user's files in the places in memory where instances have theirs.
    pub fn files_in_memory(&self) -> Vec<PathBuf> {
        let places = [format!("/dev/shm/civm-{}", self.uid), format!("/run/user/{}/civm", self.uid)];
        places.iter().flat_map(|place| files(Path::new(place))).collect()
    }

    #[track_caller]
    pub fn nothing_remains(&self) {
        // The kernel takes a moment to end what a killed PID 1 leaves.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(15);
        let mut remains = self.remains();
        while !remains.is_empty() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(100));
            remains = self.remains();
        }
        assert!(remains.is_empty(), "left behind:\n{}", remains.join("\n"));
    }
}

impl Drop for Machine {
    /// A failed test leaves no guest to the next one.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = run(&mut self.civm(&["down", "--all"]));
        }
    }
}

/// Gives a user who has no images those that the tests of another have built: that takes minutes.
fn take_images(home: &Path, uid: u32, gid: u32) {
    let cache = home.join(".cache/civm");
    let bases = fs::read_dir("/var/tmp").expect("/var/tmp").flatten().map(|entry| entry.path());
    let is_ours = |base: &PathBuf| {
        base.file_name().is_some_and(|name| name.to_string_lossy().starts_with("civm-tests-"))
    };
    let images = bases.filter(is_ours).map(|base| base.join("home/.cache/civm/images"));
    let Some(images) = images.into_iter().find(|images| images.is_dir()) else { return };
    if !nix::unistd::Uid::effective().is_root() || cache.join("images").exists() {
        return;
    }
    fs::create_dir_all(&cache).expect("a cache");
    let copied = Command::new("cp").args(["-a", "--reflink=auto"]).arg(images).arg(&cache).status();
    assert!(copied.is_ok_and(|status| status.success()), "the images are copied");
    let owner = format!("{uid}:{gid}");
    let owned = Command::new("chown").args(["-hR", &owner]).arg(home.join(".cache")).status();
    assert!(owned.is_ok_and(|status| status.success()), "the images are the user's");
}

/// Every file below a directory; directories and what cannot be read are passed over.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path()),
            _ => vec![entry.path()],
        })
        .collect()
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("a directory");
        for entry in fs::read_dir(from).expect("a directory").flatten() {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).expect("a copy");
    }
}

fn own(path: &Path, uid: u32, gid: u32) {
    if path.is_symlink() {
        return;
    }
    chown(path, Some(uid), Some(gid)).expect("the file is the user's");
    if path.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
        for entry in fs::read_dir(path).expect("a directory").flatten() {
            own(&entry.path(), uid, gid);
        }
    }
}

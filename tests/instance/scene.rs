//! A state directory of its own, machines in it, and the processes that belong to them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use civm::edge::environment::Environment;
use civm::instance::accel::AccelRequest;
use civm::instance::plan::{ConsoleLog, Machine, Staged};
use civm::instance::stage::Mode;
use civm::instance::state::{Home, Place, Record};
use civm::instance::{Error, Request, Running, start};
use civm::vm::network::Network;
use civm::vm::ports::Forward;
use civm::vm::spec::{Arch, Boot, MachineType};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use zeroize::Zeroizing;

use crate::{HOLD, kernel};

/// What every script that plays a machine begins with: QMP as far as civm speaks it, and helpers for the guest.
const QEMU: &str = include_str!("qemu.sh");
/// The staged secret.
pub const KEY: &str = "secrets/ssh_host_ed25519_key";
/// How long anything may take; the machine that runs the tests may be busy.
pub const LONG: Duration = Duration::from_secs(60);

/// Why instances cannot be tested here, if they cannot.
pub fn cannot_run() -> Option<String> {
    if Arch::native() != Some(Arch::X86_64) {
        return Some("the smallest kernel is one for x86_64".to_owned());
    }
    let qemu = Arch::X86_64.qemu();
    Environment::of_process().find_program(qemu).is_none().then(|| format!("`{qemu}` is not installed"))
}

/// A project with its state.
pub struct Scene {
    directory: tempfile::TempDir,
    pub environment: Environment,
    pub qemu_as_root: bool,
    /// The processes that were seen: number and start.
    seen: RefCell<BTreeSet<(i32, u64)>>,
}

impl Scene {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("kernel"), kernel::elf()).expect("a kernel");
        let environment = environment(directory.path());
        Self { directory, environment, qemu_as_root: false, seen: RefCell::default() }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// From here on QEMU is a script; `guest` defines what the guest does.
    pub fn play(&mut self, guest: &str) {
        let directory = self.directory().join("bin");
        fs::create_dir(&directory).expect("a directory");
        let program = directory.join("qemu-system-x86_64");
        fs::write(&program, QEMU).expect("a script");
        fs::write(directory.join("guest"), guest).expect("a script");
        // QEMU's own user has to read them.
        for path in [self.directory(), &directory, &program] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        let path = format!("{}:{}", directory.display(), std::env::var("PATH").expect("a PATH"));
        self.environment = self.environment.clone().with("PATH", path);
    }

    pub fn home(&self) -> Home {
        Home::find(&self.environment).expect("a home")
    }

    pub fn place(&self, host: &str) -> Place {
        self.home().project(self.directory.path()).expect("a project").place(host).expect("a place")
    }

    /// A machine with one forward.
    pub fn machine(&self, host: &str, port: u16) -> Machine {
        Machine {
            name: host.to_owned(),
            arch: Arch::X86_64,
            machine_type: MachineType::Q35,
            cpus: 1,
            memory_mib: 128,
            boot: Boot { kernel: self.directory.path().join("kernel"), initrd: None, append: Vec::new() },
            disk: None,
            forwards: vec![Forward::loopback(port, 22)],
            network: Network::None,
            share_tag: "shr".to_owned(),
            console_log: ConsoleLog::UntilReady,
            extra_arguments: Vec::new(),
        }
    }

    pub fn start(&self, machine: Machine, mode: Option<Mode>) -> Result<Running, Error> {
        let (home, place) = (self.home(), self.place(&machine.name));
        let staged = vec![Staged::bytes(KEY, 0o400, Zeroizing::new(b"private".to_vec()))];
        let request = Request {
            home: &home,
            place: &place,
            host: "host",
            machine,
            accel: AccelRequest::Tcg,
            qemu_as_root: self.qemu_as_root,
            staged,
            mode,
            environment: &self.environment,
        };
        start(request, &mut |_| {})
    }

    /// A process of its own that starts a machine and holds it.
    pub fn hold(&self, mode: Mode) -> Child {
        let mut child = self.begin_to_hold(mode);
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        assert_eq!(line, "started\n");
        child
    }

    /// The same, without waiting until it runs.
    pub fn begin_to_hold(&self, mode: Mode) -> Child {
        let mode = if mode == Mode::Namespaces { "namespaces" } else { "memory" };
        Command::new("/proc/self/exe")
            .args([HOLD, mode])
            .arg(self.directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs")
    }

    /// Living processes of this scene: callers and stages have it in their arguments. The machines are the
    /// supervisors' children: one that runs as a user of its own is given no path. Whoever was seen once is looked
    /// for ever after.
    pub fn processes(&self) -> Vec<(Pid, String)> {
        let mark = self.directory.path().to_string_lossy().into_owned();
        let mut found = Vec::new();
        let mut rest = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // Those of a dead process that nobody has waited for yet are empty.
            let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
            let Some((parent, started)) = parent_and_start(&entry.path()) else { continue };
            if arguments.contains(&mark) || self.seen.borrow().contains(&(pid, started)) {
                found.push((pid, started, arguments));
            } else {
                rest.push((pid, parent, started, arguments));
            }
        }
        for (pid, parent, started, arguments) in rest {
            let of_stage =
                |(stage, _, text): &(i32, u64, String)| *stage == parent && text.contains("__supervisor");
            if !arguments.is_empty() && found.iter().any(of_stage) {
                found.push((pid, started, arguments));
            }
        }
        self.seen.borrow_mut().extend(found.iter().map(|(pid, started, _)| (*pid, *started)));
        let living = found.into_iter().filter(|(_, _, arguments)| !arguments.is_empty());
        living.map(|(pid, _, arguments)| (Pid::from_raw(pid), arguments)).collect()
    }

    /// Kills the process of this name, and no other.
    pub fn kill(&self, name: &str, signal: Signal) {
        let processes = self.processes();
        let (pid, _) = processes.iter().find(|(_, arguments)| arguments.contains(name)).expect(name);
        kill(*pid, signal).expect("the kernel sends it");
    }

    /// Kills the process of this name if there is one.
    pub fn kill_if_there(&self, name: &str) -> bool {
        let processes = self.processes();
        let victim = processes.iter().find(|(_, arguments)| arguments.contains(name));
        victim.is_some_and(|(pid, _)| kill(*pid, Signal::SIGKILL).is_ok())
    }

    /// Where the key that [`hold`] stages can still be read, in all places where staged files may be.
    pub fn staged_keys(&self) -> Vec<PathBuf> {
        let own = nix::unistd::Uid::current();
        let mut places =
            vec![PathBuf::from(format!("/dev/shm/civm-{own}")), self.directory.path().join("state")];
        places.extend(self.environment.non_empty("XDG_RUNTIME_DIR").map(PathBuf::from));
        let files = places.iter().flat_map(walkdir::WalkDir::new).flatten().map(walkdir::DirEntry::into_path);
        let key = self.directory.path().as_os_str().as_encoded_bytes();
        files.filter(|path| fs::read(path).is_ok_and(|bytes| bytes == key)).collect()
    }

    /// Waits until no process of the scene is left, and checks that nothing else is.
    pub fn assert_gone(&self, record: &Record) {
        wait_until("every process is gone", || self.processes().is_empty());
        let port = record.forwards.first().expect("a forward").host_port;
        // The kernel closes the sockets of a killed process a moment after it took its arguments away.
        wait_until("the port is free", || std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
        wait_until("no lock is held", || !self.place(&record.name).is_alive());
        let runtime = record.runtime.as_ref().expect("a runtime directory");
        assert!(!runtime.join("share").join(KEY).exists(), "the staged key is left");
        // The next civm sweeps what a killed keeper could not.
        assert_eq!(self.home().running(), []);
        assert!(!runtime.exists(), "{} is left", runtime.display());
    }

    /// What the console has said.
    pub fn console(&self, host: &str) -> String {
        fs::read_to_string(self.place(host).console_log()).unwrap_or_default()
    }
}

/// A process's parent and when it started.
fn parent_and_start(directory: &Path) -> Option<(i32, u64)> {
    let stat = fs::read_to_string(directory.join("stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Whatever a failed test left running.
        for (pid, _) in self.processes() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

fn environment(directory: &Path) -> Environment {
    Environment::of_process()
        .with("XDG_STATE_HOME", directory.join("state"))
        .with("XDG_CACHE_HOME", directory.join("cache"))
}

/// Waits for something that comes soon.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The other side of [`Scene::hold`].
pub fn hold(arguments: &[OsString]) -> ExitCode {
    let [mode, directory] = arguments else { return ExitCode::from(2) };
    let mode = if mode == "namespaces" { Mode::Namespaces } else { Mode::Memory };
    // Only the one that made the directory removes it.
    let kept = PathBuf::from(directory);
    let environment = environment(&kept);
    let home = Home::find(&environment).expect("a home");
    let place = home.project(&kept).expect("a project").place("held").expect("a place");
    let machine = Machine {
        name: "held".to_owned(),
        arch: Arch::X86_64,
        machine_type: MachineType::Q35,
        cpus: 1,
        memory_mib: 128,
        boot: Boot { kernel: kept.join("kernel"), initrd: None, append: Vec::new() },
        disk: None,
        forwards: vec![Forward::loopback(0, 22)],
        network: Network::NoHost,
        share_tag: "shr".to_owned(),
        console_log: ConsoleLog::UntilReady,
        extra_arguments: Vec::new(),
    };
    let staged =
        vec![Staged::bytes(KEY, 0o400, Zeroizing::new(kept.as_os_str().as_encoded_bytes().to_vec()))];
    let request = Request {
        home: &home,
        place: &place,
        host: "host",
        machine,
        accel: AccelRequest::Tcg,
        qemu_as_root: false,
        staged,
        mode: Some(mode),
        environment: &environment,
    };
    match start(request, &mut |_| {}) {
        Ok(running) => {
            println!("started");
            running.wait_end(&mut |_| {});
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

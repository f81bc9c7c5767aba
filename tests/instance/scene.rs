//! A state directory of its own, machines in it, and the processes that belong to them.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use civm::edge::environment::Environment;
use civm::instance::accel::AccelRequest;
use civm::instance::control::Session;
use civm::instance::plan::{ConsoleLog, Machine, Staged};
use civm::instance::stage::Mode;
use civm::instance::state::{Home, Place, Record};
use civm::instance::{Error, Request, Running, start};
use civm::vm::agent::{Answer, Question};
use civm::vm::network::Network;
use civm::vm::ports::Forward;
use civm::vm::spec::{Arch, Boot, MachineType};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use zeroize::Zeroizing;

use crate::traces::{self, Processes};
use crate::{APPLY, HOLD, kernel};

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
    processes: Processes,
}

impl Scene {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("kernel"), kernel::elf()).expect("a kernel");
        let environment = environment(directory.path());
        let processes = Processes::of(directory.path());
        Self { directory, environment, qemu_as_root: false, processes }
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
            runner: None,
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
            template: None,
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
            // A scene may have a QEMU of its own.
            .env("PATH", self.environment.non_empty("PATH").expect("a PATH"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs")
    }

    /// A process of its own that changes the machine that [`hold`] holds, as an apply does.
    pub fn begin_to_apply(&self) -> Child {
        Command::new("/proc/self/exe")
            .arg(APPLY)
            .arg(self.directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs")
    }

    /// Living processes of this scene: callers, stages and machines.
    pub fn processes(&self) -> Vec<(Pid, String)> {
        self.processes.living()
    }

    /// Kills the process of this name, and no other.
    pub fn kill(&self, name: &str, signal: Signal) {
        let processes = self.processes();
        let (pid, _) = processes.iter().find(|(_, arguments)| arguments.contains(name)).expect(name);
        kill(*pid, signal).expect("the kernel sends it");
    }

    /// Kills the process of this name if there is one.
    pub fn kill_if_there(&self, name: &str) -> bool {
        self.processes.kill_if_there(name)
    }

    /// Where the key that [`hold`] stages can still be read.
    pub fn staged_keys(&self) -> Vec<PathBuf> {
        let own = nix::unistd::Uid::current();
        let mut places = vec![PathBuf::from(format!("/dev/shm/civm-{own}")), self.state()];
        places.extend(self.environment.non_empty("XDG_RUNTIME_DIR").map(PathBuf::from));
        traces::readable_keys(&self.key(), &places)
    }

    /// What is wrong in the state directory once everything is down.
    pub fn left_in_state(&self) -> Vec<String> {
        traces::left_in_state(&self.state())
    }

    /// The halves of files in it.
    pub fn partials(&self) -> Vec<PathBuf> {
        traces::partials(&self.state())
    }

    fn state(&self) -> PathBuf {
        self.directory().join("state")
    }

    fn key(&self) -> Vec<u8> {
        key(self.directory())
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

/// The key that [`hold`] stages: no other scene has it, and no record either.
fn key(directory: &Path) -> Vec<u8> {
    format!("the key of {}", directory.display()).into_bytes()
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
        runner: None,
        disk: None,
        forwards: vec![Forward::loopback(0, 22)],
        network: Network::NoHost,
        share_tag: "shr".to_owned(),
        console_log: ConsoleLog::UntilReady,
        extra_arguments: Vec::new(),
    };
    let staged = vec![Staged::bytes(KEY, 0o400, Zeroizing::new(key(&kept)))];
    let request = Request {
        home: &home,
        place: &place,
        host: "host",
        machine,
        accel: AccelRequest::Tcg,
        qemu_as_root: false,
        staged,
        template: None,
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

/// The other side of [`Scene::begin_to_apply`].
pub fn apply(directory: &OsString) -> ExitCode {
    let kept = PathBuf::from(directory);
    let home = Home::find(&environment(&kept)).expect("a home");
    let place = home.project(&kept).expect("a project").place("held").expect("a place");
    let changed = || {
        let record = place.running().ok().flatten().ok_or("it does not run")?;
        let mut session = Session::open(&record, LONG).map_err(|error| error.to_string())?;
        let files = (0..50)
            .map(|n| Staged::bytes(format!("host/rootfs/{n}"), 0o644, Zeroizing::new(vec![b'x'; 100_000])));
        let key = Staged::bytes(KEY, 0o400, Zeroizing::new(key(&kept)));
        let staged: Vec<Staged> = std::iter::once(key).chain(files).collect();
        session.stage(&staged, LONG).map_err(|error| error.to_string())?;
        let asked = session.ask_guest(Question::Apply { dry_run: false }, LONG);
        asked.map_err(|error| error.to_string())
    };
    match changed() {
        Ok(answer) => {
            if let Answer::Refused { reason } = answer {
                println!("{reason}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

//! A machine that lends itself, a keeper, and what a test does with them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use civm::builder::keeper::client;
use civm::builder::keeper::socket::{Request, View};
use civm::builder::place::Place;
use civm::host::layer::Layer;
use civm::host::parcel::{Order, Parcel};
use civm::host::spec::{Arch, Deployed, MachineType, Remote, Require, Start};
use civm::vm::network::Network;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use crate::played::REMOTE;
use crate::sshd::{as_lender, start_sshd};

pub const CIVM: &str = env!("CARGO_BIN_EXE_civm");
/// The user that lends its machine, where the tests run as root.
pub const LENDER: &str = "civm-test";

/// Who lends the machine.
pub fn lender() -> String {
    if Uid::effective().is_root() {
        return LENDER.to_owned();
    }
    String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_owned()
}

/// How long anything may take here.
pub fn patience() -> Duration {
    scaled(60)
}

/// So many seconds, as civm counts them here.
pub fn scaled(seconds: u64) -> Duration {
    let scale =
        std::env::var("CIVM_TIMEOUT_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0_f64);
    Duration::from_secs(seconds).mul_f64(scale)
}

/// A figure of a process, from its status: KiB, or a count.
pub fn status_of(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

pub fn wait_until<T>(what: &str, mut is: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + patience();
    loop {
        if let Some(found) = is() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

thread_local! {
    /// Of the cases that this thread runs: one of them takes away what lies there.
    static CACHE: tempfile::TempDir = {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        dir
    };
}

/// Where pushed binaries lie, for all scenes of a thread: it is pushed once.
pub fn cache() -> PathBuf {
    CACHE.with(|dir| dir.path().to_owned())
}

pub fn key(path: &Path) -> String {
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(made.success());
    let public = fs::read_to_string(path.with_extension("pub")).unwrap();
    public.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// How a machine lends itself.
#[derive(Clone, Default)]
pub struct Lending {
    /// A command that every login runs instead of its own.
    pub shell: Option<String>,
    /// Where pushed binaries go.
    pub cache: Option<PathBuf>,
    /// Directories that come first in PATH.
    pub path: Option<PathBuf>,
    /// Lines of its sshd_config.
    pub sshd: &'static str,
    /// Variables of its logins.
    pub variables: &'static str,
}

pub struct Scene {
    pub dir: tempfile::TempDir,
    sshd: Child,
    pub port: u16,
    pub host_key: String,
    pub keeper: Option<Child>,
}

impl Scene {
    pub fn new() -> Self {
        Self::lending(&Lending::default())
    }

    pub fn lending(how: &Lending) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["lender", "lender/leases", "parcels", "ours"] {
            fs::create_dir(at(name)).unwrap();
        }
        let host_key = key(&at("lender/host_key"));
        let ours = key(&at("ours/login"));
        key(&at("ours/other"));
        fs::write(at("lender/authorized_keys"), format!("{ours}\n")).unwrap();
        let port = free_port();
        let lender = dir.path().join("lender");
        let own = cache();
        let cache = how.cache.as_deref().unwrap_or(&own);
        let path = how.path.as_ref().map(|path| format!("{}:", path.display())).unwrap_or_default();
        let force = how.shell.as_ref().map(|shell| format!("ForceCommand {shell}\n")).unwrap_or_default();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host_key\nAuthorizedKeysFile {0}/authorized_keys\n\
             PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             {2}SetEnv CIVM_TEST_LEASES={0}/leases XDG_CACHE_HOME={1} XDG_STATE_HOME={0}/state PATH={path}/usr/bin:/bin {3}\n{force}",
            lender.display(),
            cache.display(),
            how.sshd,
            how.variables
        );
        fs::write(at("lender/sshd_config"), config).unwrap();
        if Uid::effective().is_root() {
            let owned = Command::new("chown").args(["-R", LENDER]).arg(&lender).status().unwrap();
            assert!(owned.success());
        }
        let sshd = start_sshd(&lender, port);
        Self { dir, sshd, port, host_key, keeper: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn place(&self) -> Place {
        Place::at(&self.path("run"))
    }

    /// A builder whose remote plays a part.
    pub fn builder(&self, name: &str, part: &str) -> Deployed {
        let me = std::env::current_exe().unwrap();
        Deployed {
            name: name.into(),
            host: "builder".into(),
            arch: Arch::native().unwrap(),
            on: Remote { user: lender(), host: "127.0.0.1".into(), port: self.port },
            on_key: Some("login".into()),
            on_public_key: self.host_key.clone(),
            user: lender(),
            key: None,
            max_jobs: Some(4),
            speed: 1,
            features: None,
            mandatory_features: Vec::new(),
            start: Start::Always,
            require: Require::Any,
            idle: Duration::from_secs(2),
            hold: Duration::from_secs(60),
            ttl: Duration::from_secs(12),
            drain: Duration::from_secs(20),
            port: None,
            run_with: vec![me.to_str().unwrap().into(), REMOTE.into(), part.into()],
        }
    }

    /// Puts a builder where a keeper finds it.
    pub fn put(&self, builder: &Deployed) {
        self.put_with(builder, 1024);
    }

    /// A machine with so much memory, in MiB.
    pub fn order(arch: Arch, memory_mib: u64) -> Order {
        Order {
            host: "builder".into(),
            arch,
            machine_type: MachineType::usual(arch),
            cpus: 2,
            memory_mib,
            disk_mib: 4096,
            network: Network::default(),
            suite: None,
            packages: Vec::new(),
            console_log: false,
        }
    }

    /// The same with so much memory, in MiB.
    pub fn put_with(&self, builder: &Deployed, memory_mib: u64) {
        let machine = Self::order(builder.arch, memory_mib);
        let parcel = Parcel { builder: builder.clone(), machine, layer: Layer::default() };
        let dir = self.path("parcels").join(&builder.name);
        fs::create_dir_all(&dir).unwrap();
        fs::copy(self.path("ours/login"), dir.join("on_key")).unwrap();
        fs::write(dir.join("parcel.json"), serde_json::to_vec(&parcel).unwrap()).unwrap();
    }

    /// Starts the keeper, and waits until it listens.
    pub fn keep(&mut self) {
        self.keep_with(&[]);
    }

    /// The same with variables.
    pub fn keep_with(&mut self, variables: &[(&str, &Path)]) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("keeper.log")).unwrap();
        let child = self
            .civm(&["builder", "--dir", self.path("run").to_str().unwrap(), "run", "--parcels"])
            .arg(self.path("parcels"))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.keeper = Some(child);
        let socket = self.place().socket();
        wait_until("the keeper listens", || client::ask(&socket, &Request::Version).ok());
    }

    pub fn civm(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CIVM);
        command.args(arguments).env_remove("CIVM_BUILDERS").env_remove("SSH_AUTH_SOCK");
        command
    }

    /// `civm builder …` to its end.
    pub fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let dir = self.path("run");
        let mut words = vec!["builder", "--dir", dir.to_str().unwrap()];
        words.extend(arguments);
        told(self.civm(&words).output().unwrap())
    }

    pub fn views(&self) -> Vec<View> {
        client::list(&self.place().socket()).unwrap()
    }

    pub fn view(&self, name: &str) -> View {
        self.views().into_iter().find(|view| view.name == name).unwrap()
    }

    /// Waits until a builder is in a state.
    pub fn until(&self, name: &str, state: &str) -> View {
        wait_until(&format!("{name} is {state}: {}", self.log()), || {
            let view = self.view(name);
            assert!(state == "failed" || view.state != "failed", "{view:#?}\n{}", self.log());
            (view.state == state).then_some(view)
        })
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("keeper.log")).unwrap_or_default()
    }

    pub fn machines(&self) -> String {
        fs::read_to_string(self.place().machines()).unwrap_or_default()
    }

    /// A command in a builder, by the way that nix takes.
    pub fn ssh(&self, name: &str, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.place().ssh_config()).args(["--", name, command]).stdin(Stdio::null());
        ssh
    }

    /// `civm remote dial` there, as somebody who is let in.
    pub fn dial_there(&self, keeper: &str, builder: &str) -> (Option<i32>, String, String) {
        let mut civm = as_lender("env");
        civm.arg(format!("XDG_STATE_HOME={}", self.path("lender/state").display()));
        civm.args([CIVM, "remote", "dial", keeper, builder]).stdin(Stdio::null());
        told(civm.output().unwrap())
    }

    /// The processes that belong to the builders of this scene.
    pub fn processes(&self) -> Vec<String> {
        let dirs = [self.path("lender/leases"), self.path("run")];
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            if dirs.iter().any(|dir| words.contains(dir.to_str().unwrap())) {
                found.push(format!("{pid} {words}"));
            }
        }
        found
    }

    /// Nothing of any builder is on the remote or here.
    pub fn nothing_is_left(&self) {
        let left = || -> Vec<_> { fs::read_dir(self.path("lender/leases")).unwrap().flatten().collect() };
        wait_until(&format!("nothing is left: {:?} {:?}", left(), self.processes()), || {
            (left().is_empty() && self.processes().is_empty()).then_some(())
        });
    }

    /// Tells the keeper to end, and waits for it.
    pub fn end(&mut self) -> Duration {
        let begun = Instant::now();
        let mut keeper = self.keeper.take().unwrap();
        kill(pid(&keeper), Signal::SIGTERM).unwrap();
        let status = wait_until("the keeper ends", || keeper.try_wait().unwrap());
        assert!(status.success(), "{status} {}", self.log());
        begun.elapsed()
    }

    /// The lender's sshd, as if its machine was away.
    pub fn stop_sshd(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }

    /// The lender's side of the connections: sshd's processes for each.
    pub fn connections(&self) -> Vec<Pid> {
        let all = Command::new("ps").args(["-eo", "pid=,ppid=,comm="]).output().unwrap();
        let text = String::from_utf8(all.stdout).unwrap();
        let rows: Vec<(i32, i32)> = text
            .lines()
            .filter(|line| line.contains("sshd"))
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
            })
            .collect();
        let mut of = vec![i32::try_from(self.sshd.id()).unwrap()];
        let mut found = Vec::new();
        while let Some(parent) = of.pop() {
            for (pid, _) in rows.iter().filter(|(_, ppid)| *ppid == parent) {
                of.push(*pid);
                found.push(Pid::from_raw(*pid));
            }
        }
        found
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
        for pid in self.connections() {
            let _ = kill(pid, Signal::SIGCONT);
        }
        self.stop_sshd();
        let until = Instant::now() + Duration::from_secs(5);
        while !self.processes().is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

pub fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

pub fn told(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

//! Builders that are real machines, and what goes wrong with them while they build: each fault ends as it is promised, says
//! why, and leaves nothing with the lender.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::controller::{expression, free_port};
use super::lender::{Lender, pid, stop};
use super::machine::{Machine, Who};
use crate::support::{run, run_with};

/// A project with a builder on the lender's machine, the keeper in the foreground, and nix.
struct Desk {
    machine: Machine,
    lender: Lender,
    nix: PathBuf,
    keeper: Option<Child>,
    begun: Instant,
}

/// A build that runs.
struct Build {
    name: String,
    child: Child,
    said: PathBuf,
}

impl Desk {
    /// With these lines as its builders; `ON` stands for what leads to the lender, `NOWHERE` for what leads to nobody.
    /// `templates`: the room that the lender has for them.
    fn new(name: &str, builders: &str, templates: &str) -> Option<Self> {
        let machine = Machine::new(Who::Ordinary, name)?;
        let nix = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers/nix"));
        if !nix.join("nix-build").exists() {
            eprintln!("skipped: builders with faults (devshell/nix has not unpacked Nix)");
            return None;
        }
        let lender = Lender::new(templates)?;
        // Where the user who runs it can read it.
        let here = PathBuf::from(machine.base()).join("nix");
        let _ = fs::remove_dir_all(&here);
        run(Command::new("cp").arg("-a").arg(nix).arg(&here)).ok();
        let secrets = "hosts/jenkins-controller/secrets.yaml";
        let set = ["secrets", "set", "--value-stdin", secrets, "remote_key"];
        run_with(&mut machine.civm(&set), lender.client_key.as_bytes()).ok();
        // Its keeper would look for those as well.
        fs::remove_dir_all(machine.dir.join("hosts/jenkins-controller-ephemeral")).expect("a host");
        for host in ["desk", "small-builder"] {
            fs::create_dir_all(machine.dir.join("hosts").join(host)).expect("a directory");
        }
        let builder = include_str!("ci/builder.yaml").replace("network: none", "network: no-host");
        machine.write("hosts/small-builder/host.yaml", &builder);
        let _ = fs::remove_dir_all(PathBuf::from(machine.base()).join("store"));
        let desk = Self { machine, lender, nix: here, keeper: None, begun: Instant::now() };
        let on = |port: u16| {
            format!(
                "deploy: small-builder, on_key: remote_key, on_public_key: {}, require: any, \
                 on: \"civm-lender@127.0.0.1:{port}\"",
                desk.lender.host_key
            )
        };
        let builders = builders.replace("ON", &on(desk.lender.port)).replace("NOWHERE", &on(free_port()));
        let text = format!(
            "extends: jenkins-controller\nsecrets: {{remote_key: {{owner: root}}}}\nnix:\n  builders:\n    builder:\n    \
             hetzarm:\n{builders}"
        );
        desk.machine.write("hosts/desk/host.yaml", &text);
        run(&mut desk.machine.civm(&["image", "build", "small-builder"])).ok();
        desk.lender.take_images(desk.machine.home());
        Some(desk)
    }

    fn told(&self, what: &str) {
        eprintln!("{:>6.1} s  {what}", self.begun.elapsed().as_secs_f32());
    }

    /// Starts the keeper. It is a process of its own, to be killed.
    fn keep(&mut self) {
        let log = fs::File::create(PathBuf::from(self.machine.base()).join("keeper.log")).expect("a log");
        let mut command = self.machine.civm(&["builder", "run"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.keeper = Some(command.spawn().expect("a keeper"));
        let keeper = self.keeper.as_ref().map(pid).expect("a keeper");
        self.until("the keeper's answer", || {
            assert!(kill(keeper, None).is_ok(), "it has ended");
            (run(&mut self.machine.civm(&["builder", "ls"])).out().contains("near")).then_some(())
        });
    }

    fn end_keeper(&mut self, signal: Signal) {
        let Some(mut keeper) = self.keeper.take() else { return };
        let _ = kill(pid(&keeper), signal);
        let _ = keeper.wait();
    }

    #[track_caller]
    fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let scale: u64 =
            std::env::var("CIVM_TIMEOUT_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        let end = Instant::now() + Duration::from_secs(120 * scale);
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < end, "{what} does not happen");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(PathBuf::from(self.machine.base()).join("keeper.log")).unwrap_or_default()
    }

    fn view(&self, name: &str) -> Value {
        let listed = run(&mut self.machine.civm(&["builder", "ls", "--json"])).ok();
        let list: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        let mut views = list.as_array().into_iter().flatten();
        views.find(|view| view["name"] == name).cloned().unwrap_or_default()
    }

    /// Waits until a builder is in one of these states.
    #[track_caller]
    fn state(&self, name: &str, states: &[&str]) -> Value {
        self.until(&format!("{name} is {states:?}"), || {
            let view = self.view(name);
            states.iter().any(|state| view["state"] == *state).then_some(view)
        })
    }

    fn keeper_dir(&self) -> PathBuf {
        let files = self.machine.files_in_memory();
        let socket = files.iter().find(|file| file.ends_with("keeper.sock")).expect("a keeper's socket");
        socket.parent().expect("its directory").to_owned()
    }

    /// A build by nix, as `civm builder exec` would have it done.
    fn build(&self, name: &str, expression: &str) -> Build {
        let (dir, base) = (self.keeper_dir(), self.machine.base());
        let said = PathBuf::from(&base).join(format!("{name}.said"));
        let file = fs::File::create(&said).expect("a file");
        let mut command = self.machine.command(&self.nix.join("nix-build").to_string_lossy());
        command
            .args(["--no-out-link", "--store", &format!("local?root={base}/store"), "-E", expression])
            .env("NIX_SSHOPTS", format!("-F {}", dir.join("ssh_config").display()))
            .env("NIX_CONFIG", format!("max-jobs = 0\nbuilders = @{}", dir.join("machines").display()))
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file"))
            .stderr(file);
        Build { name: name.to_owned(), child: command.spawn().expect("nix-build"), said }
    }

    /// One that runs in the builder.
    fn long_build(&self, name: &str) -> Build {
        let build = self.build(name, &expression(name, 3600));
        self.until("the build's start", || build.said().contains("copying 0 paths").then_some(()));
        let running = || run(&mut self.ssh(&["pgrep", "-u", "nixbld1,nixbld2", "sh"])).code == 0;
        self.until("the build's run", || running().then_some(()));
        build
    }

    fn ssh(&self, words: &[&str]) -> Command {
        let mut ssh = self.machine.command("ssh");
        ssh.arg("-F").arg(self.keeper_dir().join("ssh_config")).args(["--", "near"]).args(words);
        ssh.stdin(Stdio::null());
        ssh
    }

    /// Whether the builder's guest is resumed from a template: it has the command line of the kernel that was frozen.
    fn is_resumed(&self) -> bool {
        run(&mut self.ssh(&["cat", "/proc/cmdline"])).ok().out().contains("civm.template")
    }

    /// What a build has written: the boot of the machine that it ran on.
    #[track_caller]
    fn output(&self, build: Build) -> String {
        let name = build.name.clone();
        let (code, said) = self.end(build);
        assert_eq!(code, Some(0), "{name}: {said}");
        let path = said.lines().rev().find(|line| line.starts_with("/nix/store/")).expect("a path");
        let path = PathBuf::from(self.machine.base()).join("store").join(path.trim_start_matches('/'));
        fs::read_to_string(path).expect("an output").trim().to_owned()
    }

    fn end(&self, mut build: Build) -> (Option<i32>, String) {
        let status = self.until("the build's end", || build.child.try_wait().expect("a status"));
        (status.code(), build.said())
    }

    /// A build that must fail, and what is said of it.
    #[track_caller]
    fn broken(&self, build: Build, why: &[&str]) {
        let (code, said) = self.end(build);
        assert_ne!(code, Some(0), "{said}");
        for why in why {
            self.until(why, || self.log().contains(why).then_some(()));
        }
    }

    /// Processes of the lender's whose command lines have this in them.
    fn lenders(&self, what: &str) -> Vec<Pid> {
        let of_process = |line: &String| {
            let number = line.strip_prefix("process ")?.split(':').next()?.parse().ok()?;
            line.contains(what).then_some(Pid::from_raw(number))
        };
        self.lender.remains().iter().filter_map(of_process).collect()
    }

    /// The keeper's connections to remotes.
    fn masters(&self) -> Vec<Pid> {
        let keeper = self.keeper.as_ref().map(Child::id).unwrap_or_default().to_string();
        let found = run(Command::new("pgrep").args(["-P", &keeper, "-f", "ControlMaster=yes"])).ok();
        found.out().lines().filter_map(|line| line.trim().parse().ok().map(Pid::from_raw)).collect()
    }

    fn leases(&self) -> usize {
        fs::read_dir(self.lender.home.join(".local/state/civm/leases")).map_or(0, Iterator::count)
    }

    #[track_caller]
    fn finish(mut self) {
        self.end_keeper(Signal::SIGTERM);
        self.lender.nothing_remains();
        self.machine.nothing_remains();
        self.told("the keeper has ended; nothing is left");
    }
}

impl Build {
    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.end_keeper(Signal::SIGKILL);
        if thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

#[test]
fn a_builder_is_made_when_it_is_wanted_and_outlives_neither_its_remote_nor_its_keeper() {
    // Nobody answers where the faster one should be.
    let builders =
        "    near: {ON, start: on-demand, idle: 3s, max_jobs: 8}\n    dead: {NOWHERE, speed: 9, hold: 5m}\n";
    let Some(mut desk) = Desk::new("faults", builders, "4G") else { return };
    desk.keep();
    let reason = desk.state("dead", &["waiting"])["reason"]["message"].to_string();
    assert!(reason.contains("Connection refused"), "{reason}");
    assert_eq!(desk.view("near")["state"], "idle");
    assert!(desk.lenders("").is_empty(), "nobody wants one yet");

    // Whoever builds has it made, and waits; not for the one that nobody reaches.
    let first = desk.build("first", &expression("first", 0));
    let boot = desk.output(first);
    let own = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("this machine's");
    assert_ne!(boot, own.trim());
    desk.told("a build had its builder made, though a faster one is dead");
    let again = desk.build("again", &expression("again", 0));
    assert_eq!(desk.output(again), boot);
    desk.told("a second build");
    no_host(&desk);
    desk.told("a build user does not reach the lender's loopback");
    assert!(!desk.is_resumed(), "there was no template");
    desk.until("a template of it", || desk.lender.has_template().then_some(()));
    desk.told("the lender has made a template of it");
    desk.until("its end when nobody builds", || (desk.view("near")["state"] == "idle").then_some(()));
    desk.lender.nothing_remains();
    desk.told("idle: gone from the lender");

    // The remote is switched off, and comes back with what it had on its disk.
    let build = desk.long_build("reboot");
    assert!(desk.is_resumed(), "there was a template");
    desk.told("made again, from the template");
    desk.lender.switch_off();
    desk.broken(build, &["near: cannot reach civm-lender@127.0.0.1:"]);
    assert_eq!(desk.leases(), 1, "the lease is left behind");
    desk.lender.switch_on();
    let after = desk.build("after", &expression("after", 0));
    let new = desk.output(after);
    assert_ne!(new, boot);
    assert_eq!(desk.leases(), 1, "the old lease is swept");
    desk.told("the remote went down with a build, came back, and builds");

    // The keeper is killed: nothing stays, neither there nor here.
    let build = desk.long_build("killed");
    desk.end_keeper(Signal::SIGKILL);
    let (code, said) = desk.end(build);
    assert_ne!(code, Some(0), "{said}");
    desk.lender.nothing_remains();
    assert!(!desk.machine.files_in_memory().is_empty(), "its keys are where it had them");
    assert_eq!(run(&mut desk.machine.civm(&["builder", "ls", "--json"])).ok().out(), "[]\n");
    assert_eq!(desk.machine.files_in_memory(), [""; 0].map(PathBuf::from));
    desk.machine.nothing_remains();
    desk.told("the keeper was killed with a build");
    desk.finish();
}

/// Who builds reaches the internet, and not what listens on the lender's loopback alone.
fn no_host(desk: &Desk) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let fetch = format!(
        "derivation {{ name = \"fetched\"; system = \"x86_64-linux\"; builder = \"builtin:fetchurl\"; \
         url = \"http://10.0.2.2:{port}/x\"; outputHashMode = \"flat\"; outputHashAlgo = \"sha256\"; \
         outputHash = \"{}\"; }}",
        "0".repeat(64)
    );
    let build = desk.build("fetched", &fetch);
    desk.until("the download's start", || build.said().contains("copying 0 paths").then_some(()));
    // The same by a shell there: who logs in reaches no more than who builds.
    let tried = run(&mut desk.ssh(&[&format!("timeout 3 bash -c ': </dev/tcp/10.0.2.2/{port}'")]));
    assert_ne!(tried.code, 0);
    assert!(listener.accept().is_err(), "somebody came");
    let _ = kill(pid(&build.child), Signal::SIGTERM);
    desk.end(build);
    assert!(listener.accept().is_err(), "the build came");
}

#[test]
fn slow_faults_end_as_promised() {
    let builders = "    near: {ON, ttl: 15s, max_jobs: 40}\n";
    let Some(mut desk) = Desk::new("faults", builders, "0") else { return };
    desk.keep();
    desk.state("near", &["ready"]);
    desk.told("ready");

    let builds: Vec<_> = (0..40)
        .map(|number| {
            let name = format!("one-of-forty-{number}");
            desk.build(&name, &expression(&name, 0))
        })
        .collect();
    let boots: Vec<_> = builds.into_iter().map(|build| desk.output(build)).collect();
    assert!(boots.iter().all(|boot| *boot == boots[0]));
    desk.told("forty builds at once");

    // The remote's disk runs full.
    run(&mut desk.machine.civm(&["builder", "down", "near", "--now"])).ok();
    let Some(disk) = desk.lender.small_disk() else {
        return eprintln!("skipped: a remote out of disk (no file system can be mounted)");
    };
    run(&mut desk.machine.civm(&["builder", "up", "near"])).ok();
    let build = desk.long_build("full");
    disk.fill();
    let _ = run(&mut desk.ssh(&["dd if=/dev/urandom of=big bs=1M count=40; sync"]));
    desk.broken(build, &["near: nothing can be written to its disk any more: "]);
    desk.told("remote out of disk: the build has ended");
    // As long as there is no room it is tried again and again.
    let lacks = "MiB are free for the builder's disk";
    desk.until("a word of it", || desk.log().contains(lacks).then_some(()));
    let reason = desk.state("near", &["waiting"])["reason"].to_string();
    assert!(reason.contains(lacks) && reason.contains("make room there"), "{reason}");
    drop(disk);
    run(&mut desk.machine.civm(&["builder", "up", "near"])).ok();
    desk.told("made again where there is room");

    // The keeper's ssh, and then the remote's sshd, stand still: nobody says that the connection has ended.
    let on = format!("civm-lender@127.0.0.1:{}", desk.lender.port);
    let silent = format!("{on} has said nothing for");
    for (what, frozen) in [("ssh", true), ("sshd", false)] {
        let build = desk.long_build(&format!("frozen-{what}"));
        let stopped = if frozen { desk.masters() } else { desk.lenders("sshd") };
        stop(&stopped);
        desk.broken(build, &[&silent]);
        desk.told(&format!("{what} frozen: the build has ended"));
        // The remote ends what it has by itself.
        desk.until("the end of the old machine", || (desk.lenders("qemu-system").len() <= 1).then_some(()));
        desk.state("near", &["ready"]);
        assert_eq!((desk.lenders("qemu-system").len(), desk.leases()), (1, 1));
        desk.told("made again");
        for pid in stopped {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    // The machine stands still, while the remote is well.
    let build = desk.long_build("frozen-machine");
    stop(&desk.lenders("qemu-system"));
    desk.broken(build, &[]);
    desk.told("QEMU frozen: the build has ended");
    desk.until("a word of it", || desk.log().contains("does not answer any more").then_some(()));
    desk.state("near", &["ready"]);
    assert_eq!((desk.lenders("qemu-system").len(), desk.leases()), (1, 1));
    desk.told("made again");
    desk.finish();
}

//! A controller that dies or stands still while a builder works for it: the lender has nothing of it any more, and the
//! next controller makes itself a new one.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::controller::{expression, until_or_tell};
use super::lender::Lender;
use super::machine::{Machine, Who};
use crate::support::{run, run_with};

const HOST: &str = "hub";
const BUILDER: &str = "small-builder";
/// How long the keeper in the controller may be silent: its `ttl`.
const TTL: Duration = Duration::from_secs(15);
/// How long the end of a machine takes besides, where others are at work.
const SLACK: Duration = Duration::from_secs(15);

struct Hub {
    machine: Machine,
    lender: Lender,
    begun: Instant,
}

impl Hub {
    fn new() -> Option<Self> {
        let machine = Machine::new(Who::Ordinary, "hub")?;
        let lender = Lender::new("0")?;
        let secrets = "hosts/jenkins-controller/secrets.yaml";
        let set = ["secrets", "set", "--value-stdin", secrets, "remote_key"];
        run_with(&mut machine.civm(&set), lender.client_key.as_bytes()).ok();
        for host in [HOST, BUILDER] {
            fs::create_dir_all(machine.dir.join("hosts").join(host)).expect("a directory");
        }
        let host = include_str!("ci/hub.yaml")
            .replace("SSHD", &lender.port.to_string())
            .replace("REMOTE", &lender.host_key);
        machine.write("hosts/hub/host.yaml", &host);
        machine.write("hosts/small-builder/host.yaml", include_str!("ci/builder.yaml"));
        run(&mut machine.civm(&["image", "build", BUILDER, HOST])).ok();
        lender.take_images(machine.home());
        Some(Self { machine, lender, begun: Instant::now() })
    }

    fn told(&self, what: &str) {
        eprintln!("{:>6.1} s  {what}", self.begun.elapsed().as_secs_f32());
    }

    fn up(&self) {
        let up = run(&mut self.machine.civm(&["up", HOST, "-d"])).ok();
        assert!(up.stderr.contains("ready in"), "{}", up.stderr);
    }

    /// The boot of the builder that is ready.
    fn builder(&self) -> String {
        let list = || self.machine.guest(HOST, "/run/civm/civm builder ls").out().to_owned();
        let ready =
            || list().lines().any(|line| line.starts_with("big ") && line.contains(" ready ")).then_some(());
        until_or_tell("the builder's readiness", 4, ready, list);
        let boot = self.machine.guest(HOST, "ssh big cat /proc/sys/kernel/random/boot_id").ok();
        assert!(self.lender.qemu().is_some(), "it is the lender's");
        boot.out().trim().to_owned()
    }

    /// A build that goes on in the builder.
    fn build(&self, name: &str) {
        let build =
            format!("systemd-run -q -u {name} nix-build --no-out-link -E '{}'", expression(name, 3600));
        self.machine.guest(HOST, &build).ok();
        let runs =
            || (self.machine.guest(HOST, "ssh big pgrep -u nixbld1,nixbld2 sh").code == 0).then_some(());
        until_or_tell("the build's start", 3, runs, || {
            let look = "journalctl --no-pager -n 60 -u 'work*' -u frozen -u nix-daemon -u civm-builders; \
                 /run/civm/civm builder ls; ssh big ps -eo pid,user,etimes,args | grep -v '\\['";
            self.machine.guest(HOST, look).out().to_owned()
        });
    }

    /// The process of the controller on this machine whose command line has this.
    fn process(&self, what: &str) -> Pid {
        let remains = self.machine.remains();
        let found = remains.iter().find(|line| line.starts_with("process ") && line.contains(what));
        let found = found.unwrap_or_else(|| panic!("no {what}: {remains:#?}"));
        let number = found["process ".len()..].split(':').next().expect("a number");
        Pid::from_raw(number.parse().expect("a number"))
    }

    /// Waits until the lender has nothing of any builder; how long that took. The end of a connection whose other side
    /// stands still is its sshd's own matter.
    fn clean(&self, what: &str) -> Duration {
        let begun = Instant::now();
        let left = || {
            self.lender.remains().into_iter().filter(|line| !line.contains(": sshd: ")).collect::<Vec<_>>()
        };
        until_or_tell("a clean lender", 1, || left().is_empty().then_some(()), || left().join("\n"));
        let took = begun.elapsed();
        self.told(&format!("{what}: the lender is clean after {:.1} s", took.as_secs_f32()));
        took
    }
}

#[test]
fn slow_faults_of_a_controller_leave_nothing_with_the_lender() {
    let Some(hub) = Hub::new() else { return };
    hub.up();
    let mut boots = vec![hub.builder()];
    hub.told("controller and builder are ready");

    for (turn, victim) in ["qemu-system", "__supervisor", "__keeper"].into_iter().enumerate() {
        hub.build(&format!("work{turn}"));
        kill(hub.process(victim), Signal::SIGKILL).expect("it is killed");
        // The kernel closes what its guest had open, and the lender hears of it.
        let took = hub.clean(&format!("{victim} of the controller was killed"));
        assert!(took < SLACK, "{took:?}");
        // Sockets and the record of one whose keeper was killed are the next command's to remove.
        run(&mut hub.machine.civm(&["ls"])).ok();
        hub.machine.nothing_remains();
        hub.up();
        boots.push(hub.builder());
        hub.told("the controller is up again, with a new builder");
    }

    // One that stands still says nothing, and closes nothing.
    hub.build("frozen");
    let qemu = hub.process("qemu-system");
    kill(qemu, Signal::SIGSTOP).expect("it stands still");
    let took = hub.clean("the controller stood still");
    assert!(took > TTL / 3 && took < TTL + SLACK, "{took:?}");
    kill(qemu, Signal::SIGCONT).expect("it goes on");
    boots.push(hub.builder());
    hub.told("it went on, and made a new builder");

    let all = boots.len();
    boots.sort();
    boots.dedup();
    assert_eq!(boots.len(), all, "each is a new machine");
    hub.machine.down(HOST).ok();
    hub.lender.nothing_remains();
    hub.machine.nothing_remains();
    hub.told("down; nothing is left");
}

//! A controller as a `microvm`: no PCI bus, and no clock but the processor's counter.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::life::{console, panics, reboots, wait_for};
use super::machine::{Machine, Who};
use crate::support::run;

const HOST: &str = "microvm-controller";
const FILE: &str = "hosts/microvm-controller/host.yaml";
/// A smaller one than the controller that ships.
const YAML: &str = "extends: jenkins-controller\nmachine: microvm\ncpus: 2\nmemory: 2G\ndisk: 8G\n";
/// How long the guest's clock is watched: over it, 1 % is more than a slow machine's way to the guest.
const WATCHED: Duration = Duration::from_secs(25);

/// A shell in the guest that answers each line with its time.
struct Clock {
    ssh: Child,
    ask: ChildStdin,
    hear: BufReader<ChildStdout>,
}

/// The guest's time in nanoseconds, and the host's before and after it was read.
struct Reading {
    before: Instant,
    guest: i128,
    after: Instant,
}

impl Clock {
    fn open(machine: &Machine) -> Self {
        let mut command = machine.civm(&["ssh", HOST, "while read x; do date +%s%N; done"]);
        let mut ssh = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("civm runs");
        let (ask, hear) = (ssh.stdin.take().expect("its input"), ssh.stdout.take().expect("its output"));
        Self { ssh, ask, hear: BufReader::new(hear) }
    }

    /// The quickest of some.
    fn read(&mut self) -> Reading {
        let readings = (0..8).map(|_| {
            let before = Instant::now();
            writeln!(self.ask, "now").and_then(|()| self.ask.flush()).expect("the guest reads");
            let mut line = String::new();
            self.hear.read_line(&mut line).expect("the guest answers");
            Reading { before, guest: line.trim().parse().expect("a time"), after: Instant::now() }
        });
        readings.min_by_key(|reading| reading.after - reading.before).expect("some")
    }

    fn close(mut self) {
        drop(self.ask);
        self.ssh.wait().expect("it ends");
    }
}

/// Whether the guest's clock goes at the host's pace, and shows its time.
fn the_clock_is_right(machine: &Machine) {
    let mut clock = Clock::open(machine);
    let start = clock.read();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_nanos();
    let apart = now.abs_diff(start.guest.unsigned_abs()) / 1_000_000;
    assert!(apart < 3000, "the guest's clock is {apart} ms off");
    std::thread::sleep(WATCHED);
    let end = clock.read();
    clock.close();
    let passed = (end.guest - start.guest) as f64 / 1e9;
    let (least, most) = (end.before - start.after, end.after - start.before);
    eprintln!("the guest's clock made {passed:.3} s in {least:.3?} to {most:.3?}");
    assert!(
        (most - least).as_secs_f64() < 1.0,
        "the guest answers too slowly to tell: {least:?} to {most:?}"
    );
    assert!(passed > least.as_secs_f64() * 0.99 && passed < most.as_secs_f64() * 1.01, "{passed} s");
}

#[test]
fn a_controller_lives_without_pci() {
    if cfg!(not(target_arch = "x86_64")) {
        eprintln!("skipped: microvm: it is a machine type of x86_64");
        return;
    }
    let Some(machine) = Machine::new(Who::Ordinary, "microvm") else { return };
    std::fs::create_dir_all(machine.dir.join("hosts").join(HOST)).expect("a directory");
    machine.write(FILE, YAML);
    machine.up(HOST, &[]).ok();

    // Everything is on virtio-mmio: disk, network, share, port of the agent, randomness, balloon.
    let drivers =
        "for d in /sys/bus/virtio/devices/*; do basename $(readlink $d/driver); done | sort | xargs";
    let all = "9pnet_virtio virtio_balloon virtio_blk virtio_console virtio_net virtio_rng\n";
    // The balloon's driver comes after the guest is ready.
    wait_for("all devices have drivers", || machine.guest(HOST, drivers).ok().out() == all);
    assert_eq!(machine.guest(HOST, "ls /sys/bus/pci/devices 2>/dev/null | wc -l").ok().out(), "0\n");
    let secret = "vm_builder_ssh_key";
    let inside = machine.guest(HOST, &format!("cat /run/secrets/{secret}")).ok();
    let outside =
        run(&mut machine.civm(&["secrets", "get", "hosts/jenkins-controller/secrets.yaml", secret])).ok();
    assert_eq!(inside.stdout, outside.stdout);
    let share =
        machine.guest(HOST, "findmnt -rno FSTYPE,OPTIONS /shared; ls /shared/host; touch /shared/x").code(1);
    assert!(share.out().starts_with("9p ro,") && share.out().contains("layer.json"), "{}", share.out());
    let rng = machine.guest(HOST, "cat /sys/class/misc/hw_random/rng_current").ok();
    assert!(rng.out().starts_with("virtio_rng"), "{}", rng.out());
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    assert_eq!(machine.guest(HOST, &format!("cat {source}")).ok().out(), "tsc\n");
    the_clock_is_right(&machine);
    let shown = console(&machine, HOST, "echo seen-$((40+2))\\n");
    assert!(shown.contains("seen-42"), "{shown}");

    // The file of the disk grows with what is written, and the guest says when it has powered off.
    let disk = machine.dir.join(format!("{HOST}.qcow2"));
    let size = || disk.metadata().expect("a disk").len() >> 20;
    let before = size();
    machine.guest(HOST, "head -c 100M /dev/urandom > /var/mark; sha256sum /var/mark > /var/sum; sync").ok();
    assert!(size() >= before + 90 && size() < 2000, "{before} MiB, then {} MiB", size());
    reboots(&machine, HOST);
    let down = machine.down(HOST).ok();
    assert!(down.stderr.contains("the guest powered off"), "{}", down.stderr);
    machine.nothing_remains();

    // Where host.yaml says more, the disk has more, and holds what it held.
    machine.write(FILE, &YAML.replace("8G", "12G"));
    machine.up(HOST, &[]).ok();
    machine.guest(HOST, "sha256sum --quiet -c /var/sum").ok();
    machine.settled(HOST);
    let gib = machine.guest(HOST, "df --output=size -BG / | tail -n1").ok();
    let gib: u32 = gib.out().trim().trim_end_matches('G').parse().expect("a size");
    assert!((11..=12).contains(&gib), "the root file system has {gib} GiB of 12");
    panics(&machine, HOST);
    machine.nothing_remains();
}

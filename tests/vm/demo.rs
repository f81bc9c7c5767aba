//! `builder-demo`: no key needed, a disk that stays, compressed swap.

use std::fs;

use super::inside;
use super::machine::{Machine, Who};
use super::verbs;
use crate::support::run;

const HOST: &str = "builder-demo";

#[test]
fn the_disk_stays_until_it_is_deleted() {
    let Some(machine) = Machine::new(Who::Ordinary, "demo") else { return };
    machine.up(HOST, &[]).ok();
    machine.settled(HOST);
    let swap = machine
        .guest(
            HOST,
            "free -m | awk '/^Swap:/ { print $2 }'; cat /proc/swaps; cat /sys/block/zram0/comp_algorithm",
        )
        .ok();
    let mib: u32 = swap.out().lines().next().and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    assert!(mib > 2500, "150 % of 2 GiB: {}", swap.out());
    assert!(swap.out().contains("/dev/zram0") && swap.out().contains("[zstd]"), "{}", swap.out());
    let size = machine.guest(HOST, "df --output=size -BG / | tail -n1").ok();
    let gib: u32 = size.out().trim().trim_end_matches('G').parse().expect("a size");
    assert!((14..=16).contains(&gib), "the root file system has {gib} GiB of 16");
    machine.guest(HOST, "echo kept > /var/mark; sync").ok();
    verbs::work(&machine, HOST);
    verbs::a_second_machine_stands_beside_it(&machine, HOST);

    // The disk is complete in itself: no image has to stay for it.
    let mut info = machine.command("qemu-img");
    let info = run(info.args(["info", "-U", "--output=json", "builder-demo.qcow2"])).ok();
    assert!(info.out().contains("virtual-size") && !info.out().contains("backing"), "{}", info.out());
    verbs::restarts_with_its_disk_and_ports(&machine, HOST);
    assert_eq!(machine.guest(HOST, "cat /var/mark").ok().out(), "kept\n");
    verbs::all_go_down_and_away(&machine, HOST);

    // Without its disk it is a fresh machine; what it may reach is said anew for each boot.
    let host = machine.read("hosts/builder-demo/host.yaml");
    machine.write("hosts/builder-demo/host.yaml", &format!("{host}network: open\n"));
    let disk = machine.dir.join("builder-demo.qcow2");
    assert!(!disk.exists(), "it went with the instance");
    machine.up(HOST, &[]).ok();
    machine.guest(HOST, "test ! -e /var/mark").ok();
    inside::reaches_its_host(&machine, HOST);
    machine.down(HOST).ok();

    // What is written to an ephemeral disk reaches no other.
    fs::remove_file(&disk).expect("a disk beside hosts/");
    machine.write("hosts/builder-demo/host.yaml", &format!("{host}network: none\n"));
    machine.up(HOST, &["--ephemeral"]).ok();
    machine.guest(HOST, "test ! -e /var/mark && touch /var/mark").ok();
    inside::reaches_nobody(&machine, HOST);
    machine.down(HOST).ok();
    machine.nothing_remains();
    assert!(!disk.exists(), "an ephemeral run leaves no disk");
}

#[test]
fn a_stranger_on_the_port_is_not_taken_for_the_guest() {
    let Some(machine) = Machine::new(Who::Ordinary, "ports") else { return };
    let holder = std::net::TcpListener::bind(("127.0.0.1", 2322)).expect("the port is free");
    let ran = machine.up(HOST, &[]);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("2322"), "{}", ran.stderr);
    drop(holder);
    machine.nothing_remains();
}

//! A disk that lacks what host.yaml counts on: its packages come with the next start, and with them owners and rights.

use super::machine::{Machine, Who};
use crate::support::run;

const HOST: &str = "late";
const BEFORE: &str = "packages: []\ncpus: 2\nmemory: 1G\ndisk: 8G\nforwards: [\"auto:22\"]\n\
                      secrets: [vedenemo_builder_ssh_key]\n";
/// A small package with a user of its own, and one without which nobody gets rights.
const AFTER: &str = "packages: [uuid-runtime, sudo]\ncpus: 2\nmemory: 1G\ndisk: 8G\nforwards: [\"auto:22\"]\n\
                     secrets:\n  vedenemo_builder_ssh_key: {owner: uuidd}\n\
                     users:\n  alice: {sudo: true}\n";

#[test]
fn packages_bring_the_owners_of_secrets() {
    let Some(machine) = Machine::new(Who::Ordinary, "packages") else { return };
    let secrets = machine.read("hosts/jenkins-controller/secrets.yaml");
    machine.write(&format!("hosts/{HOST}/secrets.yaml"), &secrets);
    let start = |yaml: &str| {
        machine.write(&format!("hosts/{HOST}/host.yaml"), yaml);
        // The guest installs packages, which takes minutes where it is emulated.
        run(&mut machine.civm(&["up", HOST, "-d", "--timeout", "900"])).ok()
    };
    start(BEFORE);
    machine.guest(HOST, "! id uuidd && echo kept > /var/mark && sync").ok();
    machine.down(HOST).ok();
    start(AFTER);
    let now = "stat -Lc '%U %a' /run/secrets/vedenemo_builder_ssh_key; cat /etc/sudoers.d/civm /var/mark; \
               systemctl --failed --plain --no-legend";
    let wanted = "uuidd 400\nalice ALL=(ALL:ALL) NOPASSWD: ALL\nkept\n";
    assert_eq!(machine.guest(HOST, now).ok().out(), wanted);
    machine.down(HOST).ok();
    // The next start has nothing to wait for.
    start(AFTER);
    assert_eq!(machine.guest(HOST, now).ok().out(), wanted);
    machine.down(HOST).ok();
    machine.nothing_remains();
}

//! Somebody who knocks at a machine's sshd while it starts: whoever is let in finds users and secrets, and no other key
//! than the machine's own is ever shown.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use super::machine::Machine;
use crate::support::{Ran, run};

const HOST: &str = "jenkins-controller";
/// A machine without KVM may take as long.
const LONG: Duration = Duration::from_secs(240);
/// What is looked for by the first who is let in: a secret's owner.
const LOOK: &str = "stat -Lc %U /run/secrets/vm_builder_ssh_key";
/// What ssh says of a server that does not answer yet; the rest are reasons to worry.
const NOT_YET: [&str; 4] =
    ["refused", "closed by", "reset by", "Connection timed out during banner exchange"];

/// Knocks from its making on, until it is let in or is shown something wrong.
pub struct Visitor {
    knocking: JoinHandle<(usize, Ran)>,
    dir: tempfile::TempDir,
}

impl Visitor {
    /// Is a user of the host from now on, and comes to its sshd at a port of this machine.
    pub fn new(machine: &Machine, port: u16) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let key = dir.path().join("key");
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key)).ok();
        let public = fs::read_to_string(key.with_extension("pub")).expect("a public key");
        let name = format!("hosts/{HOST}/host.yaml");
        let user = format!("\nusers:\n  visitor:\n    authorized_keys: [{}]\n", public.trim());
        machine.write(&name, &machine.read(&name).replacen("\nusers:\n", &user, 1));
        let known = dir.path().join("known");
        let knocking = spawn(move || knock(&key, &known, port));
        Self { knocking, dir }
    }

    /// Was let in once the machine was ready, and not before; `key` is the machine's.
    #[track_caller]
    pub fn was_let_in(self, key: &str) {
        let (tries, last) = self.knocking.join().expect("it knocks to the end");
        assert_eq!((last.code, last.out()), (0, "jenkins\n"), "at try {tries}: {}", last.stderr);
        assert!(tries > 1, "nobody knocked while the machine started");
        let known = fs::read_to_string(self.dir.path().join("known")).expect("it was shown a key");
        let shown: Vec<&str> = known.lines().filter_map(|line| Some(line.split_once(' ')?.1)).collect();
        assert_eq!(shown, [key]);
        eprintln!("a visitor was let in at try {tries}");
    }
}

fn knock(key: &Path, known: &Path, port: u16) -> (usize, Ran) {
    let until = Instant::now() + LONG;
    let own = [
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "BatchMode=yes",
        "StrictHostKeyChecking=accept-new",
        "GlobalKnownHostsFile=/dev/null",
        "HashKnownHosts=no",
        "HostKeyAlgorithms=ssh-ed25519",
        "ConnectTimeout=5",
    ];
    let mut tries = 0;
    loop {
        tries += 1;
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-i"]).arg(key).args(own.iter().flat_map(|option| ["-o", option]));
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
        let ran = run(ssh.args(["-p", &port.to_string(), "visitor@127.0.0.1", LOOK]));
        let not_yet = ran.code == 255 && NOT_YET.iter().any(|words| ran.stderr.contains(words));
        if !not_yet || Instant::now() > until {
            return (tries, ran);
        }
        sleep(Duration::from_millis(100));
    }
}

//! A guest of another architecture: `arch: aarch64` on a machine that is not, under emulation.
//!
//! On an aarch64 machine every other test boots such guests.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::machine::{Machine, Who, files};
use crate::support::{civm_binary, peer, run};

const HOST: &str = "arm-builder";
/// The figures for aarch64 are those of `builder`. No packages: each is unpacked and configured under emulation.
const HOST_YAML: &str = "extends: builder\narch: aarch64\nsecrets: [vm_builder_ssh_key]\npackages: []\nservices: []\n\
                         users: null\nnix: null\n";
const SECRETS: &str = "hosts/arm-builder/secrets.yaml";
/// As long as the end of a guest may take without KVM.
const LONG: Duration = Duration::from_secs(240);

/// The project with that host, and the civm that runs in such guests beside civm; or `None` with a word why not.
fn machine() -> Option<Machine> {
    let skip = |why: &str| {
        eprintln!("skipped: an aarch64 guest: {why}; `devshell/setup --aarch64` installs it");
        None
    };
    if cfg!(target_arch = "aarch64") {
        eprintln!(
            "skipped: an aarch64 guest under emulation: this machine is one, and the other tests boot such guests"
        );
        return None;
    }
    for program in ["qemu-system-aarch64", "qemu-aarch64-static"] {
        if peer(program).is_none() {
            return skip(&format!("no {program} here"));
        }
    }
    // Where cargo puts it: target/TRIPLE/release/civm, as the civm under test.
    let binary = civm_binary();
    let target = binary.ancestors().nth(3).unwrap_or(Path::new("/"));
    let guest = target.join("aarch64-unknown-linux-musl/release/civm");
    if !guest.exists() {
        return skip("no civm for it");
    }
    let machine = Machine::new(Who::Ordinary, "aarch64")?;
    let beside = Path::new(&machine.base()).join("civm-aarch64");
    let _ = fs::remove_file(&beside);
    fs::copy(guest, beside).expect("a copy of the guest's civm");
    fs::create_dir(machine.dir.join("hosts").join(HOST)).expect("a host");
    machine.write("hosts/arm-builder/host.yaml", HOST_YAML);
    machine.write(SECRETS, &machine.read("hosts/jenkins-controller/secrets.yaml"));
    Some(machine)
}

/// The key that the guest's sshd shows is the one in secrets.yaml.
fn shows_its_own_host_key(machine: &Machine) {
    let private = run(&mut machine.civm(&["secrets", "get", SECRETS, "ssh_host_ed25519_key"])).ok();
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), &private.stdout).expect("the key");
    let public = run(std::process::Command::new("ssh-keygen").arg("-yf").arg(file.path())).ok();
    let key = public.out().split_whitespace().nth(1).expect("a key").to_owned();
    let seen = run(machine.command("ssh-keyscan").args(["-t", "ed25519", "-p", "2322", "127.0.0.1"])).ok();
    assert!(seen.out().contains(&key), "keyscan: {}\nsecret: {key}", seen.out());
}

fn has_its_secret(machine: &Machine) {
    let inside = machine.guest(HOST, "cat /run/secrets/vm_builder_ssh_key").ok();
    let outside = run(&mut machine.civm(&["secrets", "get", SECRETS, "vm_builder_ssh_key"])).ok();
    assert_eq!(inside.stdout, outside.stdout);
}

#[test]
fn an_aarch64_builder_boots_with_its_secrets_on_another_machine() {
    let Some(machine) = machine() else { return };
    let begun = Instant::now();
    let up = machine.up(HOST, &[]).ok();
    assert!(up.stderr.contains("ready in"), "{}", up.stderr);
    eprintln!("an aarch64 guest: image and boot took {} s: {}", begun.elapsed().as_secs(), up.stderr.trim());

    has_its_secret(&machine);
    shows_its_own_host_key(&machine);
    let seen = machine
        .guest(
            HOST,
            "uname -m; nproc; stat -c '%a %U' /run/secrets/vm_builder_ssh_key; findmnt -no FSTYPE /run/secrets.d; \
             ls /sys/bus/platform/drivers/gpio-keys | grep -c gpio-keys",
        )
        .ok();
    assert_eq!(seen.out(), "aarch64\n2\n400 root\nramfs\n1\n");
    machine.settled(HOST);
    let seen = machine.guest(HOST, "grep -c ^/dev/zram0 /proc/swaps; df --output=size -BG / | tail -n1").ok();
    let gib: u32 = seen
        .out()
        .split_whitespace()
        .nth(1)
        .and_then(|size| size.trim_end_matches('G').parse().ok())
        .unwrap_or(0);
    assert!(seen.out().starts_with("1\n"), "no compressed swap: {}", seen.out());
    assert!((190..=200).contains(&gib), "the root file system has {gib} GiB of 200");

    machine.guest(HOST, "echo kept > /var/mark; sync").ok();
    let down = machine.down(HOST).ok();
    assert!(down.stderr.contains("the guest powered off"), "{}", down.stderr);
    machine.nothing_remains();

    // Debian's kernel for aarch64 has no driver of the panic device: a panic ends the machine, and is told.
    machine.up(HOST, &[]).ok();
    has_its_secret(&machine);
    assert_eq!(machine.guest(HOST, "cat /var/mark").ok().out(), "kept\n");
    let mut crash = machine.civm(&["ssh", HOST, "echo c > /proc/sysrq-trigger"]);
    let mut crash = crash.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("civm runs");
    let end = Instant::now() + LONG;
    let told = || {
        let records = files(&machine.home().join(".local/state/civm"));
        let mut records = records.iter().filter(|path| path.ends_with("instance.json"));
        records.any(|path| {
            fs::read_to_string(path).is_ok_and(|text| text.contains("panicked: sysrq triggered crash"))
        })
    };
    while !told() {
        assert!(Instant::now() < end, "the panic was not told");
        std::thread::sleep(Duration::from_millis(500));
    }
    let _ = crash.wait();
    machine.nothing_remains();
}

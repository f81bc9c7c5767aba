//! A guest of another architecture: `arch: aarch64` on a machine that is not, under emulation.
//!
//! On an aarch64 machine every other test boots such guests.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::lender::Lender;
use super::machine::{Machine, Who, files};
use crate::support::{civm_binary, peer, run, run_with};

const HOST: &str = "arm-builder";
/// The figures for aarch64 are those of `builder`. No packages: each is unpacked and configured under emulation.
const HOST_YAML: &str = "extends: builder\narch: aarch64\nsecrets: [vm_builder_ssh_key]\npackages: []\nservices: []\n\
                         users: null\nnix: null\n";
const SECRETS: &str = "hosts/arm-builder/secrets.yaml";
/// As long as the end of a guest may take without KVM.
const LONG: Duration = Duration::from_secs(240);

/// The same builder as on a machine of its own kind, reached through an sshd on loopback: what is different is where its
/// sandbox has the libraries of its shell.
const DEPLOYED: &str = "extends: small-builder\narch: aarch64\nnix:\n  \
    extra: [\"sandbox-paths = /bin/sh=/bin/dash /lib/ld-linux-aarch64.so.1 /lib/aarch64-linux-gnu\"]\n";

/// The project with that host, and the civm that runs in such guests beside civm; or `None` with a word why not.
fn machine(name: &str) -> Option<Machine> {
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
    let machine = Machine::new(Who::Ordinary, name)?;
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
    let public = run(Command::new("ssh-keygen").arg("-yf").arg(file.path())).ok();
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
    let Some(machine) = machine("aarch64") else { return };
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

/// Emulated on the lender, which is not such a machine: `require: any`. The lender's civm is the keeper's own, and the
/// one for the guest goes along.
#[test]
fn an_aarch64_builder_is_made_on_another_users_machine_and_builds() {
    let Some(machine) = machine("aarch64-builder") else { return };
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/nix");
    if !unpacked.join("nix-build").exists() {
        return eprintln!("skipped: an aarch64 builder (devshell/nix has not unpacked Nix)");
    }
    let Some(lender) = Lender::new("0") else { return };
    let base = Path::new(&machine.base()).to_owned();
    let nix = base.join("nix");
    let _ = fs::remove_dir_all(&nix);
    run(Command::new("cp").arg("-a").arg(unpacked).arg(&nix)).ok();
    let set = ["secrets", "set", "--value-stdin", "hosts/jenkins-controller/secrets.yaml", "remote_key"];
    run_with(&mut machine.civm(&set), lender.client_key.as_bytes()).ok();
    for host in ["small-builder", "far-builder", "desk"] {
        fs::create_dir_all(machine.dir.join("hosts").join(host)).expect("a directory");
    }
    machine.write("hosts/small-builder/host.yaml", include_str!("ci/builder.yaml"));
    machine.write("hosts/far-builder/host.yaml", DEPLOYED);
    let desk = include_str!("ci/desk.yaml")
        .replace("SSHD", &lender.port.to_string())
        .replace("REMOTE", &lender.host_key)
        .replace("deploy: small-builder", "deploy: far-builder");
    machine.write("hosts/desk/host.yaml", &desk);

    let begun = Instant::now();
    let told = |what: &str| eprintln!("{:>6.1} s  an aarch64 builder: {what}", begun.elapsed().as_secs_f32());
    run(&mut machine.civm(&["image", "build", "far-builder"])).ok();
    lender.take_images(machine.home());
    told("its image is built");
    let up = run(&mut machine.civm(&["builder", "up", "near"])).ok();
    told("ready");
    assert!(up.stderr.contains("sending civm for aarch64 guests to "), "{}", up.stderr);
    let listed = run(&mut machine.civm(&["builder", "ls", "--json"])).ok();
    let list: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!((&list[0]["system"], &list[0]["accel"]), (&"aarch64-linux".into(), &"TCG".into()), "{list:#}");

    // What builds says what it is.
    let derivation = "derivation { name = \"far\"; system = \"aarch64-linux\"; builder = \"/bin/sh\"; \
        args = [ \"-c\" \"read arch < /proc/sys/kernel/arch; read id < /proc/sys/kernel/random/boot_id; \
        echo $arch $id > $out\" ]; }";
    let (program, store) = (nix.join("nix-build"), format!("local?root={}/store", base.display()));
    let program = program.to_string_lossy();
    let build = [&*program, "--no-out-link", "--store", &store, "-E", derivation];
    let built = run(&mut machine.civm(&[&["builder", "exec", "near", "--"], &build[..]].concat())).ok();
    let output = base.join("store").join(built.out().trim().trim_start_matches('/'));
    let output = fs::read_to_string(&output).unwrap_or_else(|error| panic!("{}: {error}", output.display()));
    let own = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("this machine's");
    assert!(output.starts_with("aarch64 ") && !output.contains(own.trim()), "{output}");
    told("a build has come back");

    run(&mut machine.civm(&["builder", "down", "--all", "--now"])).ok();
    lender.nothing_remains();
    machine.nothing_remains();
    told("gone, and nothing is left");
}

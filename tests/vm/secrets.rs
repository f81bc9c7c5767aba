//! The whole way: a key opens a sops file, the host key is staged, a guest boots with its secrets.

use std::fs;

use super::machine::{Machine, Who};
use super::visitor::Visitor;
use crate::support::run;

const HOST: &str = "jenkins-controller";

/// The public half of `ssh_host_ed25519_key` in the host's secrets file, without its comment.
pub(super) fn host_public_key(machine: &Machine) -> String {
    let private = run(&mut machine.civm(&[
        "secrets",
        "get",
        "hosts/jenkins-controller/secrets.yaml",
        "ssh_host_ed25519_key",
    ]))
    .ok();
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), &private.stdout).expect("the key");
    let public = run(std::process::Command::new("ssh-keygen").arg("-yf").arg(file.path())).ok();
    public.out().split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// Point 1 of what this project promises, for one user.
fn secrets_reach_the_guest_and_nobody_else(machine: &Machine) {
    let key = host_public_key(machine);
    // Nobody knocks for as long as that takes.
    run(&mut machine.civm(&["image", "build", HOST])).ok();
    let visitor = Visitor::new(machine, 2222);
    let up = machine.up(HOST, &[]).ok();
    assert!(up.stderr.contains("ready in"), "{}", up.stderr);
    visitor.was_let_in(&key);

    let listing = machine.guest(HOST, "ls -laL /run/secrets/").ok();
    for secret in ["vm_builder_ssh_key", "vedenemo_builder_ssh_key"] {
        let line = listing
            .out()
            .lines()
            .find(|line| line.ends_with(secret))
            .unwrap_or_else(|| panic!("{}", listing.out()));
        assert!(line.starts_with("-r--------"), "{line}");
        assert!(line.contains(" jenkins "), "{line}");
        let inside = machine.guest(HOST, &format!("cat /run/secrets/{secret}")).ok();
        let outside =
            run(&mut machine.civm(&["secrets", "get", "hosts/jenkins-controller/secrets.yaml", secret])).ok();
        assert_eq!(inside.stdout, outside.stdout, "{secret}");
    }
    let state = machine
        .guest(
            HOST,
            "readlink /run/secrets; stat -c '%a %U:%G' /run/secrets.d/1; findmnt -no FSTYPE /run/secrets.d",
        )
        .ok();
    assert_eq!(state.out(), "/run/secrets.d/1\n751 root:keys\nramfs\n");
    let journal = machine.guest(HOST, "journalctl -b --no-pager").ok();
    let line = "Imported /shared/secrets/ssh_host_ed25519_key as age key with fingerprint age1";
    assert!(journal.out().contains(line), "{}", journal.out());

    let seen = run(machine.command("ssh-keyscan").args(["-t", "ed25519", "-p", "2222", "127.0.0.1"])).ok();
    assert!(seen.out().contains(&key), "keyscan: {}\nsecret: {key}", seen.out());

    nobody_sees_the_staged_key(machine);

    let listed = run(&mut machine.civm(&["ls", "--json"])).ok();
    assert!(listed.out().contains("\"state\": \"ready\""), "{}", listed.out());
    let again = machine.up(HOST, &[]).ok();
    assert!(again.stderr.contains("running") || again.stderr.contains("already"), "{}", again.stderr);

    machine.down(HOST).ok();
    machine.nothing_remains();
}

/// The staged file is gone after the guest's acknowledgement, and was never in a mount table of ours.
fn nobody_sees_the_staged_key(machine: &Machine) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!mounts.contains("civm-"), "{mounts}");
    let mut looked_at = 0;
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if !line.contains("qemu-system") || !line.contains(&machine.base()) {
            continue;
        }
        assert!(!line.contains("PRIVATE KEY") && !line.contains("AGE-SECRET-KEY"), "a key in argv");
        let share =
            line.split("id=share,path=").nth(1).and_then(|rest| rest.split(',').next()).map(str::to_owned);
        let Some(share) = share else { continue };
        looked_at += 1;
        let outside = std::path::Path::new(&share).join("secrets/ssh_host_ed25519_key");
        assert!(!outside.exists(), "{} is visible outside", outside.display());
        // The namespace's own view, which only root and processes of the same user may open. Root's QEMU has the
        // share as a descriptor.
        let view = |inner: &str| match share.strip_prefix("/proc/self/") {
            Some(descriptor) => entry.path().join(descriptor).join(inner),
            None => entry.path().join("root").join(share.trim_start_matches('/')).join(inner),
        };
        let inside = view("secrets/ssh_host_ed25519_key");
        assert!(!inside.exists(), "{} is still there after the guest took its copy", inside.display());
        let layer = view("host/layer.json");
        assert!(
            !nix::unistd::Uid::effective().is_root() || layer.exists(),
            "{} is looked for",
            layer.display()
        );
        if nix::unistd::Uid::effective().is_root() {
            let stranger = run(machine.command_as(65534, 65534, "cat").arg(&layer));
            assert_ne!(stranger.code, 0, "another user reads {}", layer.display());
        }
    }
    assert_eq!(looked_at, 1, "the running QEMU was not found");
}

/// What is changed while a machine runs is there after an apply, and after its next boot, on the same disk.
fn edits_take_effect(machine: &Machine) {
    machine.up(HOST, &[]).ok();
    machine.guest(HOST, "echo kept > /var/mark; sync").ok();

    let secrets = "hosts/jenkins-controller/secrets.yaml";
    let editor = "sed -i 's/^vedenemo_builder_ssh_key:.*/vedenemo_builder_ssh_key: |\\n    a new value/; /^    -----BEGIN OPENSSH/!b'";
    let before = machine.read(secrets);
    run(machine.civm(&["secrets", "edit", secrets]).env("EDITOR", editor)).ok();
    let after = machine.read(secrets);
    assert_ne!(before, after);
    let kept = before.lines().find(|line| line.starts_with("vm_builder_ssh_key:")).expect("a secret");
    assert!(after.contains(kept), "an untouched value changed");

    let host = machine.read("hosts/jenkins-controller/host.yaml");
    let user = "  newcomer:\n    groups: [keys]\n";
    let host = if host.contains("\nusers:\n") {
        host.replace("\nusers:\n", &format!("\nusers:\n{user}"))
    } else {
        format!("{host}\nusers:\n{user}")
    };
    // A secret of another file, readable by the host, and a template that joins both.
    let rules = machine.read(".sops.yaml");
    let rules =
        rules.replace(r"jenkins-controller/secrets\.yaml$", r"jenkins-controller/(secrets\.yaml|app\.env)$");
    machine.write(".sops.yaml", &rules);
    let other = "hosts/jenkins-controller/app.env";
    machine.write(other, "TOKEN=of another file\n");
    run(&mut machine.civm(&["secrets", "encrypt", "--in-place", other])).ok();
    let host = host.replace("\nsecrets:\n", &format!("\nsecrets:\n  app.env: {{file: {other}}}\n"));
    let template = "templates:\n  joined: '[<secret:vedenemo_builder_ssh_key>|<secret:app.env>]'\n";
    machine.write("hosts/jenkins-controller/host.yaml", &format!("{host}\n{template}"));

    let seen = |number: u32| {
        let now = "id -nG newcomer; readlink /run/secrets; head -n1 /run/secrets/vedenemo_builder_ssh_key; \
                   cat /var/mark; sed -n '1p; /TOKEN/p' /run/secrets/rendered/joined; stat -c '%a %U' /run/secrets/rendered/joined";
        let wanted = format!(
            "newcomer keys\n/run/secrets.d/{number}\na new value\nkept\n[a new value\n|TOKEN=of another file\n400 root\n"
        );
        assert_eq!(machine.guest(HOST, now).ok().out(), wanted);
    };
    let told = machine.up(HOST, &[]).ok();
    assert!(told.stderr.contains("`civm apply jenkins-controller`"), "{}", told.stderr);
    let apply = |more: &[&str]| {
        let applied = run(machine.civm(&["apply", HOST]).args(more)).ok().silent_on("a new value");
        applied.out().to_owned()
    };
    let changes = "added user newcomer\nadded secret app.env\nchanged secret vedenemo_builder_ssh_key\n\
                   added secret rendered/joined\n";
    assert_eq!(apply(&["--dry-run"]), changes);
    machine.guest(HOST, "! id newcomer && test $(readlink /run/secrets) = /run/secrets.d/1 && ! grep newcomer /shared/host/layer.json").ok();
    assert_eq!(apply(&[]), changes);
    seen(2);
    nobody_sees_the_staged_key(machine);
    assert_eq!(apply(&[]), "", "nothing is left to be changed");
    seen(2);

    machine.down(HOST).ok();
    machine.up(HOST, &[]).ok();
    seen(1);
    machine.down(HOST).ok();
    machine.nothing_remains();
}

/// Point 2: nobody can open the file.
fn without_an_identity(machine: &Machine) {
    let ran = run(&mut machine.without_identity(&["up", HOST, "-d"])).code(128);
    assert!(ran.stderr.contains("Group 0: FAILED"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--without-secrets"), "{}", ran.stderr);
    machine.nothing_remains();
    let args = ["up", HOST, "-d", "--without-secrets", "--cpus", "2", "--memory", "2G"];
    run(&mut machine.without_identity(&args)).ok();
    let seen = run(&mut machine.without_identity(&["ssh", HOST, "--", "ls /run/secrets/ 2>&1 | wc -l"])).ok();
    let listing = run(&mut machine.without_identity(&["ssh", HOST, "--", "ls -A /run/secrets"]));
    assert!(!listing.out().contains("key"), "{} {}", seen.out(), listing.out());
    machine.down(HOST).ok();
    machine.nothing_remains();
}

#[test]
fn as_an_ordinary_user() {
    let Some(machine) = Machine::new(Who::Ordinary, "secrets") else { return };
    secrets_reach_the_guest_and_nobody_else(&machine);
    edits_take_effect(&machine);
    without_an_identity(&machine);
}

#[test]
fn as_root() {
    let Some(machine) = Machine::new(Who::Root, "secrets") else { return };
    secrets_reach_the_guest_and_nobody_else(&machine);
}

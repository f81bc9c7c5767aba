//! Warm starts: machines that are resumed from a template hold nothing of each other, and the template nothing of them.

use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::clock;
use super::machine::{Machine, Who, files};
use super::secrets::host_public_key;
use super::visitor::Visitor;
use crate::support::{peer, run};

/// A host with secrets.
const HOST: &str = "jenkins-controller";
const SHAPE: [&str; 4] = ["--cpus", "2", "--memory", "1G"];

/// What a machine is given of a template.
const FILES: [&str; 3] = ["ram", "state", "disk.qcow2"];

/// What two guests must not have in common, a line each.
const PARTICULAR: &str = "head -c 32 /dev/urandom | sha256sum
cat /etc/machine-id
cat /proc/sys/kernel/random/boot_id
ssh-keygen -lf /shared/secrets/ssh_host_ed25519_key
head -n1 /proc/self/maps
head -n1 /proc/$PPID/maps
systemctl start civm-ready.service && systemctl show -P InvocationID civm-ready.service
journalctl -b -o json -n1 | grep -o '_BOOT_ID[^,]*'";

/// What the kernel makes of addresses, ports and a secret of its own where a TCP connection begins, without the clock that
/// it adds: of the same connection, twice.
const SEQUENCES: &str = r#"perl -MSocket -e 'for (1, 2) {
    socket(S, PF_INET, SOCK_STREAM, 0) or die;
    setsockopt(S, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0));
    setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1);
    bind(S, sockaddr_in(40000, INADDR_LOOPBACK)) or die "bind: $!";
    connect(S, sockaddr_in(22, INADDR_LOOPBACK)) or die "connect: $!";
    my $time = "\0" x 16;
    syscall(228, 0, $time);
    my ($s, $n) = unpack("qq", $time);
    setsockopt(S, 6, 19, 1) or die "TCP_REPAIR: $!";
    setsockopt(S, 6, 20, 2) or die "TCP_REPAIR_QUEUE: $!";
    my $sequence = unpack("L", getsockopt(S, 6, 21));
    setsockopt(S, 6, 19, 0);
    close S;
    print +(($sequence - (($s * 1000000000 + $n) >> 6)) & 0xffffffff), "\n";
}'"#;
/// The kernel adds one every 64 ns: less apart than a second is the same.
const SAME: u32 = 1 << 24;

#[test]
fn resumed_machines_have_nothing_in_common_but_their_template() {
    let Some(machine) = Machine::new(Who::Ordinary, "warm") else { return };
    let own = format!("hosts/{HOST}/host.yaml");
    machine.write(&own, &format!("{}\nsource: true\n", machine.read(&own)));
    machine.write(&format!("hosts/{HOST}/rootfs/etc/ssh/civm.d/own.conf"), "VersionAddendum own-settings\n");
    let template = Template::make(&machine);
    let begun = Instant::now();

    // Three at once: one with the host's secrets, two with a key of their own; the disk of one of them stays.
    let visitor = Visitor::new(&machine, 2222);
    start(&machine, "warm-a", &["--ephemeral", "-p", "2222:22"]);
    visitor.was_let_in(&host_public_key(&machine));
    start(&machine, "warm-b", &["--ephemeral", "--without-secrets"]);
    start(&machine, "warm-c", &["--without-secrets"]);
    eprintln!("three warm starts took {:.1?}", begun.elapsed());
    let [a, b, c] =
        ["warm-a", "warm-b", "warm-c"].map(|name| machine.guest(name, PARTICULAR).ok().out().to_owned());
    for [one, other] in [[&a, &b], [&b, &c], [&a, &c]] {
        let pairs: Vec<(&str, &str)> = one.lines().zip(other.lines()).collect();
        assert_eq!(pairs.len(), PARTICULAR.lines().count(), "{one}\n{other}");
        for (one, other) in pairs {
            assert_ne!(one, other, "of two machines");
        }
    }
    let sequences = ["warm-a", "warm-b", "warm-c"].map(|name| {
        let said = machine.guest(name, SEQUENCES).ok();
        let numbers = said.out().lines().map(|line| line.parse::<u32>().expect("a number"));
        let numbers: Vec<u32> = numbers.collect();
        assert!(is_same(numbers[0], numbers[1]), "of one connection of {name}: {numbers:?}");
        numbers[0]
    });
    for [one, other] in [[0, 1], [1, 2], [0, 2]] {
        assert!(!is_same(sequences[one], sequences[other]), "of two machines: {sequences:?}");
    }
    let boot_id = |text: &str| text.lines().nth(2).expect("a boot id").replace('-', "");
    assert!(a.lines().last().expect("the journal").contains(&boot_id(&a)), "{a}");
    for name in ["warm-a", "warm-b", "warm-c"] {
        clock::is_right(&machine, name);
        let failed = machine.guest(name, "systemctl --failed --plain --no-legend").ok();
        assert_eq!(failed.out(), "", "{name}");
    }
    // The sshd that listens since before the point has read the host's settings.
    let greeted = machine.guest("warm-a", "exec 3<>/dev/tcp/127.0.0.1/22; head -n1 <&3").ok();
    assert!(greeted.out().contains("own-settings"), "{}", greeted.out());
    let secret = machine.guest("warm-a", "sha256sum /run/secrets/vm_builder_ssh_key").ok();
    assert_eq!(secret.out().split(' ').next().map(str::len), Some(64));

    // Nothing of all that has come into the template.
    let particular: Vec<String> = [&a, &b, &c]
        .iter()
        .flat_map(|text| text.lines().skip(1).take(3))
        .map(str::to_owned)
        .chain([machine.base(), HOST.to_owned()])
        .collect();
    template.holds_none_of(&machine, &particular);

    // All verbs; and what boots again does so on its own disk.
    machine.guest("warm-c", "echo kept > /var/mark; sync").ok();
    let described = run(&mut machine.civm(&["status", "warm-c", "--json"])).ok();
    let described: Value = serde_json::from_slice(&described.stdout).expect("JSON");
    assert_eq!(described["state"], "ready", "{described:#}");
    run(&mut machine.civm(&["apply", "warm-b"])).ok();
    super::inside::users_read_the_source_alone(&machine, "warm-b", "jenkins", HOST);
    let _ = machine.guest("warm-c", "systemctl reboot");
    let until = Instant::now() + Duration::from_secs(240);
    let rebooted = |text: &str| text.lines().nth(2) != c.lines().nth(2) && text.contains("kept");
    loop {
        let ran = machine.guest("warm-c", &format!("{PARTICULAR}; cat /var/mark"));
        if ran.code == 0 && rebooted(ran.out()) {
            break;
        }
        assert!(Instant::now() < until, "it does not boot again: {}", ran.stderr);
        std::thread::sleep(Duration::from_millis(300));
    }
    run(&mut machine.civm(&["restart", "warm-c"])).ok();
    assert_eq!(machine.guest("warm-c", "cat /var/mark").ok().out(), "kept\n");
    clock::is_right(&machine, "warm-c");
    super::inside::users_read_the_source_alone(&machine, "warm-c", "jenkins", HOST);
    run(&mut machine.civm(&["down", "--all"])).ok();
    let again =
        run(&mut machine
            .civm(&[&["up", HOST, "-d", "--name", "warm-c", "--warm=require"], &SHAPE[..]].concat()));
    assert!(again.code != 0 && again.stderr.contains("--fresh"), "{}", again.stderr);
    run(&mut machine.civm(&["rm", "-y", "warm-c"])).ok();

    many(&machine);
    killed(&machine, "qemu-system");
    killed(&machine, "__supervisor");
    machine.nothing_remains();
    template.is_as_it_was();

    // Without a template nothing is started warm.
    let id = template.id();
    run(&mut machine.civm(&["image", "rm", "-y", &id])).ok();
    assert!(!template.dir.exists());
    let refused = up(&machine, "warm-a", &["--ephemeral"]);
    assert!(refused.code != 0 && refused.stderr.contains("no template"), "{}", refused.stderr);
    machine.nothing_remains();
}

#[test]
fn root_resumes_machines_whose_qemu_is_a_user_of_its_own() {
    let Some(machine) = Machine::new(Who::Root, "warm-root") else { return };
    let deaf = install_qemu(&machine);
    let template = Template::make(&machine);
    start(&machine, "warm-root", &["--ephemeral"]);
    clock::is_right(&machine, "warm-root");
    machine.down("warm-root").ok();
    machine.nothing_remains();
    template.is_as_it_was();

    // A guest that does not hear that it is another machine gets no key and no login.
    fs::write(&deaf, "").expect("a mark");
    let refused = up(&machine, "warm-root", &["--ephemeral"]);
    let said = "the kernel did not make its random numbers new after a warm start";
    assert!(refused.code != 0 && refused.stderr.contains(said), "{}", refused.stderr);
    assert!(!refused.stderr.contains("took its host key"), "{}", refused.stderr);
    fs::remove_file(&deaf).expect("no mark");
    machine.nothing_remains();

    // One that QEMU cannot read is said to be so: the machine boots, or is not started.
    let state = template.dir.join("state");
    let length = fs::metadata(&state).expect("its state").len();
    fs::write(&state, vec![0; usize::try_from(length).expect("a small file")]).expect("damaged");
    let refused = up(&machine, "warm-root", &["--ephemeral"]);
    assert!(refused.code != 0, "{}", refused.stderr);
    let booted = [&["up", HOST, "-d", "--name", "warm-root", "--ephemeral"], &SHAPE[..]].concat();
    run(&mut machine.civm(&booted)).ok().says("cannot resume the template, so it boots");
    machine.guest("warm-root", "test -s /run/secrets/vm_builder_ssh_key").ok();
    machine.down("warm-root").ok();
    machine.nothing_remains();
    run(&mut machine.civm(&["image", "rm", "-y", &template.id()])).ok();
}

/// Puts a QEMU before the machine's whose templates have a generation id that is known. What is resumed has another, as
/// ever; while the file exists that is returned, it has the same, by which no guest can tell that it is another machine.
fn install_qemu(machine: &Machine) -> PathBuf {
    let dir = machine.programs();
    let (program, mark) = (dir.join("qemu-system-x86_64"), dir.join("deaf"));
    let qemu = peer("qemu-system-x86_64").expect("QEMU");
    let text = format!(
        r#"#!/bin/sh
guid=7e57ab1e-0000-4000-8000-000000000001
case "$*" in *" -incoming "*) [ -e '{}' ] || guid=auto ;; esac
for argument do
    shift
    [ "$argument" != vmgenid,guid=auto ] || argument="vmgenid,guid=$guid"
    set -- "$@" "$argument"
done
exec '{}' "$@"
"#,
        mark.display(),
        qemu.display()
    );
    fs::create_dir(&dir).expect("a directory");
    fs::write(&program, text).expect("a program");
    for path in [&machine.dir, &dir, &program] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("open to QEMU's user");
    }
    mark
}

/// Whether two numbers of TCP sequences come of the same secret.
fn is_same(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).min(other.wrapping_sub(one)) < SAME
}

/// One after the other: none fails, none boots instead.
fn many(machine: &Machine) {
    let count = std::env::var("CIVM_WARM_STARTS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let begun = Instant::now();
    for _ in 0..count {
        start(machine, "warm-n", &["--ephemeral"]);
        run(&mut machine.civm(&["down", "warm-n", "--timeout", "0"])).ok();
    }
    eprintln!("{count} warm starts and stops took {:.1?}", begun.elapsed());
}

/// A resumed machine whose QEMU or supervisor is killed leaves nothing.
fn killed(machine: &Machine, victim: &str) {
    start(machine, "warm-k", &["--ephemeral"]);
    let base = machine.base();
    let mut hit = false;
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let name = entry.file_name();
        if line.contains(&base) && line.contains(victim) && line.contains("warm-k") {
            hit = run(std::process::Command::new("kill").arg("-9").arg(name)).code == 0 || hit;
        }
    }
    assert!(hit, "no {victim} was found");
    machine.nothing_remains();
}

fn up(machine: &Machine, name: &str, more: &[&str]) -> crate::support::Ran {
    let args = [&["up", HOST, "-d", "-v", "--name", name, "--warm=require"], &SHAPE[..], more].concat();
    run(&mut machine.civm(&args))
}

#[track_caller]
fn start(machine: &Machine, name: &str, more: &[&str]) {
    let ran = up(machine, name, more).ok();
    assert!(ran.stderr.contains("resumed from its template"), "{}", ran.stderr);
}

/// A template, and what it was made of.
struct Template {
    dir: PathBuf,
    digest: Vec<String>,
}

impl Template {
    fn make(machine: &Machine) -> Self {
        // What a test left that failed.
        for dir in Self::all(machine) {
            let id = dir.file_name().expect("a name").to_string_lossy().into_owned();
            run(&mut machine.civm(&["image", "rm", "-y", &id])).ok();
        }
        let begun = Instant::now();
        run(&mut machine.civm(&[&["image", "warm", HOST], &SHAPE[..]].concat())).ok();
        eprintln!("the template was made in {:.1?}", begun.elapsed());
        let [dir] = &Self::all(machine)[..] else { panic!("one template") };
        let dir = dir.clone();
        let digest = digest(&dir);
        Self { dir, digest }
    }

    /// The directories of all that are listed.
    fn all(machine: &Machine) -> Vec<PathBuf> {
        let listed = run(&mut machine.civm(&["image", "ls", "--json"])).ok();
        let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        let images = listed.as_array().expect("a list").iter();
        let templates = images.flat_map(|image| image["templates"].as_array().expect("a list"));
        templates.map(|one| one["directory"].as_str().expect("its directory").into()).collect()
    }

    fn id(&self) -> String {
        self.dir.file_name().expect("a name").to_string_lossy().into_owned()
    }

    /// No machine has written to it.
    #[track_caller]
    fn is_as_it_was(&self) {
        assert_eq!(digest(&self.dir), self.digest, "the template has changed");
    }

    /// Neither memory nor state nor disk holds one of the texts, a secret or a key.
    #[track_caller]
    fn holds_none_of(&self, machine: &Machine, texts: &[String]) {
        let mut needles: Vec<Vec<u8>> = texts.iter().map(|text| text.clone().into_bytes()).collect();
        let secrets = run(&mut machine.civm(&[
            "secrets",
            "decrypt",
            "--output-type",
            "json",
            &format!("hosts/{HOST}/secrets.yaml"),
        ]))
        .ok();
        let secrets: Value = serde_json::from_slice(&secrets.stdout).expect("JSON");
        for secret in secrets.as_object().expect("a map").values().filter_map(Value::as_str) {
            // A key is stored in lines, and a line of it is enough.
            let line = secret.lines().filter(|line| !line.starts_with("-----")).max_by_key(|line| line.len());
            needles.extend(line.filter(|line| line.len() > 7).map(|line| line.as_bytes().to_vec()));
        }
        // civm's own key, and what it lets in.
        let client = files(&machine.home().join(".local/state"));
        for key in client.iter().filter(|path| path.extension().is_some_and(|end| end == "pub")) {
            let text = fs::read_to_string(key).expect("a public key");
            needles.extend(text.split(' ').nth(1).map(|base64| base64.as_bytes().to_vec()));
        }
        assert!(needles.len() > 12, "{}", needles.len());
        // What has to be there shows that one can find it.
        assert!(contains(&self.dir.join("ram"), &[b"civm-apply.service".to_vec()]).is_some());
        for file in FILES.map(|name| self.dir.join(name)) {
            let found = contains(&file, &needles);
            let what =
                found.map(|needle| String::from_utf8_lossy(&needle[..needle.len().min(12)]).into_owned());
            assert_eq!(what, None, "in {}", file.display());
        }
    }
}

/// The hash of each file that a machine is given.
fn digest(dir: &Path) -> Vec<String> {
    FILES
        .iter()
        .map(|name| run(std::process::Command::new("sha256sum").arg(dir.join(name))).ok().out().to_owned())
        .collect()
}

/// The first of the texts that a file holds.
fn contains(path: &Path, needles: &[Vec<u8>]) -> Option<Vec<u8>> {
    const PIECE: usize = 4 << 20;
    let overlap = needles.iter().map(Vec::len).max().unwrap_or(0);
    let mut file = File::open(path).expect("a file of the template");
    let mut buffer = vec![0; overlap + PIECE];
    let mut kept = 0;
    loop {
        let count = file.read(&mut buffer[kept..]).expect("it is read");
        if count == 0 {
            return None;
        }
        let text = &buffer[..kept + count];
        if text.iter().any(|byte| *byte != 0) {
            let found = needles.iter().find(|needle| memchr::memmem::find(text, needle).is_some());
            if let Some(needle) = found {
                return Some(needle.clone());
            }
        }
        let keep = text.len().min(overlap);
        let from = text.len() - keep;
        buffer.copy_within(from..from + keep, 0);
        kept = keep;
    }
}

//! What a machine lives through: a guest that floods its host, a pause, a reboot, a panic.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::inside;
use super::machine::{Machine, Who, files};
use crate::support::https::{Server, certificates};
use crate::support::run;

const HOST: &str = "builder-demo";
/// As long as a guest of a small machine without KVM may take.
const LONG: Duration = Duration::from_secs(240);
/// What is typed, and nowhere but on the console.
const SECRET: &str = "typed-on-the-console";

/// A unit that writes as fast as it can, into the console and, as the agent does, into the port to the host. Not again
/// after the reboot: there it would keep the guest's readiness from the host until it has come to its end.
const UNITS: &str = r#"
hostname: life.example.org
artifacts:
  /opt/ci/job: {url: "URL", sha256: "SHA256", mode: 0755, owner: vm-builder}
services:
  nix-daemon.socket: {}
  job:
    run: /opt/ci/job
    needs: /opt/ci/job
    user: vm-builder
    environment: {WORDS: two words}
    state_directory: job
timezone: Europe/Helsinki
source: true
units:
  flood.service:
    text: |
      [Unit]
      ConditionPathExists=!/var/mark
      [Service]
      RuntimeMaxSec=60
      ExecStart=/usr/bin/perl -MSocket -e 'socket(S, AF_UNIX, SOCK_DGRAM, 0); connect(S, sockaddr_un("/run/civm/agent.sock")); open(C, ">", "/dev/console"); while (1) { send(S, q({"event":"warning","message":"flood"}), 0); syswrite(C, "flood\\n"); }'
"#;

/// What comes from the net.
const JOB: &str = "#!/bin/sh\necho $(id -un) in $(pwd): $WORDS > .out && mv .out out\n";

fn sha256(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn state(machine: &Machine, host: &str) -> String {
    let listed = run(&mut machine.civm(&["ls"])).ok();
    let line = listed.out().lines().find(|line| line.starts_with(host)).unwrap_or_default().to_owned();
    // After the names of the instance and of its host.
    line.split_whitespace().nth(2).unwrap_or_default().to_owned()
}

#[track_caller]
pub(super) fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The running QEMU: its number, and who it runs as.
fn qemu(machine: &Machine) -> (Pid, u32) {
    let remains = machine.remains();
    let line = remains.iter().find(|line| line.contains("qemu-system")).expect("QEMU runs");
    let pid: i32 = line.split([' ', ':']).nth(1).and_then(|pid| pid.parse().ok()).expect("its number");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("its user");
    (Pid::from_raw(pid), users.split_whitespace().next().and_then(|uid| uid.parse().ok()).expect("a number"))
}

/// Types lines on the console, and gives what it showed.
pub(super) fn console(machine: &Machine, host: &str, typed: &str) -> String {
    let script = format!("printf '{typed}'; sleep 1");
    let mut input = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().expect("sh");
    let mut command = machine.civm(&["console", host]);
    command.stdin(input.stdout.take().expect("its output"));
    let output = command.output().expect("civm runs");
    assert!(output.status.success(), "{output:?}");
    input.wait().expect("it ends");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A reboot keeps the machine, its host key and its port.
pub(super) fn reboots(machine: &Machine, host: &str) {
    let boot = machine.guest(host, "cat /proc/sys/kernel/random/boot_id").ok().out().to_owned();
    machine.guest(host, "systemctl reboot");
    // Its being booted in between may be over before anybody looks.
    wait_for("it is ready again, in another boot", || {
        let again = machine.guest(host, "cat /proc/sys/kernel/random/boot_id");
        state(machine, host) == "ready" && again.out().len() == boot.len() && again.out() != boot
    });
}

/// A panic is told, with its reason.
pub(super) fn panics(machine: &Machine, host: &str) {
    // A panic of a machine that nobody looks at is its end, told with its reason; the kernel's last words are kept.
    let mut crash = machine.civm(&["ssh", host, "echo c > /proc/sysrq-trigger"]);
    let mut crash = crash.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("civm runs");
    wait_for("the panic has ended it", || state(machine, host) == "-");
    let refused = machine.guest(host, "true");
    assert!(refused.stderr.contains("kernel panicked: sysrq triggered crash"), "{}", refused.stderr);
    let kept = |name: &str| {
        let logs = files(machine.home()).into_iter().filter(|path| path.ends_with(name));
        logs.filter_map(|path| fs::read_to_string(path).ok()).collect::<String>()
    };
    assert!(kept("console.log").contains("Kernel panic - not syncing: sysrq triggered crash"));
    assert!(kept("events.jsonl").contains(r#""event":"panicked""#));
    let _ = crash.wait();
}

/// What an apply is to bring: a file, and a unit that is restarted when the file changes.
const APP: &str = r#"  app.service:
    text: |
      [Service]
      ExecStart=/bin/sleep infinity
files:
  /etc/app/conf:
    text: "1"
    mode: 0640
    restart_units: [app.service]
"#;

/// `civm apply`; its answer.
fn apply(machine: &Machine, more: &[&str]) -> Value {
    let applied = run(machine.civm(&["apply", HOST, "--json"]).args(more)).ok();
    serde_json::from_str(applied.out()).expect("JSON")
}

/// Two fields of each entry of a list.
fn words(list: &Value, first: &str, second: &str) -> Vec<String> {
    let text = |entry: &Value, key: &str| entry[key].as_str().expect("text").to_owned();
    let entries = list.as_array().expect("a list").iter();
    entries.map(|entry| format!("{} {}", text(entry, first), text(entry, second))).collect()
}

/// What host.yaml says now is brought about in the guest that runs.
fn changes_while_it_runs(machine: &Machine, yaml: &str) {
    let write = |yaml: &str| machine.write("hosts/builder-demo/host.yaml", yaml);
    let up = || run(&mut machine.civm(&["up", HOST, "-d"])).ok().stderr;
    let none = serde_json::json!([]);
    let told = apply(machine, &["--dry-run"]);
    assert_eq!((&told["changes"], &told["steps"], &told["restart_for"]), (&none, &none, &none), "{told}");
    let told = up();
    assert!(told.contains("already running") && !told.contains("chang"), "what was asked for counts: {told}");

    let changed = yaml.replace("life.example", "changed.example") + APP;
    let changed = changed.replace("\ncpus: 2\n", "\ncpus: 3\n");
    write(&changed);
    let told = up();
    assert!(
        told.contains("its files have changed since: `civm apply builder-demo` brings them in"),
        "{told}"
    );
    assert!(told.contains("`civm restart builder-demo` brings it: cpus: 2 -> 3\n"), "{told}");
    let changes = "changed setting hostname\nadded file /etc/app/conf\nadded unit app.service\n\
                   restart app.service\nstart app.service\n";
    let told = run(&mut machine.civm(&["apply", HOST, "--dry-run"])).ok();
    assert_eq!(told.out(), changes);
    assert!(told.stderr.contains("`civm restart builder-demo` brings: cpus: 2 -> 3\n"), "{}", told.stderr);
    assert_eq!(machine.guest(HOST, "hostname; ls /etc/app").out(), "life.example.org\n");
    assert_eq!(run(&mut machine.civm(&["apply", HOST])).ok().out(), changes);
    let now = "hostname; stat -c %a /etc/app/conf; systemctl is-active app; nproc";
    assert_eq!(machine.guest(HOST, now).ok().out(), "changed.example.org\n640\nactive\n2\n");
    assert!(!up().contains("civm apply"), "everything was applied");

    // A unit runs anew when a file that names it has changed, and not otherwise.
    let invocation = || machine.guest(HOST, "systemctl show -P InvocationID app").ok().out().to_owned();
    let first = invocation();
    let done = apply(machine, &[]);
    assert_eq!((&done["changes"], &done["steps"]), (&none, &none), "{done}");
    assert_eq!(done["restart_for"], serde_json::json!(["cpus: 2 -> 3"]));
    assert_eq!(invocation(), first);
    write(&changed.replace(r#"text: "1""#, r#"text: "2""#));
    let done = apply(machine, &[]);
    assert_eq!(words(&done["changes"], "how", "name"), ["changed /etc/app/conf"], "{done}");
    assert_eq!(words(&done["steps"], "verb", "unit"), ["restart app.service"], "{done}");
    assert_ne!(invocation(), first);

    // A host.yaml that is wrong changes nothing.
    write(&format!("{changed}nonsense: 1\n"));
    let refused = run(&mut machine.civm(&["apply", HOST]));
    assert!(refused.code != 0 && refused.stderr.contains("nonsense"), "{}", refused.stderr);
    assert_eq!(machine.guest(HOST, "cat /etc/app/conf").ok().out(), "2");

    // What it no longer has goes. This is what the guest has after its reboot as well.
    write(&(yaml.replace("life.example", "applied.example") + "files:\n  /etc/applied: last\n"));
    let gone = apply(machine, &[]);
    assert_eq!(words(&gone["steps"], "verb", "unit"), ["stop app.service"], "{gone}");
    assert_eq!(gone["restart_for"], none);
    let now = "ls -d /etc/app /run/systemd/system/app.service; systemctl is-active app";
    assert_eq!(machine.guest(HOST, now).out(), "inactive\n");
    is_as_applied_last(machine);
    sshd_is_started_again(machine);
}

/// An sshd that has ended runs again after an apply, with the machine's key; nobody could log in to see to that.
fn sshd_is_started_again(machine: &Machine) {
    machine.guest(HOST, "systemctl stop civm-sshd.service");
    let refused = machine.guest(HOST, "true");
    assert!(refused.code != 0, "sshd runs on");
    let done = apply(machine, &[]);
    assert_eq!(done["warnings"], serde_json::json!([]), "{done}");
    machine.guest(HOST, "systemctl is-active civm-sshd.service").ok();
}

/// From its next boot on, the image has preparations that take long and undo what was applied.
fn the_image_prepares_slowly(machine: &Machine) {
    let script = "dir=/etc/systemd/system/systemd-tmpfiles-setup.service.d
        mkdir -p $dir && printf '[Service]\\nExecStartPre=/bin/sleep 3\\n' > $dir/slow.conf
        printf 'F+ /etc/applied - - - - of the image\\nf+ /run/prepared - - - -\\n' > /etc/tmpfiles.d/late.conf";
    machine.guest(HOST, script).ok();
}

fn is_as_applied_last(machine: &Machine) {
    let now = machine.guest(HOST, "hostname; cat /etc/applied; ls -d /etc/app 2>/dev/null");
    assert_eq!(now.out(), "applied.example.org\nlast");
}

/// What host.yaml says of the whole guest, and who reads the project's source there.
fn is_set_up(machine: &Machine) {
    let told = machine.guest(HOST, "hostname; cat /etc/timezone; date +%Z").ok();
    let (name, zone) = told.out().split_once('\n').expect("two lines");
    assert_eq!(name, "life.example.org");
    assert!(zone.starts_with("Europe/Helsinki\nEE"), "{zone}");
    // A file from the net, and a service that runs it.
    wait_for("the service has run", || machine.guest(HOST, "test -s /var/lib/job/out").code == 0);
    let ran = machine.guest(HOST, "cat /var/lib/job/out; stat -Lc '%a %U' /opt/ci/job").ok();
    assert_eq!(ran.out(), "vm-builder in /var/lib/job: two words\n755 vm-builder\n");
    inside::users_read_the_source_alone(machine, HOST, "vm-builder", HOST);
}

fn lives(who: Who) {
    let Some(machine) = Machine::new(who, "life") else { return };
    let host = machine.read("hosts/builder-demo/host.yaml");
    // An image of its own takes a minute to build: once is enough.
    let packages = if who == Who::Root { "packages: [" } else { "packages: [cron, " };
    let server = Server::start(|_| (200, String::new(), JOB.as_bytes().to_vec()));
    let units = UNITS.replace("URL", &server.url("/job")).replace("SHA256", &sha256(JOB));
    let host = host.replace("services: [nix-daemon.socket]\n", "");
    let flooding = host.replace("packages: [", packages) + &units;
    machine.write("hosts/builder-demo/host.yaml", &flooding);
    // Later starts and applies ask nobody for the file.
    machine.write("ca.pem", &fs::read_to_string(certificates()).expect("certificates"));
    let mut up = machine.civm(&["up", HOST, "-d", "--memory", "2G"]);
    run(up.env("SSL_CERT_FILE", machine.dir.join("ca.pem"))).ok();
    let (pid, user) = qemu(&machine);
    assert_ne!(user, 0, "QEMU is not root, whoever runs civm");
    let disk = machine.dir.join("builder-demo.qcow2").metadata().expect("a disk");
    assert_eq!(disk.permissions().mode() & 0o7777, 0o600);
    assert_eq!(disk.uid(), if who == Who::Root { 0 } else { user }, "the disk is its owner's");

    // While the guest floods everything, the host answers, and its files do not grow.
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        assert_eq!(state(&machine, HOST), "ready");
    }
    let state_files = || files(&machine.home().join(".local/state/civm"));
    let big: Vec<_> = state_files()
        .into_iter()
        .filter(|path| !path.ends_with("ephemeral.qcow2") && path.metadata().is_ok_and(|m| m.len() > 1 << 20))
        .collect();
    assert!(big.is_empty(), "{big:?}");
    machine.guest(HOST, "systemctl stop flood").ok();
    is_set_up(&machine);
    changes_while_it_runs(&machine, &flooding);

    // Thirty at once, and no `--`.
    let logins: Vec<_> = (0..30)
        .map(|n| {
            let mut command = machine.civm(&["ssh", HOST, "echo", &n.to_string()]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("civm runs")
        })
        .collect();
    for (n, login) in logins.into_iter().enumerate() {
        let output = login.wait_with_output().expect("it ends");
        assert_eq!(
            (String::from_utf8_lossy(&output.stdout).trim(), output.stderr.as_slice()),
            (n.to_string().as_str(), &b""[..])
        );
    }
    // What packages have enabled runs, also after a reboot.
    let enabled = if who == Who::Root { "nix-daemon.socket" } else { "cron" };
    let active = format!("systemctl is-active -q {enabled} multi-user.target");
    wait_for("what is enabled runs", || machine.guest(HOST, &active).code == 0);
    inside::reaches_all_but_its_host(&machine, HOST);
    machine.guest(HOST, "echo marked > /var/mark; sync").ok();

    // A key that a user has added in the guest counts beside those of host.yaml.
    let key = machine.dir.join("own-key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(made.expect("ssh-keygen").success());
    let public = fs::read_to_string(key.with_extension("pub")).expect("a public key");
    let add = format!("mkdir -pm 700 .ssh; echo '{}' >> .ssh/authorized_keys", public.trim());
    machine.guest(HOST, &add).ok();
    let listed = run(&mut machine.civm(&["ls"])).ok();
    let port = listed.out().lines().find(|line| line.starts_with(HOST)).and_then(|line| {
        line.split_whitespace()
            .find_map(|word| word.strip_suffix("->22")?.rsplit(':').next()?.parse::<u16>().ok())
    });
    let own = ["IdentitiesOnly=yes", "IdentityAgent=none", "StrictHostKeyChecking=no", "BatchMode=yes"];
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-o", "UserKnownHostsFile=/dev/null", "-i"]).arg(&key);
    ssh.args(own.iter().flat_map(|option| ["-o", option]));
    ssh.args(["-p", &port.expect("a port").to_string(), "root@127.0.0.1", "echo", "in"]);
    assert_eq!(run(&mut ssh).ok().out(), "in\n");

    // A pause is seen, said and made up for.
    kill(pid, Signal::SIGSTOP).expect("it is there");
    assert_eq!(state(&machine, HOST), "frozen");
    let refused = machine.guest(HOST, "true");
    assert!(refused.code != 0 && refused.stderr.contains("frozen"), "{}", refused.stderr);
    // Twice what the clock may be off afterwards.
    std::thread::sleep(Duration::from_secs(6));
    kill(pid, Signal::SIGCONT).expect("it is there");
    wait_for("the clock is right", || {
        let guest: u64 = machine.guest(HOST, "date +%s").out().trim().parse().unwrap_or_default();
        SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs().abs_diff(guest) <= 3
    });

    // What is typed on the console is on no disk.
    let shown = console(&machine, HOST, &format!("echo {SECRET}-$((40+2))\\n"));
    assert!(shown.contains(&format!("{SECRET}-42")), "{shown}");
    let found: Vec<_> = state_files()
        .into_iter()
        .filter(|path| fs::read(path).is_ok_and(|text| String::from_utf8_lossy(&text).contains(SECRET)))
        .collect();
    assert!(found.is_empty(), "{found:?}");

    // As a machine leaves it that is cut off soon after Nix has made its database.
    machine.guest(HOST, "nix-store --init && : > /nix/var/nix/db/schema && sync && ! nix-store --init").ok();
    the_image_prepares_slowly(&machine);
    reboots(&machine, HOST);
    machine.guest(HOST, "test -e /run/prepared && nix-store --init && test -s /nix/var/nix/db/schema").ok();
    inside::users_read_the_source_alone(&machine, HOST, "vm-builder", HOST);
    assert_eq!(machine.guest(HOST, "cat /var/mark").ok().out(), "marked\n");
    is_as_applied_last(&machine);

    inside::sees_its_share_and_no_more(&machine, HOST);
    panics(&machine, HOST);
    machine.nothing_remains();
}

#[test]
fn a_machine_lives_through_floods_pauses_reboots_and_panics() {
    lives(Who::Ordinary);
}

#[test]
fn and_so_does_one_of_roots() {
    lives(Who::Root);
}

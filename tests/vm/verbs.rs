//! The verbs on a machine that runs, as scripts use them.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::life::{state, wait_for};
use super::machine::{Machine, files};
use crate::support::{Ran, run, run_with};

/// A second machine of the same host.
const SECOND: &str = "b2";
/// How long a log that is followed may go on after the machine's end.
const LAST_WORDS: Duration = Duration::from_secs(20);

fn civm(machine: &Machine, args: &[&str]) -> Ran {
    run(&mut machine.civm(args))
}

fn json(machine: &Machine, args: &[&str]) -> Value {
    serde_json::from_str(civm(machine, args).ok().out()).expect("JSON")
}

/// What is asked of a machine that runs.
pub fn work(machine: &Machine, host: &str) {
    programs_are_run_as_they_are_named(machine, host);
    directories_are_copied_both_ways(machine, host);
    plain_ssh_reaches_it(machine, host);
    it_is_described(machine, host);
}

fn programs_are_run_as_they_are_named(machine: &Machine, host: &str) {
    let words = ["a b", "c'd\"e", "$HOME", "*", "", "ü;x", "-n", "\\", "line\nline"];
    let ran = run(machine.civm(&["exec", host, "--", "printf", "%s|"]).args(words)).ok();
    assert_eq!(ran.out(), words.map(|word| format!("{word}|")).concat());
    let bytes: Vec<u8> = (0..=255_u8).cycle().take(100_000).collect();
    assert_eq!(run_with(&mut machine.civm(&["exec", host, "--", "cat"]), &bytes).ok().stdout, bytes);
    let ran = civm(machine, &["exec", host, "--", "sh", "-c", "echo told >&2; exit 7"]).code(7);
    assert_eq!((ran.out(), ran.stderr.as_str()), ("", "told\n"));
    civm(machine, &["exec", "nobody", "--", "true"]).says("nobody");
}

fn directories_are_copied_both_ways(machine: &Machine, host: &str) {
    for (name, text) in [("tree/a", "1"), ("tree/sub/b c", "2")] {
        fs::create_dir_all(machine.dir.join("tree/sub")).expect("a directory");
        machine.write(name, text);
    }
    civm(machine, &["cp", "tree", &format!("{host}:/root/copied")]).ok();
    let seen = machine.guest(host, "cd /root/copied && find . -type f | sort && cat a 'sub/b c'").ok();
    assert_eq!(seen.out(), "./a\n./sub/b c\n12");
    civm(machine, &["cp", &format!("{host}:/root/copied"), "back"]).ok();
    assert_eq!((machine.read("back/a"), machine.read("back/sub/b c")), ("1".to_owned(), "2".to_owned()));
    let refused = civm(machine, &["cp", &format!("{host}:/nothing"), "there"]);
    assert!(refused.code != 0 && refused.stderr.contains("/nothing"), "{}", refused.stderr);
    for name in ["tree", "back"] {
        fs::remove_dir_all(machine.dir.join(name)).expect("a directory");
    }
}

/// With the configuration that civm prints, ssh and scp need neither civm nor a question.
fn plain_ssh_reaches_it(machine: &Machine, host: &str) {
    let config = civm(machine, &["ssh-config"]).ok();
    machine.write("ssh-config", config.out());
    let mut ssh = machine.command("ssh");
    let ran = run(ssh.args(["-F", "ssh-config", "-o", "BatchMode=yes", host, "hostname"])).ok();
    assert_eq!((ran.out(), ran.stderr.as_str()), (format!("{host}\n").as_str(), ""));
    let mut scp = machine.command("scp");
    run(scp.args(["-q", "-F", "ssh-config", "ssh-config", &format!("{host}:/tmp/x")])).ok();
    assert_eq!(machine.guest(host, "cat /tmp/x").ok().out(), config.out());
}

fn it_is_described(machine: &Machine, host: &str) {
    assert_eq!(civm(machine, &["port", host, "22"]).ok().out(), "127.0.0.1:2322\n");
    assert_eq!(civm(machine, &["port", host]).ok().out(), "127.0.0.1:2322 -> 22\n");
    assert_eq!(json(machine, &["port", host, "--json"])[0]["host_port"], 2322);
    civm(machine, &["port", host, "80"]).code(1).says("-p 80");

    civm(machine, &["wait", host, "--for", "ssh", "--timeout", "60"]).ok();
    civm(machine, &["wait", host]).ok();
    let late = civm(machine, &["wait", host, "--for", "ended", "--timeout", "1"]);
    assert!(late.code != 0 && late.stderr.contains("still ready"), "{}", late.stderr);

    let status = json(machine, &["status", host, "--json"]);
    assert_eq!((&status["name"], &status["host"]), (&host.into(), &host.into()));
    assert_eq!((&status["state"], &status["cpus"]), (&"ready".into(), &2.into()));
    assert_eq!((&status["memory_mib"], &status["ephemeral"]), (&2048.into(), &false.into()));
    assert_eq!(status["disk"], machine.dir.join(format!("{host}.qcow2")).to_string_lossy().as_ref());

    let told = json(machine, &["inspect", host]);
    assert_eq!(told["state"], "ready");
    let processes = told["processes"].as_array().expect("a list");
    for role in ["keeper", "supervisor", "qemu"] {
        let found = processes.iter().find(|process| process["role"] == role);
        let pid =
            found.and_then(|process| process["pid"].as_i64()).unwrap_or_else(|| panic!("{role}: {told}"));
        assert!(fs::exists(format!("/proc/{pid}")).expect("/proc"), "{role} {pid}");
    }
    for name in ["state", "console_log", "events", "known_hosts"] {
        let path = told["paths"][name].as_str().unwrap_or_else(|| panic!("{name}: {told}"));
        assert!(fs::exists(path).expect("a path"), "{name}: {path}");
    }

    let console = civm(machine, &["logs", host]).ok();
    assert!(console.out().contains("the guest is ready"), "{}", console.out());
    let told = events(machine, host, &[]);
    assert!(told.iter().any(|event| event["report"]["event"] == "ready"), "{told:?}");
    civm(machine, &["logs", host, "--log", "qemu"]).ok();
    civm(machine, &["logs", host, "--boot", "9"]).says("no log of boot 9");
}

/// The events of a boot.
fn events(machine: &Machine, host: &str, more: &[&str]) -> Vec<Value> {
    let told = run(machine.civm(&["logs", host, "--log", "events"]).args(more)).ok();
    told.out().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A machine of the same host has nothing in common with the first.
pub fn a_second_machine_stands_beside_it(machine: &Machine, host: &str) {
    civm(machine, &["up", host, "--name", SECOND, "-d", "--cpus", "1", "--memory", "1G"]).ok();
    let is = |name: &str| {
        let own =
            "hostname; cat /etc/machine-id; cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub; ls /var/mark";
        let seen = machine.guest(name, own);
        let mut lines: Vec<String> = seen.out().lines().map(str::to_owned).collect();
        lines.push(civm(machine, &["port", name, "22"]).ok().out().to_owned());
        lines.push(json(machine, &["status", name, "--json"])["disk"].to_string());
        lines
    };
    let (first, second) = (is(host), is(SECOND));
    assert_eq!((first[0].as_str(), second[0].as_str()), (host, SECOND));
    assert!(first.iter().all(|line| !second.contains(line)), "{first:?} {second:?}");
    assert!(first.iter().any(|line| line == "/var/mark"), "a disk of its own: {first:?} {second:?}");
    assert!(machine.dir.join("b2.qcow2").exists());
    assert_eq!((state(machine, host), state(machine, SECOND)), ("ready".to_owned(), "ready".to_owned()));
    let other = civm(machine, &["up", "builder", "--name", SECOND, "-d"]);
    assert!(other.code != 0 && other.stderr.contains(SECOND), "the name is taken: {}", other.stderr);
}

/// A restart is another boot of the same machine.
pub fn restarts_with_its_disk_and_ports(machine: &Machine, host: &str) {
    let boot = || machine.guest(host, "cat /proc/sys/kernel/random/boot_id").ok().out().to_owned();
    let ports = || civm(machine, &["port", host]).ok().out().to_owned();
    let before = (boot(), ports());
    civm(machine, &["restart", host]).ok();
    assert_ne!(boot(), before.0);
    assert_eq!(ports(), before.1);
    assert_eq!(
        json(machine, &["status", host, "--json"])["memory_mib"],
        2048,
        "what was asked for at the start"
    );
    assert_eq!(events(machine, host, &["--boot", "1"]).last().expect("events")["event"], "ended");
}

/// Follows a log, and gives all of it.
fn follow(machine: &Machine, host: &str, log: &str) -> Child {
    let mut command = machine.civm(&["logs", host, "--follow", "--log", log]);
    command.stdout(Stdio::piped()).spawn().expect("civm runs")
}

/// Everything is stopped, then removed.
pub fn all_go_down_and_away(machine: &Machine, host: &str) {
    let mut followed = follow(machine, host, "events");
    let mut waiting = machine.civm(&["wait", SECOND, "--for", "ended"]).spawn().expect("civm runs");
    civm(machine, &["rm", SECOND, "--yes"]).says("civm down b2");
    civm(machine, &["down", "--all"]).ok();
    let end = Instant::now() + LAST_WORDS;
    while followed.try_wait().expect("a child").is_none() || waiting.try_wait().expect("a child").is_none() {
        assert!(Instant::now() < end, "a log is followed, or an end awaited, that has come");
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = followed.wait_with_output().expect("it ended");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.lines().last().is_some_and(|line| line.contains(r#""event":"ended""#)), "{told}");
    machine.nothing_remains();
    for name in [host, SECOND] {
        assert_eq!(json(machine, &["status", name, "--json"])["state"], "down");
    }

    // Nobody can be asked here.
    civm(machine, &["rm", SECOND]).code(1).says("--yes");
    assert!(machine.dir.join("b2.qcow2").exists());
    civm(machine, &["rm", host, SECOND, "--yes"]).ok();
    wait_for("both are gone", || state(machine, SECOND).is_empty());
    let left =
        files(&machine.dir).into_iter().filter(|path| path.extension().is_some_and(|end| end == "qcow2"));
    assert_eq!(left.count(), 0);
    let unknown = civm(machine, &["status", SECOND]);
    assert!(unknown.code != 0 && unknown.stderr.contains(SECOND), "{}", unknown.stderr);
}

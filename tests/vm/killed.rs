//! Whatever is killed, at whatever moment, nothing stays behind, and the next start works: real guests. Those of the
//! smallest kernel are in tests/instance.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::machine::{Machine, Who, files};
use crate::support::run;
use crate::support::traces::{Processes, left_in_state, partials, points, readable_keys, taken};

const HOST: &str = "jenkins-controller";
const NAME: &str = "killed";
/// The caller, and the processes of the instance.
const VICTIMS: [&str; 5] = ["civm", "__keeper", "__supervisor", "__fence", "qemu-system"];
/// How long what was killed may take until it is gone.
const GONE: Duration = Duration::from_secs(60);

/// What is under way when something is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Start,
    Run,
    Apply,
    Down,
}

const KINDS: u32 = 4;
const MOMENTS: [Moment; KINDS as usize] = [Moment::Start, Moment::Run, Moment::Apply, Moment::Down];

#[test]
fn a_kill_at_any_moment_leaves_nothing_of_a_users_machine() {
    kills(Who::Ordinary);
}

#[test]
fn a_kill_at_any_moment_leaves_nothing_of_roots_machine() {
    kills(Who::Root);
}

fn kills(who: Who) {
    // One of each; `devshell/bench faults-vm` makes it 64, for both users.
    let points = points(if who == Who::Root { 0 } else { KINDS });
    if points == 0 {
        return eprintln!(
            "skipped: kills of root's machine at any moment (devshell/bench faults-vm has them)"
        );
    }
    let Some(machine) = Machine::new(who, "killed") else { return };
    let mut guest = Guest::new(&machine);
    let (mut hit, begun) = (0, Instant::now());
    for point in 0..points {
        let (kind, round) = (point as usize % MOMENTS.len(), point / KINDS);
        let moment = MOMENTS[kind];
        let rounds = points.div_ceil(KINDS);
        // The same process is killed at moments that lie apart.
        let victim = VICTIMS[(round as usize + kind + usize::from(who == Who::Root)) % VICTIMS.len()];
        let part = (f64::from((round * 7 + 3) % rounds) + 0.5) / f64::from(rounds);
        let found = guest.kill(moment, victim, part);
        hit += u32::from(found);
        let seconds = begun.elapsed().as_secs();
        eprintln!(
            "{point}: {moment:?} at {part:.2}, {victim}{}; {seconds} s",
            if found { "" } else { " (gone)" }
        );
    }
    guest.down();
    guest.nothing_remains("the last down");
    assert!(hit * 2 > points, "{hit} of {points} kills found their victim");
}

/// A machine with a key among its secrets.
struct Guest<'a> {
    machine: &'a Machine,
    processes: Processes,
    key: Vec<u8>,
    host: String,
    /// What the guest was last told to have.
    changes: u32,
    /// How long a start, an apply and a down take here.
    takes: [Duration; 3],
}

impl<'a> Guest<'a> {
    /// Starts it, changes it and stops it once.
    fn new(machine: &'a Machine) -> Self {
        let secrets = format!("hosts/{HOST}/secrets.yaml");
        let key = run(&mut machine.civm(&["secrets", "get", &secrets, "ssh_host_ed25519_key"])).ok().stdout;
        assert!(key.starts_with(b"-----BEGIN"), "the key that is staged");
        let host = machine.read(&format!("hosts/{HOST}/host.yaml"));
        let processes = Processes::of(machine.dir.parent().expect("a base"));
        let mut guest = Self { machine, processes, key, host, changes: 0, takes: [Duration::ZERO; 3] };
        // What comes first makes the image and tries the accelerator.
        guest.up();
        let timed = |guest: &mut Self, what: fn(&mut Self)| {
            let begun = Instant::now();
            what(guest);
            begun.elapsed()
        };
        let apply = timed(&mut guest, Self::apply);
        let down = timed(&mut guest, Self::down);
        let start = timed(&mut guest, Self::up);
        guest.takes = [start, apply, down];
        eprintln!("a start takes {start:.1?}, an apply {apply:.1?}, a down {down:.1?}");
        guest
    }

    /// Kills one process, and looks at what there is afterwards: the guest runs again then. Says whether that process
    /// was there.
    fn kill(&mut self, moment: Moment, victim: &str, part: f64) -> bool {
        let [start, apply, down] = self.takes;
        let what = format!("{victim} at {part:.2} of {moment:?}");
        let (caller, takes) = match moment {
            Moment::Start => {
                self.down();
                (Some(self.begin(&["up", HOST], true)), start)
            }
            Moment::Run => (None, Duration::ZERO),
            Moment::Apply => {
                self.change();
                (Some(self.begin(&["apply", NAME], false)), apply)
            }
            Moment::Down => (Some(self.begin(&["down", NAME], false)), down),
        };
        std::thread::sleep(takes.mul_f64(part));
        let found = match (caller, victim) {
            (Some(mut caller), "civm") => {
                let found = caller.try_wait().expect("a child").is_none();
                caller.kill().expect("it is killed");
                caller.wait().expect("it ends");
                found
            }
            (Some(mut caller), _) => {
                let found = self.processes.kill_if_there(victim);
                caller.wait().expect("it ends as well");
                found
            }
            (None, "civm") => self.processes.kill_if_there("__keeper"),
            (None, _) => self.processes.kill_if_there(victim),
        };
        match moment {
            // It has nothing to do with who changes the machine.
            Moment::Apply if !found || victim == "civm" => {
                self.until(&what, "the key is taken back", || self.keys().is_empty());
                self.apply();
            }
            Moment::Start if !found || (victim == "civm" && self.is_on_its_own()) => self.down(),
            // It goes on without the one who asked for it.
            _ => {}
        }
        if !matches!(moment, Moment::Apply) || (found && victim != "civm") {
            self.nothing_remains(&what);
            self.up();
        }
        self.machine.guest(NAME, "true").ok();
        let partials = partials(&self.machine.home().join(".local/state"));
        assert!(partials.is_empty(), "{what}: {partials:?}");
        assert!(self.keys().is_empty(), "{what}: {:?}", self.keys());
        found
    }

    /// Whether a start had let go of the machine before it was killed.
    fn is_on_its_own(&self) -> bool {
        std::thread::sleep(Duration::from_secs(2));
        run(&mut self.machine.civm(&["status", NAME, "--json"])).out().contains(r#""state": "ready""#)
    }

    fn begin(&self, args: &[&str], starts: bool) -> Child {
        let more: &[&str] = if starts { &UP } else { &[] };
        let mut command = self.machine.civm(args);
        command.args(more).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("civm runs")
    }

    fn up(&mut self) {
        run(self.machine.civm(&["up", HOST]).args(UP)).ok();
    }

    fn down(&mut self) {
        run(&mut self.machine.civm(&["down", NAME])).ok();
    }

    /// Another word in a file of the guest.
    fn change(&mut self) {
        self.changes += 1;
        let file = format!("\nfiles: {{/etc/changed: {{text: \"{}\"}}}}\n", self.changes);
        self.machine.write(&format!("hosts/{HOST}/host.yaml"), &format!("{}{file}", self.host));
    }

    /// Brings it in, after an apply that was cut off in the guest has come to its end.
    fn apply(&mut self) {
        self.change();
        let end = Instant::now() + GONE;
        loop {
            let applied = run(&mut self.machine.civm(&["apply", NAME]));
            if applied.code == 0 {
                break;
            }
            assert!(applied.stderr.contains("under way") && Instant::now() < end, "{}", applied.stderr);
            std::thread::sleep(Duration::from_millis(200));
        }
        let has = self.machine.guest(NAME, "cat /etc/changed").ok();
        assert_eq!(has.out(), self.changes.to_string());
    }

    fn keys(&self) -> Vec<PathBuf> {
        readable_keys(&self.key, &[self.machine.dir.clone(), self.machine.home().join(".local")])
    }

    /// The user's files in memory that belong to no living instance: this one is down, but others may run.
    fn left_in_memory(&self) -> Vec<PathBuf> {
        let all = Processes::of(Path::new("__supervisor")).living();
        let is_used = |file: &PathBuf| {
            all.iter().any(|(_, arguments)| {
                arguments.split(' ').any(|word| word.starts_with("/") && file.starts_with(word))
            })
        };
        let mut files = self.machine.files_in_memory();
        files.retain(|file| !is_used(file));
        files
    }

    #[track_caller]
    fn until(&self, what: &str, done: &str, condition: impl Fn() -> bool) {
        let end = Instant::now() + GONE;
        while !condition() {
            assert!(
                Instant::now() < end,
                "{what}: waited in vain until {done}: {:?}",
                self.processes.living()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// No process, key, port, lock or file of it, once the next civm has looked.
    #[track_caller]
    fn nothing_remains(&self, what: &str) {
        self.until(what, "every process is gone", || self.processes.living().is_empty());
        let listed = run(&mut self.machine.civm(&["ls", "--json"])).ok();
        let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        let record = listed.as_array().and_then(|list| list.iter().find(|one| one["name"] == NAME));
        let record = record.unwrap_or_else(|| panic!("{what}: {listed:#}"));
        assert_eq!(record["state"], "down", "{what}");
        let ports: Vec<u16> = record["forwards"]
            .as_array()
            .expect("its forwards")
            .iter()
            .filter_map(|forward| forward["host_port"].as_u64().and_then(|port| port.try_into().ok()))
            .filter(|port| *port != 0)
            .collect();
        self.until(what, "the ports are free", || taken(&ports).is_empty());
        let left = left_in_state(&self.machine.home().join(".local/state"));
        assert!(left.is_empty(), "{what}: {left:#?}");
        assert!(self.keys().is_empty(), "{what}: {:?}", self.keys());
        self.until(what, "nothing is in memory", || self.left_in_memory().is_empty());
        let disks = files(&self.machine.dir)
            .into_iter()
            .filter(|path| path.extension().is_some_and(|end| end == "qcow2"));
        assert_eq!(disks.count(), 0, "{what}: a disk beside the project");
    }
}

const UP: [&str; 9] = ["--name", NAME, "--ephemeral", "-d", "--cpus", "2", "--memory", "1G", "--accel=auto"];

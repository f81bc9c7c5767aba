//! Signals at random instants of every verb that writes: no file is broken, and nothing is left that should not be.
//!
//! A few of each in every run of the tests; `devshell/bench faults 200` sends as many as it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use civm::edge::environment::Environment;
use civm::edge::terminal::Nobody;
use civm::keys::identity::Identities;
use civm::secrets::file::SopsFile;
use civm::sops::document::MacCheck;
use civm::store::{Format, Indents};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use rand::Rng as _;

use crate::support::{Scene, run};

/// A throw-away identity; it protects nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";
/// The plaintext of every file, and what edit and set make of it. Both hold the word that is looked for.
const PLAIN: &str = "a: hush\nb: one\n";
const CHANGED: &str = "a: hush\nb: other\n";
const SECRET: &[u8] = b"hush";
/// Files that update-all has to do.
const FILES: usize = 12;
/// How many signals of each kind unless `CIVM_FAULTS` says it, and how long that may take.
const FEW: usize = 20;
const BUDGET: Duration = Duration::from_secs(60);

/// Other signals that end a process, of which each round has one.
const OTHERS: [Signal; 5] =
    [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGXCPU];

/// The verbs, and whether the file `s.yaml` is plain before and after each.
struct Verb {
    args: &'static [&'static str],
    plain_before: bool,
    plain_after: bool,
    /// Whether the file has a second name, so that it is written in place.
    linked: bool,
}

const fn verb(args: &'static [&'static str]) -> Verb {
    Verb { args, plain_before: false, plain_after: false, linked: false }
}

const VERBS: [Verb; 8] = [
    Verb { plain_before: true, ..verb(&["secrets", "encrypt", "-i", "s.yaml"]) },
    Verb { plain_after: true, ..verb(&["secrets", "decrypt", "-i", "s.yaml"]) },
    verb(&["secrets", "edit", "s.yaml"]),
    verb(&["secrets", "set", "s.yaml", "b", "other"]),
    verb(&["sops", "set", "s.yaml", "[\"b\"]", "\"other\""]),
    verb(&["secrets", "rotate", "s.yaml"]),
    verb(&["secrets", "update-all"]),
    Verb { linked: true, ..verb(&["secrets", "set", "s.yaml", "b", "other"]) },
];

/// A project that is made once and put back before each run.
struct World {
    scene: Scene,
    /// A place in memory, where there is one.
    memory: Option<tempfile::TempDir>,
    sealed: Vec<u8>,
    identities: Identities,
}

impl World {
    fn new() -> Self {
        let scene = Scene::new();
        scene.write(".sops.yaml", format!("creation_rules:\n  - age: {ALICE_AGE}\n"));
        scene.write("s.yaml", PLAIN);
        run(&mut scene.civm(&["secrets", "encrypt", "-i", "s.yaml"])).ok();
        let sealed = fs::read(scene.file("s.yaml")).unwrap();
        scene.write(".sops.yaml", format!("creation_rules:\n  - age: {ALICE_AGE},{BOB_AGE}\n"));
        let memory = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in("/dev/shm")
            .ok();
        let identities =
            Identities::load(&Environment::empty().with("SOPS_AGE_KEY", ALICE), Arc::new(Nobody));
        let world = Self { scene, memory, sealed, identities };
        let _ = run(&mut world.git(&["init", "-q"]));
        world
    }

    fn git(&self, args: &[&str]) -> Command {
        let mut git = self.scene.command("git");
        git.args(args);
        git
    }

    fn civm(&self, args: &[&str]) -> Command {
        let mut command = self.scene.civm(args);
        command.env("SOPS_AGE_KEY", ALICE).env("EDITOR", "sed -i s/one/other/");
        if let Some(memory) = &self.memory {
            command.env("XDG_RUNTIME_DIR", memory.path());
        }
        command
    }

    /// The names of the project's files.
    fn wanted(&self, verb: &Verb) -> BTreeSet<String> {
        let mut names: BTreeSet<_> = (0..FILES).map(|number| format!("f{number}.yaml")).collect();
        names.extend([".sops.yaml", ".git", "s.yaml"].map(str::to_owned));
        if verb.linked {
            names.insert("second.yaml".to_owned());
        }
        names
    }

    fn put_back(&self, verb: &Verb) {
        for name in self.found() {
            if !["", ".git", ".sops.yaml"].contains(&&*name) {
                fs::remove_file(self.scene.file(&name)).unwrap();
            }
        }
        for number in 0..FILES {
            self.scene.write(&format!("f{number}.yaml"), &self.sealed);
        }
        self.scene.write("s.yaml", if verb.plain_before { PLAIN.as_bytes() } else { &self.sealed });
        if verb.linked {
            fs::hard_link(self.scene.file("s.yaml"), self.scene.file("second.yaml")).unwrap();
        }
    }

    fn found(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.scene.path("project")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// What is wrong with the files that belong here.
    fn broken(&self, verb: &Verb) -> Option<String> {
        for name in self.wanted(verb).into_iter().filter(|name| !name.starts_with('.')) {
            let path = self.scene.file(&name);
            let Ok(text) = fs::read(&path) else { return Some(format!("{name} is not there")) };
            let may_be_plain = name == "s.yaml" && (verb.plain_before || verb.plain_after);
            if may_be_plain && text == PLAIN.as_bytes() || text == self.sealed {
                continue;
            }
            match self.decrypted(&path, &text) {
                Ok(plain) if [PLAIN, CHANGED].iter().any(|known| plain == known.as_bytes()) => {}
                Ok(plain) => return Some(format!("{name} holds {}", String::from_utf8_lossy(&plain))),
                Err(error) => return Some(format!("{error}: {}", String::from_utf8_lossy(&text))),
            }
        }
        None
    }

    fn decrypted(&self, path: &Path, text: &[u8]) -> Result<Vec<u8>, civm::secrets::Error> {
        let store = Format::Yaml.store(Indents::default());
        let open = SopsFile::of_store(store, path, text)?.open(&self.identities, MacCheck::Verify)?;
        Ok(open.plaintext()?.to_vec())
    }

    /// What is there and should not be: in the project, in the place in memory, in the temporary directory; with
    /// whether it holds the secret.
    fn left(&self, verb: &Verb) -> Vec<String> {
        let mut left: Vec<String> = self.found().difference(&self.wanted(verb)).cloned().collect();
        let mut places = vec![self.scene.path("tmp"), self.scene.path("run")];
        places.extend(self.memory.iter().map(|memory| memory.path().to_path_buf()));
        left.extend(places.iter().flat_map(|place| files(place)).map(|file| file.display().to_string()));
        left
    }

    /// Plaintext that anybody but this user could read, or that git would take.
    fn exposed(&self, verb: &Verb) -> Option<String> {
        for name in self.found().difference(&self.wanted(verb)) {
            let path = self.scene.file(name);
            let mode = fs::metadata(&path).map_or(0o700, |metadata| metadata.permissions().mode());
            let holds = |file: &PathBuf| {
                fs::read(file).is_ok_and(|text| text.windows(SECRET.len()).any(|part| part == SECRET))
            };
            if mode & 0o077 != 0 && files(&path).iter().any(holds) {
                return Some(format!("others can read {name}"));
            }
        }
        let status = run(&mut self.git(&["status", "--porcelain", "-uall"]));
        status.out().lines().find(|line| line.contains("civm-tmp")).map(|line| format!("git takes {line}"))
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    walkdir::WalkDir::new(directory)
        .into_iter()
        .flatten()
        .filter(|entry| !entry.file_type().is_dir())
        .map(walkdir::DirEntry::into_path)
        .collect()
}

/// Starts a verb, sends a signal after a while, and waits for the end of everything that it started. Whether the
/// signal ended it.
fn interrupted(command: &mut Command, signal: Signal, after: Duration) -> bool {
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    std::thread::sleep(after);
    // A terminal sends its signals to all of the group; a kill is for one process.
    let _ = if signal == Signal::SIGKILL { kill(pid, signal) } else { killpg(pid, signal) };
    let status = child.wait().unwrap();
    let patience = Instant::now() + BUDGET;
    while killpg(pid, None).is_ok() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
    status.signal() == Some(signal as i32)
}

#[test]
fn signals_at_random_instants() {
    let told = std::env::var("CIVM_FAULTS").ok().and_then(|count| count.parse().ok());
    let count = told.unwrap_or(FEW);
    let world = World::new();
    let durations = VERBS.each_ref().map(|verb| {
        world.put_back(verb);
        let start = Instant::now();
        run(&mut world.civm(verb.args)).ok();
        start.elapsed()
    });
    let start = Instant::now();
    // By signal: how many ended a run before its end, and how many of those left something to sweep.
    let mut tally: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for number in 0..count {
        if told.is_none() && start.elapsed() > BUDGET && number >= VERBS.len() {
            eprintln!("cut short: {number} of {count} signals of each kind in {BUDGET:?}");
            break;
        }
        let at = number % VERBS.len();
        let verb = &VERBS[at];
        let other = OTHERS[number % OTHERS.len()];
        for signal in [Signal::SIGKILL, Signal::SIGINT, other] {
            world.put_back(verb);
            let after = durations[at].mul_f64(rand::thread_rng().gen_range(0.0..1.1));
            let ended = interrupted(&mut world.civm(verb.args), signal, after);
            let what = format!("{:?}, {signal} after {after:?}", verb.args);
            assert_eq!(world.exposed(verb), None, "{what}");
            let left = world.left(verb);
            if signal != Signal::SIGKILL {
                assert!(left.is_empty(), "{what}: it left {left:?}");
            }
            let counted = tally.entry(signal.as_str()).or_default();
            counted[0] += 1;
            counted[1] += usize::from(ended);
            counted[2] += usize::from(!left.is_empty());
            // Whatever it is for.
            run(&mut world.civm(&["secrets", "get", "f0.yaml", "b"])).ok();
            assert_eq!(world.left(verb), Vec::<String>::new(), "{what}: after the next civm");
            assert_eq!(world.broken(verb), None, "{what}");
            if verb.linked {
                assert_eq!(world.scene.read("s.yaml"), world.scene.read("second.yaml"), "{what}");
            }
        }
    }
    for (signal, [sent, ended, left]) in tally {
        eprintln!(
            "{signal}: {sent} sent, {ended} before the end of the work, {left} with something to sweep"
        );
    }
}

/// What a kill leaves where no civm has been since.
#[test]
fn what_was_left_is_no_file_of_the_project_and_goes_with_the_next_civm() {
    for args in
        [&["secrets", "update-all", "--check"][..], &["secrets", "who"], &["sops", "decrypt", "deep/s.yaml"]]
    {
        let world = World::new();
        let left = "deep/.civm-tmp-abc";
        for name in ["part0", "f.yaml", "whole/other.yaml"] {
            world.scene.write(&format!("{left}/{name}"), &world.sealed);
        }
        // As civm makes it: nobody else looks into it.
        fs::set_permissions(world.scene.file(left), fs::Permissions::from_mode(0o700)).expect("set");
        world.scene.write("deep/s.yaml", &world.sealed);
        let ran = run(&mut world.civm(args));
        assert!(
            !ran.out().contains("civm-tmp") && !ran.stderr.contains("civm-tmp"),
            "{} {}",
            ran.out(),
            ran.stderr
        );
        assert!(!world.scene.file(left).exists(), "{args:?}");
        assert_eq!(world.scene.read("deep/s.yaml").as_bytes(), world.sealed, "{args:?}");
    }
}

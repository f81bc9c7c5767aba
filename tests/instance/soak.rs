//! Many runs one after the other leave things as they were, and several machines of one host at once stay apart.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use civm::instance::control::Session;
use civm::instance::ssh;
use civm::instance::stage::Mode;
use civm::instance::state::{Phase, Record};
use civm::instance::stop::{self, Patience};
use civm::vm::spec::Disk;

use crate::kernel::WORD;
use crate::scene::{LONG, Scene, wait_until};

/// Runs in each run of the tests; `CIVM_SOAK` says another number.
const RUNS: u32 = 15;
/// Runs until as many old logs are kept as ever will be: five, beside that of the last run.
const LOGS_FULL: u32 = 6;

/// What a run must not make more of.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    processes: usize,
    threads: usize,
    descriptors: usize,
    mounts: usize,
}

impl Counts {
    fn now(scene: &Scene) -> Self {
        let entries = |path: &str| fs::read_dir(path).expect(path).count();
        Self {
            processes: scene.processes().len(),
            threads: entries("/proc/self/task"),
            descriptors: entries("/proc/self/fd"),
            mounts: fs::read_to_string("/proc/self/mountinfo").expect("mounts").lines().count(),
        }
    }
}

fn files(directory: &Path) -> usize {
    walkdir::WalkDir::new(directory).min_depth(1).into_iter().flatten().count()
}

fn down(scene: &Scene, name: &str) {
    let now = Patience::AtMost(Duration::ZERO);
    stop::down(&scene.place(name), now, &scene.environment, &mut |_| {}).expect("it goes down");
}

pub fn many_runs_leave_everything_as_it_was(mode: Mode) {
    let runs = std::env::var("CIVM_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(RUNS);
    assert!(runs > LOGS_FULL, "the logs of {LOGS_FULL} runs are kept");
    let scene = Scene::new();
    let before = Counts::now(&scene);
    let mut in_state = None;
    for run in 1..=runs {
        let running = scene.start(scene.machine("a", 0), Some(mode)).expect("it starts");
        wait_until("the kernel speaks", || scene.console("a").contains(WORD));
        let record = scene.place("a").running().expect("readable").expect("it runs");
        down(&scene, "a");
        running.wait_end(&mut |_| {});
        // Its directory in memory as well.
        scene.assert_gone(&record);
        wait_until(&format!("everything is as it was: {before:?}, and after run {run}"), || {
            Counts::now(&scene) == before
        });
        let state = files(&scene.directory().join("state"));
        match in_state {
            Some(full) => assert_eq!(state, full, "files of the state after run {run}"),
            None if run >= LOGS_FULL => in_state = Some(state),
            None => {}
        }
    }
}

pub fn four_of_one_host_at_once_stay_apart() {
    let scene = Scene::new();
    let names = ["a", "b", "c", "d"];
    let machines = names.map(|name| {
        let mut machine = scene.machine(name, 0);
        let path = scene.directory().join(format!("{name}.qcow2"));
        let made =
            Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&path).arg("16M").status();
        assert!(made.expect("qemu-img").success());
        machine.disk = Some(Disk { path, size_mib: 16, ephemeral: false });
        machine
    });
    let mut running: Vec<_> = machines
        .into_iter()
        .map(|machine| {
            let place = scene.place(&machine.name);
            ssh::pin(&place, &ssh::host_key(&place).expect("a host key").public).expect("it is pinned");
            scene.start(machine, None).expect("it starts")
        })
        .collect();
    let records = scene.home().running();
    assert_eq!(records.iter().map(|record| record.name.as_str()).collect::<Vec<_>>(), names);
    assert!(records.iter().all(|record| record.host == "host"));
    let all_differ = |what: &str, of: &dyn Fn(&Record) -> String| {
        let values: BTreeSet<_> = records.iter().map(of).collect();
        assert_eq!(values.len(), names.len(), "{what}: {values:?}");
    };
    all_differ("ports", &|record| record.forwards[0].host_port.to_string());
    all_differ("QEMU", &|record| format!("{:?}", record.qemu.expect("its process is known")));
    all_differ("disks", &|record| format!("{:?}", record.disk));
    all_differ("sockets", &|record| format!("{:?}", record.control().expect("a socket")));
    all_differ("state", &|record| scene.place(&record.name).path.display().to_string());
    all_differ("keys", &|record| {
        let known = fs::read_to_string(scene.place(&record.name).known_hosts()).expect("known_hosts");
        let [alias, _, key] = known.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{known}") };
        assert_eq!(alias, format!("civm-{}", record.name));
        key.to_owned()
    });
    for record in &records {
        // Each socket leads to the machine with its own disk and no other.
        let facts = Session::open(record, LONG).and_then(|mut session| session.machine(LONG)).expect("facts");
        assert_eq!(facts.drives.len(), 1, "{:?}", facts.drives);
        wait_until("its kernel speaks", || scene.console(&record.name).contains(WORD));
    }
    // One goes, and the others do not notice.
    down(&scene, "b");
    assert_eq!(running.remove(1).wait_end(&mut |_| {}).0, "QEMU was told to quit");
    let left: Vec<_> = scene.home().running();
    assert_eq!(left.iter().map(|record| record.name.as_str()).collect::<Vec<_>>(), ["a", "c", "d"]);
    for record in &left {
        assert_eq!(record.phase, Phase::Booting);
        assert!(record.qemu.is_some_and(civm::instance::state::Process::is_alive));
        down(&scene, &record.name);
    }
    running.into_iter().for_each(|one| drop(one.wait_end(&mut |_| {})));
    records.iter().for_each(|record| scene.assert_gone(record));
}

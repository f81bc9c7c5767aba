//! Machines that a script plays: it stands in for QEMU and for the guest behind its sockets, so that a guest can be
//! as bad as it likes, without a boot.

use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use civm::instance::event::{Event, Health};
use civm::instance::plan::ConsoleLog;
use civm::instance::state::Phase;
use civm::instance::stop::{self, Patience};
use civm::instance::{Error, Running};
use nix::sys::signal::Signal;

use crate::scene::{Scene, wait_until};

/// A scene whose QEMU is a script; `guest` defines what the guest does.
pub fn scene(guest: &str) -> Scene {
    let mut scene = Scene::new();
    scene.play(guest);
    scene
}

pub fn start(scene: &Scene) -> Running {
    scene.start(scene.machine("a", 0), None).expect("it starts")
}

pub fn wait_ready(running: &mut Running) -> Result<(), Error> {
    running.wait_ready(Duration::from_secs(60), None, &mut |_| {})
}

pub fn down(scene: &Scene, patience: Duration) -> Result<stop::Stopped, Error> {
    stop::down(&scene.place("a"), Patience::Usual(patience), &scene.environment, &mut |_| {})
}

pub const SECONDS: Duration = Duration::from_secs(20);

/// Megabytes of memory that a process has.
fn memory(scene: &Scene, name: &str) -> u64 {
    let processes = scene.processes();
    let (pid, _) = processes.iter().find(|(_, arguments)| arguments.contains(name)).expect(name);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}

pub fn a_guest_that_floods_everything_harms_only_itself() {
    // `CIVM_FLOOD_SECONDS=60` for a whole minute.
    let seconds = std::env::var("CIVM_FLOOD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let scene = scene(
        r#"guest() {
            yes "the console is full of this" >&$console &
            yes '{"event":"warning","message":"and the port is full of that"}' >&$agent &
            yes 'no report at all' >&$agent &
            head -c 100000000 /dev/zero >&2
            ready; ready; ready
        }"#,
    );
    let mut running = start(&scene);
    wait_ready(&mut running).expect("its report is heard in the noise");
    let record = scene.place("a").running().expect("readable").expect("it runs");
    // Nobody reads the events, and one who looks at the console sleeps.
    let sleeps = UnixStream::connect(record.console().expect("a console")).expect("it attaches");
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(stop::health(&record, &scene.environment), Health::Running, "the supervisor answers");
    }
    let before = memory(&scene, "__supervisor");
    assert!(before < 100, "the supervisor has {before} MiB");
    let sizes: Vec<(String, u64)> = fs::read_dir(&scene.place("a").path)
        .expect("a directory")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.metadata().expect("it").len()))
        .collect();
    assert!(sizes.iter().all(|(_, size)| *size <= 512 << 10), "{sizes:?}");
    // From here on the caller reads: what was not told until the end is lost with the stage.
    let reads = std::thread::spawn(move || {
        let mut host = Vec::new();
        running.wait_end(&mut |event| {
            if !matches!(event, Event::Guest { .. }) {
                host.push(event.clone());
            }
        });
        host
    });
    assert!(down(&scene, SECONDS).expect("it goes down").reason.is_some());
    drop(sleeps);
    let host = reads.join().expect("it ends");
    assert!(matches!(host.last(), Some(Event::Ended { .. })), "the caller was not dropped: {host:?}");
    let log = fs::read_to_string(scene.place("a").events()).expect("a log");
    assert!(
        log.contains(r#""event":"stopping""#) && log.contains(r#""event":"ended""#),
        "the host's own share"
    );
    scene.assert_gone(&record);
}

pub fn a_reset_keeps_the_machine_and_stages_its_key_again() {
    let scene = scene(
        r#"guest() {
            show "first boot: $(cat $key)"
            tell key-taken
            while [ -e $key ]; do sleep 0.02; done
            ready
            sleep 0.5
            reset
            # Firmware does it once more.
            reset
            while [ ! -e $key ]; do sleep 0.02; done
            sleep 0.2
            show "second boot: $(cat $key)"
            tell key-taken
            while [ -e $key ]; do sleep 0.02; done
            show "taken again"
            ready
        }"#,
    );
    let mut running = start(&scene);
    wait_ready(&mut running).expect("the first boot");
    wait_until("the second boot is over", || scene.console("a").contains("taken again"));
    wait_until("it is ready again", || {
        scene.place("a").record().is_some_and(|record| record.phase == Phase::Ready && record.key_removed)
    });
    assert!(scene.console("a").contains("second boot: private"), "{}", scene.console("a"));
    let first =
        fs::read_to_string(scene.place("a").path.join("console.log.1")).expect("that of the first boot");
    assert!(first.contains("first boot: private"), "{first}");
    let mut events = Vec::new();
    assert_eq!(down(&scene, SECONDS).expect("it goes down").reason.as_deref(), Some("the guest powered off"));
    running.wait_end(&mut |event| events.push(event.clone()));
    assert!(events.contains(&Event::Rebooting));
}

pub fn a_panic_is_seen_and_its_reason_told() {
    let scene = scene(
        r#"guest() {
            ready
            sleep 0.5
            show "[  1.0] Kernel panic - not syncing: played"
            qmp '{"event": "GUEST_PANICKED", "data": {"action": "pause"}}'
        }"#,
    );
    let mut running = start(&scene);
    wait_ready(&mut running).expect("it is ready first");
    let record = scene.place("a").running().expect("readable").expect("it runs");
    let looks = UnixStream::connect(record.console().expect("a console")).expect("it attaches");
    running.detach().expect("it is told");
    let phase = || scene.place("a").record().map(|record| record.phase);
    wait_until("the panic is seen", || phase() == Some(Phase::Panicked));
    assert!(scene.place("a").is_alive(), "it stands still while somebody looks at its console");
    let console = scene.console("a");
    assert!(console.ends_with("[  1.0] Kernel panic - not syncing: played\r\n"), "{console}");
    drop(looks);
    scene.assert_gone(&record);
    let record = scene.place("a").record().expect("a record");
    assert_eq!(record.reason.as_deref(), Some("the guest's kernel panicked: played"));
    // Where somebody stops it, nobody waits for a guest that is dead; what the run before wrote is kept.
    let running = start(&scene);
    let record = scene.place("a").running().expect("readable").expect("it runs");
    let looks = UnixStream::connect(record.console().expect("a console")).expect("it attaches");
    running.detach().expect("it is told");
    wait_until("the panic is seen", || phase() == Some(Phase::Panicked));
    let begun = Instant::now();
    let stopped = down(&scene, 3 * SECONDS).expect("it goes down");
    assert_eq!(stopped.reason.as_deref(), Some("the guest's kernel panicked: played"));
    assert!(begun.elapsed() < SECONDS, "nobody waits for a guest that is dead");
    drop(looks);
    for log in ["events.jsonl.1", "console.log.1"] {
        let text = fs::read_to_string(scene.place("a").path.join(log)).expect("that of the first run");
        assert!(text.contains("played"), "{text}");
    }
}

pub fn a_reset_before_readiness_ends_the_machine() {
    for (line, reason) in [
        ("Kernel panic - not syncing: VFS: no root", "the guest's kernel panicked: VFS: no root"),
        ("nothing", "the guest reset before it was ready"),
    ] {
        let scene =
            scene(&format!("guest() {{ show '{line}'; sleep 0.3; while :; do reset; sleep 0.1; done; }}"));
        let mut running = start(&scene);
        let error = wait_ready(&mut running).expect_err("it never is").to_string();
        assert!(error.contains(reason) && error.contains(line), "{error}");
        wait_until("every process is gone", || scene.processes().is_empty());
    }
}

pub fn a_frozen_machine_is_seen_and_its_clock_set_afterwards() {
    let scene = scene(r#"guest() { ready; while read -r line <&$agent; do show "told: $line"; done; }"#);
    let mut machine = scene.machine("a", 0);
    machine.console_log = ConsoleLog::Always;
    let mut running = scene.start(machine, None).expect("it starts");
    wait_ready(&mut running).expect("it is ready");
    let record = scene.place("a").running().expect("readable").expect("it runs");
    let health = || stop::health(&record, &scene.environment);
    assert_eq!(health(), Health::Running);
    scene.kill("qemu-system-x86_64 -name", Signal::SIGSTOP);
    wait_until("it is seen", || health() == Health::Frozen);
    scene.kill("qemu-system-x86_64 -name", Signal::SIGCONT);
    wait_until("the clock is set", || {
        scene.console("a").contains(r#"told: {"command":"set-time","unix_ms":"#)
    });
    assert_eq!(health(), Health::Running);
    // One that is stopped is woken, and goes down in good order.
    scene.kill("qemu-system-x86_64 -name", Signal::SIGSTOP);
    let stopped = down(&scene, SECONDS).expect("it goes down");
    assert_eq!(stopped.reason.as_deref(), Some("the guest powered off"));
    scene.assert_gone(&record);
}

pub fn a_qemu_that_ends_at_once_is_noticed_at_once() {
    // Somebody else still has its channels.
    let scene = scene("sleep 100 & echo 'not this machine' >&2; exit 3");
    let begun = Instant::now();
    let error = scene.start(scene.machine("a", 0), None).expect_err("it ended").to_string();
    assert!(error.contains("QEMU exited with status 3") && error.contains("not this machine"), "{error}");
    assert!(begun.elapsed() < SECONDS / 2, "it was waited for: {:?}", begun.elapsed());
    wait_until("every process is gone", || scene.processes().is_empty());
}

pub fn a_machine_is_asked_how_it_is_for_ever() {
    let scene = scene("");
    let mut running = start(&scene);
    wait_ready(&mut running).expect("it is ready");
    let record = scene.place("a").running().expect("readable").expect("it runs");
    let processes = scene.processes();
    let (pid, _) = processes.iter().find(|(_, name)| name.contains("__supervisor")).expect("a supervisor");
    let open = || fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count();
    let before = open();
    for _ in 0..200 {
        assert_eq!(stop::health(&record, &scene.environment), Health::Running);
    }
    wait_until("every connection is closed", || open() <= before + 1);
    assert_eq!(down(&scene, SECONDS).expect("it goes down").reason.as_deref(), Some("the guest powered off"));
}

pub fn a_second_down_joins_the_first() {
    // Longer than a supervisor that says nothing is believed to live: that is two seconds here.
    let mut scene = scene(
        r#"power_down() {
            sleep 8
            qmp '{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}'
            exit 0
        }"#,
    );
    let mut running = start(&scene);
    wait_ready(&mut running).expect("it is ready");
    running.detach().expect("it is told");
    scene.environment = scene.environment.clone().with("CIVM_TIMEOUT_SCALE", "0.1");
    let begun = Instant::now();
    let ends = std::thread::scope(|scope| {
        // The later ones would have less patience, had they come first.
        let downs = [30 * SECONDS, Duration::from_secs(20), Duration::ZERO].map(|patience| {
            let (place, environment) = (scene.place("a"), scene.environment.clone());
            let down =
                scope.spawn(move || stop::down(&place, Patience::Usual(patience), &environment, &mut |_| {}));
            std::thread::sleep(Duration::from_millis(700));
            down
        });
        downs.map(|down| down.join().expect("it ends").expect("it goes down"))
    });
    assert!(begun.elapsed() > Duration::from_secs(7), "it was killed early");
    for stopped in ends {
        assert_eq!(stopped.reason.as_deref(), Some("the guest powered off"), "{stopped:?}");
        assert!(stopped.cleaned.is_empty(), "{stopped:?}");
    }
}

pub fn a_record_of_another_civm_keeps_its_machine() {
    let scene = scene("");
    let mut running = start(&scene);
    wait_ready(&mut running).expect("it is ready");
    running.detach().expect("it is told");
    let file = scene.place("a").path.join("instance.json");
    let own = fs::read_to_string(&file).expect("a record");
    let foreign = own.replace("\"version\": 3", "\"version\": 99");
    assert_ne!(own, foreign);
    for text in [foreign.as_str(), "", "{}"] {
        fs::write(&file, text).expect("another record");
        let error = down(&scene, Duration::ZERO).expect_err("it is not this civm's").to_string();
        assert!(error.contains("instance.json"), "{error}");
        assert!(scene.start(scene.machine("a", 0), None).is_err());
        assert_eq!(scene.home().view().complaints().len(), 1);
        assert_eq!(fs::read_to_string(&file).expect("the record"), text, "it is left alone");
        assert!(scene.processes().len() >= 3, "and so is the machine: {:?}", scene.processes());
    }
    fs::write(&file, own).expect("the record");
    down(&scene, SECONDS).expect("it goes down");
}

pub fn a_lost_state_directory_hides_no_machine() {
    let scene = scene("");
    let mut running = start(&scene);
    wait_ready(&mut running).expect("it is ready");
    running.detach().expect("it is told");
    let record = scene.place("a").running().expect("readable").expect("it runs");
    fs::remove_dir_all(scene.directory().join("state")).expect("it can be removed");
    assert_eq!(scene.home().running(), std::slice::from_ref(&record));
    let complaints = scene.home().view().complaints();
    assert!(complaints.len() == 1 && complaints[0].contains("was removed while `a` ran"), "{complaints:?}");
    assert!(matches!(scene.start(scene.machine("a", 0), None), Err(Error::Running(_))));
    assert_eq!(scene.place("a").running().expect("readable"), Some(record.clone()));
    let stopped = down(&scene, SECONDS).expect("it goes down");
    assert_eq!(stopped.reason.as_deref(), Some("the guest powered off"));
    scene.assert_gone(&record);
}

pub fn several_look_at_the_console_and_see_the_prompt() {
    let scene =
        scene(r#"guest() { show booted; printf '# ' >&$console; ready; cat <&$console >&$console; }"#);
    let mut running = start(&scene);
    wait_ready(&mut running).expect("it is ready");
    let record = scene.place("a").running().expect("readable").expect("it runs");
    let viewers: Vec<UnixStream> = (0..3)
        .map(|_| UnixStream::connect(record.console().expect("a console")).expect("it attaches"))
        .collect();
    for mut viewer in viewers {
        viewer.set_read_timeout(Some(SECONDS)).expect("a deadline");
        let mut prompt = [0; 2];
        viewer.read_exact(&mut prompt).expect("it is shown at once");
        assert_eq!(&prompt, b"# ");
    }
    wait_until("the log is closed", || scene.console("a").contains("not logged"));
}

//! The cases, by what they show.

use std::fs;
use std::time::Duration;

use civm::instance::control::Session;
use civm::instance::plan::Machine;
use civm::instance::stage::Mode;
use civm::instance::state::Phase;
use civm::instance::stop::{self, Patience};
use civm::instance::{Error, console};
use civm::vm::network::Network;
use nix::sys::signal::Signal;

use crate::asked;
use crate::harness::Case;
use crate::kernel::WORD;
use crate::scene::{KEY, LONG, Scene, wait_until};
use crate::{faults, played, soak};

pub const ALL: [(&str, Case); 42] = [
    ("a_machine_starts_is_listed_and_goes_down_in_namespaces", || starts_and_goes_down(Mode::Namespaces)),
    ("a_machine_starts_is_listed_and_goes_down_in_memory", || starts_and_goes_down(Mode::Memory)),
    ("nothing_stays_whatever_is_killed_in_namespaces", || nothing_stays(Mode::Namespaces)),
    ("nothing_stays_whatever_is_killed_in_memory", || nothing_stays(Mode::Memory)),
    ("nothing_stays_whenever_it_is_killed_in_namespaces", || faults::any_moment(Mode::Namespaces)),
    ("nothing_stays_whenever_it_is_killed_in_memory", || faults::any_moment(Mode::Memory)),
    ("nothing_stays_of_a_down_that_is_disturbed_in_namespaces", || {
        faults::any_moment_of_down(Mode::Namespaces);
    }),
    ("nothing_stays_of_an_apply_that_is_disturbed_in_namespaces", || {
        faults::any_moment_of_apply(Mode::Namespaces);
    }),
    ("nothing_stays_of_an_apply_that_is_disturbed_in_memory", || faults::any_moment_of_apply(Mode::Memory)),
    ("nothing_stays_of_a_down_that_is_disturbed_in_memory", || faults::any_moment_of_down(Mode::Memory)),
    ("many_runs_leave_everything_as_it_was_in_namespaces", || {
        soak::many_runs_leave_everything_as_it_was(Mode::Namespaces);
    }),
    ("many_runs_leave_everything_as_it_was_in_memory", || {
        soak::many_runs_leave_everything_as_it_was(Mode::Memory);
    }),
    ("four_of_one_host_at_once_stay_apart", soak::four_of_one_host_at_once_stay_apart),
    ("a_machine_whose_fence_is_gone_ends_and_says_so", a_lost_fence_is_told),
    ("the_staged_key_is_in_no_mount_table_and_under_no_path", the_staged_key_is_hidden),
    ("a_detached_machine_outlives_its_caller", a_detached_machine_outlives_its_caller),
    ("an_instance_runs_once", an_instance_runs_once),
    ("a_taken_port_is_named_by_the_instance_that_has_it", a_taken_port_is_named),
    ("a_deadline_that_passes_shows_the_console_and_leaves_nothing", a_deadline_passes),
    ("what_qemu_refuses_is_repeated", what_qemu_refuses_is_repeated),
    ("a_hung_supervisor_is_ended_by_down", a_hung_supervisor_is_ended),
    ("the_console_is_the_owners_and_can_be_attached_to", the_console_is_the_owners),
    ("roots_qemu_runs_as_a_user_of_its_own_unless_told_otherwise", roots_qemu_is_not_root),
    ("a_disk_keeps_its_owner_and_an_ephemeral_one_is_gone_at_once", disks_are_handed_over_open),
    (
        "a_guest_that_floods_everything_harms_only_itself",
        played::a_guest_that_floods_everything_harms_only_itself,
    ),
    (
        "a_reset_keeps_the_machine_and_stages_its_key_again",
        played::a_reset_keeps_the_machine_and_stages_its_key_again,
    ),
    ("a_panic_is_seen_and_its_reason_told", played::a_panic_is_seen_and_its_reason_told),
    ("a_reset_before_readiness_ends_the_machine", played::a_reset_before_readiness_ends_the_machine),
    (
        "a_frozen_machine_is_seen_and_its_clock_set_afterwards",
        played::a_frozen_machine_is_seen_and_its_clock_set_afterwards,
    ),
    ("a_qemu_that_ends_at_once_is_noticed_at_once", played::a_qemu_that_ends_at_once_is_noticed_at_once),
    ("a_machine_is_asked_how_it_is_for_ever", played::a_machine_is_asked_how_it_is_for_ever),
    ("a_second_down_joins_the_first", played::a_second_down_joins_the_first),
    ("a_record_of_another_civm_keeps_its_machine", played::a_record_of_another_civm_keeps_its_machine),
    ("a_lost_state_directory_hides_no_machine", played::a_lost_state_directory_hides_no_machine),
    ("what_waits_uses_no_processor_and_little_memory", asked::what_waits_uses_no_processor_and_little_memory),
    ("a_guest_is_asked_and_answers_by_number", asked::a_guest_is_asked_and_answers_by_number),
    ("files_that_are_tried_are_there_for_one_answer", asked::files_that_are_tried_are_there_for_one_answer),
    ("files_are_staged_for_a_guest_that_runs", asked::files_are_staged_for_a_guest_that_runs),
    (
        "an_instance_of_an_older_civm_is_listed_asked_and_stopped",
        asked::an_instance_of_an_older_civm_is_listed_asked_and_stopped,
    ),
    ("one_types_on_the_console_and_others_take_over", asked::one_types_on_the_console_and_others_take_over),
    (
        "several_look_at_the_console_and_see_the_prompt",
        played::several_look_at_the_console_and_see_the_prompt,
    ),
    ("programs_that_are_missing_are_named_before_anything_starts", missing_programs_are_named),
];

/// How QEMU's command line begins.
const QEMU: &str = "qemu-system-x86_64 -name";
/// Every test waits for nothing longer than this when it stops a machine.
const PATIENCE: Duration = Duration::from_millis(200);

fn down(scene: &Scene, host: &str) -> Result<stop::Stopped, Error> {
    stop::down(&scene.place(host), Patience::Usual(PATIENCE), &scene.environment, &mut |_| {})
}

fn starts_and_goes_down(mode: Mode) {
    let scene = Scene::new();
    let running = scene.start(scene.machine("a", 0), Some(mode)).expect("it starts");
    let record = scene.home().running().pop().expect("it is listed");
    assert_eq!((record.phase, record.namespaces), (Phase::Booting, mode == Mode::Namespaces));
    assert_ne!(record.forwards[0].host_port, 0, "the port that was chosen is told");
    wait_until("the kernel speaks", || scene.console("a").contains(WORD));
    let qemu = record.qemu.expect("its process is known");
    let processes = scene.processes();
    let (pid, _) =
        processes.iter().find(|(_, name)| name.contains("qemu-system-x86_64 -name")).expect("QEMU");
    assert!(qemu.is_alive() && qemu.pid == pid.as_raw());
    down(&scene, "a").expect("it goes down");
    assert!(!qemu.is_alive());
    assert_eq!(running.wait_end(&mut |_| {}), ("QEMU was told to quit".to_owned(), true));
    scene.assert_gone(&record);
    assert!(matches!(down(&scene, "a"), Err(Error::NotRunning(_))));
}

fn nothing_stays(mode: Mode) {
    for name in ["__hold", "__keeper", "__supervisor", "__fence", QEMU] {
        let scene = Scene::new();
        let mut caller = scene.hold(mode);
        let record = scene.place("held").running().expect("readable").expect("it runs");
        assert_eq!(scene.processes().len(), 5, "caller, keeper, supervisor, fence, QEMU");
        scene.kill(name, Signal::SIGKILL);
        caller.wait().expect("the caller ends as well");
        scene.assert_gone(&record);
    }
}

fn a_lost_fence_is_told() {
    let scene = Scene::new();
    let machine = Machine { network: Network::NoHost, ..scene.machine("a", 0) };
    let running = scene.start(machine, None).expect("it starts");
    let record = scene.place("a").running().expect("readable").expect("it runs");
    scene.kill("__fence", Signal::SIGKILL);
    assert_eq!(running.wait_end(&mut |_| {}), ("the fence of its network has ended".to_owned(), false));
    scene.assert_gone(&record);
}

fn the_staged_key_is_hidden() {
    let scene = Scene::new();
    let _running = scene.start(scene.machine("a", 0), Some(Mode::Namespaces)).expect("it starts");
    let runtime = scene
        .place("a")
        .running()
        .expect("readable")
        .and_then(|record| record.runtime)
        .expect("a runtime directory");
    let share = runtime.join("share");
    assert_eq!(fs::read_dir(&share).expect("the mount point").count(), 0, "something is outside");
    assert!(!fs::read_to_string("/proc/self/mounts").expect("mounts").contains(&*share.to_string_lossy()));
    // Through the supervisor's own root it is there: only root and this user get that far.
    let processes = scene.processes();
    let (pid, _) = processes.iter().find(|(_, name)| name.contains("__supervisor")).expect("a supervisor");
    let inside = format!("/proc/{pid}/root{}/{KEY}", share.display());
    assert_eq!(fs::read(inside).expect("it is staged"), b"private");
    for (_, arguments) in processes {
        assert!(!arguments.contains("private"), "{arguments}");
    }
}

fn a_detached_machine_outlives_its_caller() {
    let scene = Scene::new();
    let running = scene.start(scene.machine("a", 0), None).expect("it starts");
    running.detach().expect("it is told");
    std::thread::sleep(Duration::from_millis(300));
    let record = scene.place("a").running().expect("readable").expect("it still runs");
    assert_eq!(record.phase, Phase::Booting);
    down(&scene, "a").expect("it goes down");
    scene.assert_gone(&record);
}

fn an_instance_runs_once() {
    let scene = Scene::new();
    let _first = scene.start(scene.machine("a", 0), None).expect("it starts");
    assert!(matches!(scene.start(scene.machine("a", 0), None), Err(Error::Running(host)) if host == "a"));
    scene.start(scene.machine("b", 0), None).expect("another one starts beside it");
}

fn a_taken_port_is_named() {
    let scene = Scene::new();
    let first = scene.start(scene.machine("a", 0), None).expect("it starts");
    let port = first.forwards()[0].host_port;
    let error = scene.start(scene.machine("b", port), None).expect_err("the port is taken");
    assert!(error.to_string().contains("instance `a` of "), "{error}");
    assert!(!scene.place("b").is_alive());
}

fn a_deadline_passes() {
    let scene = Scene::new();
    let mut running = scene.start(scene.machine("a", 0), None).expect("it starts");
    let record = scene.place("a").running().expect("readable").expect("it runs");
    wait_until("the kernel speaks", || scene.console("a").contains(WORD));
    let error = running.wait_ready(Duration::from_millis(100), None, &mut |_| {}).expect_err("it never is");
    assert!(matches!(&error, Error::NotReady { tail, .. } if tail.console.iter().any(|line| line == WORD)));
    scene.assert_gone(&record);
}

fn what_qemu_refuses_is_repeated() {
    let scene = Scene::new();
    let mut machine = scene.machine("a", 0);
    machine.boot.initrd = Some("/no/such/initrd".into());
    let error = scene.start(machine, None).expect_err("QEMU refuses it");
    assert!(error.to_string().contains("/no/such/initrd"), "{error}");
    wait_until("every process is gone", || scene.processes().is_empty());
}

fn a_hung_supervisor_is_ended() {
    let scene = Scene::new();
    let running = scene.start(scene.machine("a", 0), None).expect("it starts");
    let record = scene.place("a").running().expect("readable").expect("it runs");
    running.detach().expect("it is told");
    scene.kill("__supervisor", Signal::SIGSTOP);
    let hasty = scene.environment.clone().with("CIVM_TIMEOUT_SCALE", "0.1");
    let stopped = stop::down(&scene.place("a"), Patience::Usual(PATIENCE), &hasty, &mut |_| {});
    let stopped = stopped.expect("it goes down all the same");
    assert!(stopped.cleaned.iter().any(|line| line.contains("did not answer")), "{stopped:?}");
    scene.assert_gone(&record);
}

fn the_console_is_the_owners() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    let running = scene.start(scene.machine("a", 0), None).expect("it starts");
    let record = scene.place("a").running().expect("readable").expect("it runs");
    let socket = record.console().expect("a console");
    let mode = |path: &std::path::Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&socket), mode(record.runtime.as_ref().expect("a directory"))), (0o700, 0o700));
    assert_eq!(mode(&scene.place("a").path), 0o700);
    let stopping = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(running);
    });
    let left = console::attach(&record, console::Input::Ignored, &mut Vec::new()).expect("it attaches");
    assert_eq!(left, console::Left::Ended);
    stopping.join().expect("it ends");
    scene.assert_gone(&record);
}

/// A field of what the kernel says of a process of the machine's, as a number.
fn status(scene: &Scene, name: &str, field: &str) -> u32 {
    let processes = scene.processes();
    let (pid, _) = processes.iter().find(|(_, arguments)| arguments.contains(name)).expect(name);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect(field);
    line.trim_start_matches(':').split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number")
}

fn roots_qemu_is_not_root() {
    let own = nix::unistd::Uid::effective().as_raw();
    for mode in [Mode::Namespaces, Mode::Memory] {
        let scene = Scene::new();
        let machine = Machine { network: Network::NoHost, ..scene.machine("a", 0) };
        let _running = scene.start(machine, Some(mode)).expect("it starts");
        // Whoever is not root runs QEMU as who it is.
        for name in [QEMU, "__fence"] {
            assert_eq!(own == 0, status(&scene, name, "Uid") != own, "{name}");
        }
        wait_until("the kernel speaks", || scene.console("a").contains(WORD));
        // SECCOMP_MODE_FILTER: QEMU's sandbox is on.
        assert_eq!(status(&scene, QEMU, "Seccomp"), 2);
    }
    let mut scene = Scene::new();
    scene.qemu_as_root = true;
    let _running = scene.start(scene.machine("a", 0), None).expect("it starts");
    assert_eq!(status(&scene, QEMU, "Uid"), own);
}

fn disks_are_handed_over_open() {
    use civm::vm::spec::Disk;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let scene = Scene::new();
    let qemu_img = |arguments: &[&str]| {
        let made = std::process::Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .args(arguments)
            .status();
        assert!(made.expect("qemu-img").success());
    };
    let base = scene.directory().join("disk.qcow2");
    let base_text = base.to_str().expect("text");
    qemu_img(&[base_text, "16M"]);
    fs::set_permissions(&base, fs::Permissions::from_mode(0o600)).expect("a mode");
    let overlay = scene.place("a").ephemeral_disk();
    qemu_img(&["-F", "qcow2", "-b", base_text, overlay.to_str().expect("text")]);
    let before = base.metadata().expect("it is there");
    for (path, ephemeral) in [(&base, false), (&overlay, true)] {
        let mut machine = scene.machine("a", 0);
        machine.disk = Some(Disk { path: path.clone(), size_mib: 16, ephemeral });
        let running = scene.start(machine.clone(), None).expect("it starts");
        assert_eq!(path.exists(), !ephemeral, "an ephemeral disk has no name any more");
        let record = scene.place("a").running().expect("readable").expect("it runs");
        let facts =
            Session::open(&record, LONG).and_then(|mut session| session.machine(LONG)).expect("facts");
        assert!(facts.qemu.is_some_and(|version| version.split('.').count() == 3));
        let [drive] = &facts.drives[..] else { panic!("{:?}", facts.drives) };
        assert_eq!((drive.format.as_str(), drive.size, drive.read_only), ("qcow2", Some(16 << 20), false));
        if !ephemeral {
            machine.name = "b".to_owned();
            let error = scene.start(machine, None).expect_err("the disk is in use");
            assert!(error.to_string().contains("in use"), "{error}");
        }
        down(&scene, "a").expect("it goes down");
        running.wait_end(&mut |_| {});
        let after = base.metadata().expect("it is there");
        assert_eq!((after.uid(), after.mode()), (before.uid(), before.mode()));
    }
}

fn missing_programs_are_named() {
    let mut scene = Scene::new();
    scene.environment = scene.environment.clone().with("PATH", scene.directory());
    match scene.start(scene.machine("a", 0), None) {
        Err(Error::NoProgram(name)) => assert_eq!(name, "qemu-system-x86_64"),
        other => panic!("{other:?}"),
    }
    assert!(scene.processes().is_empty());
}

//! Kills at any moment of a start and of a run: no key, process, port or lock stays, and the next start works.

use std::time::{Duration, Instant};

use civm::instance::Error;
use civm::instance::stage::Mode;
use civm::instance::state::Phase;
use civm::instance::stop::{self, Patience};

use crate::scene::{Scene, wait_until};
use crate::{APPLY, HOLD, played, traces};

/// Who is killed, in turn.
const VICTIMS: [&str; 5] = [HOLD, "__keeper", "__supervisor", "__fence", "qemu-system-x86_64 -name"];
/// Moments in each run of the tests.
const POINTS: u32 = 20;

fn points() -> u32 {
    traces::points(POINTS)
}

/// Kills at moments that are spread over a start, and a little beyond it.
pub fn any_moment(mode: Mode) {
    let points = points();
    let begun = Instant::now();
    let scene = Scene::new();
    let mut caller = scene.hold(mode);
    // How long a start takes here; the moments are spread over that, and some beyond it.
    let start = begun.elapsed();
    caller.kill().expect("it is there");
    caller.wait().expect("it ends");
    wait_until("every process is gone", || scene.processes().is_empty());
    let mut hit = 0;
    for point in 0..points {
        hit += u32::from(kill_after(start * point * 5 / (points * 4), point, mode));
    }
    assert!(hit * 3 > points, "{hit} of {points} kills found their victim");
}

/// The same while the machine goes down.
pub fn any_moment_of_down(mode: Mode) {
    for point in 0..points() / 2 {
        let scene = Scene::new();
        let mut caller = scene.hold(mode);
        let (place, environment) = (scene.place("held"), scene.environment.clone());
        let down = std::thread::spawn(move || {
            // The guest never powers off: it is asked, told and killed, or told and gone.
            stop::down(&place, Patience::Usual(Duration::from_millis(100)), &environment, &mut |_| {})
        });
        // It takes a little more than the guest's time.
        std::thread::sleep(Duration::from_millis(300) * point * 2 / points());
        let victim = VICTIMS[1 + point as usize % (VICTIMS.len() - 1)];
        scene.kill_if_there(victim);
        let what = format!("{victim} at {point} of {} of a down", points() / 2);
        let downed = down.join().expect("it ends");
        assert!(!matches!(downed, Err(Error::Left { .. })), "{what}: {downed:?}");
        caller.wait().expect("the caller ends as well");
        nothing_stays(&scene, mode, &what);
    }
}

/// A guest that takes its time with what it is asked, as one whose units are restarted does.
const CHANGES: &str = r#"guest() {
    tell key-taken
    ready
    while read -r line <&$agent; do
        [[ $line == *'"ask"'* ]] || continue
        id=${line##*'"id":'} id=${id%%,*}
        sleep 0.1
        tell answer ",\"id\":$id,\"answer\":{\"answer\":\"refused\",\"reason\":\"in due time\"}"
    done
}"#;

/// The same while the machine is changed. Where the one who changes it is killed, it runs on, without the key, and the
/// next one may change it.
pub fn any_moment_of_apply(mode: Mode) {
    let points = points() / 4;
    let (scene, _holder) = changeable(mode);
    let begun = Instant::now();
    changes(&scene);
    let takes = begun.elapsed();
    drop(scene);
    let victims = [APPLY, "__keeper", "__supervisor", "qemu-system-x86_64 -name"];
    let mut hit = 0;
    for point in 0..points {
        let (scene, mut holder) = changeable(mode);
        let mut caller = scene.begin_to_apply();
        let delay = takes * point / points;
        std::thread::sleep(delay);
        let victim = victims[point as usize % victims.len()];
        hit += u32::from(scene.kill_if_there(victim));
        caller.wait().expect("the caller ends as well");
        let what = format!("{victim} after {} ms of an apply", delay.as_millis());
        if victim == APPLY {
            let is_kept = || !scene.staged_keys().is_empty();
            wait_until(&format!("the key is taken back ({what})"), || !is_kept());
            changes(&scene);
            assert!(!is_kept(), "{what}");
            holder.kill().expect("it is there");
        }
        holder.wait().expect("it ends");
        nothing_stays(&scene, mode, &what);
    }
    assert!(hit * 3 > points, "{hit} of {points} kills found their victim");
}

/// A machine that is ready to be changed, and who holds it.
fn changeable(mode: Mode) -> (Scene, std::process::Child) {
    let scene = played::scene(CHANGES);
    let holder = scene.hold(mode);
    let place = scene.place("held");
    wait_until("it is ready", || place.record().is_some_and(|record| record.phase == Phase::Ready));
    (scene, holder)
}

fn changes(scene: &Scene) {
    let told = scene.begin_to_apply().wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("in due time"), "{told}");
}

/// Kills one process of a start after a while; says whether it was there.
fn kill_after(delay: Duration, point: u32, mode: Mode) -> bool {
    let scene = Scene::new();
    let mut caller = scene.begin_to_hold(mode);
    std::thread::sleep(delay);
    let victim = VICTIMS[point as usize % VICTIMS.len()];
    let hit = scene.kill_if_there(victim);
    if !hit {
        caller.kill().expect("it is there");
    }
    caller.wait().expect("the caller ends as well");
    nothing_stays(&scene, mode, &format!("{victim} after {} ms", delay.as_millis()));
    hit
}

/// No process, lock or key is left once the next civm has looked, and the next start works.
fn nothing_stays(scene: &Scene, mode: Mode, what: &str) {
    wait_until(&format!("every process is gone ({what})"), || scene.processes().is_empty());
    let place = scene.place("held");
    wait_until(&format!("no lock is held ({what})"), || !place.is_alive());
    // The next civm sweeps what a killed one could not.
    assert_eq!(scene.home().running(), [], "{what}");
    assert!(scene.staged_keys().is_empty(), "{what}: {:?}", scene.staged_keys());
    assert!(scene.left_in_state().is_empty(), "{what}: {:?}", scene.left_in_state());
    let mut ports = Vec::new();
    if let Some(record) = place.record() {
        assert_eq!(record.runtime, None, "{what}");
        ports.extend(record.forwards.iter().map(|forward| forward.host_port).filter(|port| *port != 0));
    }
    wait_until(&format!("the ports are free ({what})"), || traces::taken(&ports).is_empty());
    let again =
        scene.start(scene.machine("held", 0), Some(mode)).unwrap_or_else(|error| panic!("{what}: {error}"));
    stop::down(&place, Patience::AtMost(Duration::ZERO), &scene.environment, &mut |_| {})
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    again.wait_end(&mut |_| {});
    assert!(scene.partials().is_empty(), "{what}: {:?}", scene.partials());
}

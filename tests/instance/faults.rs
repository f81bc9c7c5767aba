//! Kills at any moment of a start and of a run: no key, process, port or lock stays, and the next start works.

use std::time::{Duration, Instant};

use civm::instance::Error;
use civm::instance::stage::Mode;
use civm::instance::stop::{self, Patience};

use crate::HOLD;
use crate::scene::{Scene, wait_until};

/// Who is killed, in turn.
const VICTIMS: [&str; 5] = [HOLD, "__keeper", "__supervisor", "__fence", "qemu-system-x86_64 -name"];
/// Moments in each run of the tests; `CIVM_POINTS` says another number.
const POINTS: u32 = 20;

fn points() -> u32 {
    std::env::var("CIVM_POINTS").ok().and_then(|text| text.parse().ok()).unwrap_or(POINTS)
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
    if let Some(record) = place.record() {
        assert_eq!(record.runtime, None, "{what}");
    }
    let again =
        scene.start(scene.machine("held", 0), Some(mode)).unwrap_or_else(|error| panic!("{what}: {error}"));
    stop::down(&place, Patience::AtMost(Duration::ZERO), &scene.environment, &mut |_| {})
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    again.wait_end(&mut |_| {});
}

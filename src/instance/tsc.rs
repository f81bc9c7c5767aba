//! How fast this machine's time stamp counter runs: under TCG QEMU's guests read that counter, and a guest without
//! another timer has to be told its rate.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use quanta::Clock;
use serde::{Deserialize, Serialize};

use crate::edge::atomic;
use crate::edge::environment::Environment;
use crate::instance::state::make_directory;

/// How long the counter is watched. Reading both clocks takes well below 1 µs, so the rate is right to some parts in a
/// million, a fraction of a second a day.
const WATCHED: Duration = Duration::from_millis(50);
/// Pairs of readings of which the closest counts: this process may be put aside between the two.
const READINGS: u32 = 16;
/// The clocks that the kernel trusts.
const CLOCKS: &str = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
/// Bytes of `/proc/cpuinfo` that hold the first processor's flags.
const PROCESSOR_BYTES: u64 = 8 << 10;
/// Rates that processors have, in kHz.
const POSSIBLE: std::ops::RangeInclusive<u64> = 100_000..=20_000_000;

/// The counter's rate in kHz, by this machine's clock; measured once.
///
/// # Errors
/// Why it has none, or none that can be told.
pub(crate) fn measure_khz() -> Result<u32, String> {
    static RATE: OnceLock<Result<u32, String>> = OnceLock::new();
    RATE.get_or_init(|| {
        check(std::env::consts::ARCH, &first_processor())?;
        let clock = Clock::new();
        let (start, from) = read(&clock);
        std::thread::sleep(WATCHED);
        let (end, to) = read(&clock);
        rate(to.saturating_sub(from), end.duration_since(start))
    })
    .clone()
}

/// The rate as the cache has it for this boot of the machine, else measured. None where this machine's kernel has given
/// the counter up, as one that differs between its processors.
pub(crate) fn known_khz(environment: &Environment) -> Option<u32> {
    let offered = std::fs::read_to_string(CLOCKS).ok()?;
    if !offered.split_whitespace().any(|clock| clock == "tsc") {
        return None;
    }
    kept(environment).or_else(|| measure_khz().ok())
}

/// Keeps the rate in the cache until the machine boots again. Without a cache the next run measures anew.
pub(crate) fn remember(khz: u32, environment: &Environment) {
    let (Some(path), Some(boot)) = (cached(environment), boot_id()) else { return };
    if kept(environment).is_some() {
        return;
    }
    let directory = path.parent().is_some_and(|directory| make_directory(directory).is_ok());
    if let (true, Ok(text)) = (directory, serde_json::to_vec(&Kept { boot, khz })) {
        let _ = atomic::replace(&path, &text, 0o600);
    }
}

fn kept(environment: &Environment) -> Option<u32> {
    let text = std::fs::read(cached(environment)?).ok()?;
    let kept: Kept = serde_json::from_slice(&text).ok()?;
    (Some(kept.boot) == boot_id()).then_some(kept.khz)
}

fn cached(environment: &Environment) -> Option<PathBuf> {
    environment.cache_dir().map(|dir| dir.join("civm/tsc.json"))
}

fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// A rate that was measured.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// In which boot of the machine.
    boot: String,
    khz: u32,
}

/// What `/proc/cpuinfo` says of the first processor; the kernel takes its time over all of a large machine's.
fn first_processor() -> String {
    let mut text = String::new();
    let file = File::open("/proc/cpuinfo");
    let _ = file.and_then(|file| file.take(PROCESSOR_BYTES).read_to_string(&mut text));
    text
}

/// Whether the counter runs at one rate, whatever the processor does.
fn check(arch: &str, cpuinfo: &str) -> Result<(), String> {
    if arch != "x86_64" {
        return Err(format!("the guest's clock needs an x86_64 processor, and this one is {arch}"));
    }
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")?.split_once(": "));
    let flags: Vec<&str> = flags.map(|(_, flags)| flags.split_whitespace().collect()).unwrap_or_default();
    let needed = ["tsc", "constant_tsc", "nonstop_tsc", "rdtscp"];
    match needed.into_iter().find(|flag| !flags.contains(flag)) {
        None => Ok(()),
        Some(flag) => Err(format!(
            "the guest's clock needs a time stamp counter of constant rate ({flag} is not among the flags in /proc/cpuinfo)"
        )),
    }
}

/// The counter, and the time at which it was read.
fn read(clock: &Clock) -> (Instant, u64) {
    let readings = (0..READINGS).map(|_| {
        let before = Instant::now();
        let ticks = clock.raw();
        (before.elapsed(), before, ticks)
    });
    let closest = readings.min_by_key(|(apart, ..)| *apart);
    closest.map_or_else(|| (Instant::now(), clock.raw()), |(_, before, ticks)| (before, ticks))
}

fn rate(ticks: u64, during: Duration) -> Result<u32, String> {
    // Ticks in a nanosecond are gigahertz.
    let khz = u128::from(ticks).saturating_mul(1_000_000) / during.as_nanos().max(1);
    let khz = u64::try_from(khz).unwrap_or(u64::MAX);
    match u32::try_from(khz) {
        Ok(rate) if POSSIBLE.contains(&khz) => Ok(rate),
        _ => Err(format!("the time stamp counter seems to run at {khz} kHz")),
    }
}

#[cfg(test)]
mod tests {
    use super::{check, known_khz, measure_khz, rate, remember};
    use crate::edge::environment::Environment;
    use std::time::Duration;

    const FLAGS: &str =
        "processor\t: 0\nflags\t\t: fpu tsc rdtscp constant_tsc nonstop_tsc sse\nbugs\t\t: x\n";

    #[test]
    fn a_counter_that_changes_its_pace_is_refused() {
        assert_eq!(check("x86_64", FLAGS), Ok(()));
        for flag in ["constant_tsc", "nonstop_tsc", "rdtscp"] {
            let without = FLAGS.replace(&format!(" {flag}"), "");
            assert!(check("x86_64", &without).unwrap_err().contains(flag), "{flag}");
        }
        assert!(check("x86_64", "").is_err());
        assert!(check("aarch64", FLAGS).unwrap_err().contains("aarch64"));
    }

    #[test]
    fn the_rate_is_ticks_in_time() {
        assert_eq!(rate(132_500_000, Duration::from_millis(50)), Ok(2_650_000));
        for (ticks, millis) in [(0, 50), (u64::MAX, 50), (1, 50)] {
            assert!(rate(ticks, Duration::from_millis(millis)).is_err(), "{ticks} in {millis} ms");
        }
    }

    #[test]
    fn a_rate_is_measured_once_in_a_boot() {
        let dir = tempfile::tempdir().unwrap();
        let environment = Environment::empty().with("XDG_CACHE_HOME", dir.path());
        let Some(khz) = known_khz(&environment) else { return };
        let path = dir.path().join("civm/tsc.json");
        assert!(!path.exists(), "to look writes nothing");
        remember(khz, &environment);
        assert_eq!(known_khz(&environment), Some(khz));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(&khz.to_string(), "1234567")).unwrap();
        assert_eq!(known_khz(&environment), Some(1_234_567), "as it is kept");
        for other in ["{\"boot\":\"another\",\"khz\":1}", "", "{"] {
            std::fs::write(&path, other).unwrap();
            assert_eq!(known_khz(&environment), Some(khz), "measured anew: {other}");
            remember(khz, &environment);
            assert!(std::fs::read_to_string(&path).unwrap().contains(&khz.to_string()), "{other}");
        }
    }

    #[test]
    fn two_measurements_agree_with_the_kernels() {
        // Only where the counter can be told at all.
        let Ok(rate) = measure_khz() else { return };
        // The kernel takes it for its own clock where it trusts it, and shows the rate it has measured or was told.
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        if !cpuinfo.contains("tsc_known_freq") {
            return;
        }
        let shown = cpuinfo.lines().find_map(|line| line.strip_prefix("cpu MHz")?.split_once(": "));
        let mhz: f64 = shown.unwrap().1.trim().parse().unwrap();
        let apart = (f64::from(rate) / 1000.0 - mhz).abs() / mhz;
        assert!(apart < 0.001, "{rate} kHz measured, {mhz} MHz shown");
    }
}

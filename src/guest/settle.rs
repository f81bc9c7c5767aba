//! `civm guest settle`: what of the layer sshd need not wait for (units, swap, the disk's size), and
//! `civm guest ready`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::apply::{LAYER_COPY, warn};
use super::root::{self, Superblock};
use super::{Error, console, devices, events};
use crate::host::layer::{Layer, Zram};
use crate::vm::agent::Event;

/// How long units of the layer may take before readiness stops waiting for them; they go on.
const UNITS_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// The compressed swap is preferred to any other.
const SWAP_PRIORITY: &str = "100";
/// Exists once the host has been told of a failure.
const FAILED: &str = "/run/civm/failed";
const ZRAM: &str = "/sys/block/zram0";
const ZRAM_DEVICE: &str = "/dev/zram0";

/// Does it, all at once; what fails is a warning, for the guest is of use without it.
pub(super) fn run() -> Result<(), Error> {
    let bytes = fs::read(LAYER_COPY).map_err(Error::io("read", LAYER_COPY))?;
    let layer: Layer =
        serde_json::from_slice(&bytes).map_err(|error| Error::content(LAYER_COPY, error.to_string()))?;
    // Units of the layer may open them.
    devices::prepare().unwrap_or_else(|error| warn(format!("devices: {error}")));
    thread::scope(|scope| {
        scope.spawn(|| start_units(&layer).unwrap_or_else(|error| warn(format!("units: {error}"))));
        scope.spawn(|| {
            if let Some(zram) = &layer.zram {
                swap(zram).unwrap_or_else(|error| warn(format!("swap: {error}")));
            }
            grow_disk().unwrap_or_else(|error| warn(format!("growing the disk: {error}")));
        });
    });
    Ok(())
}

/// Says that the guest is ready; systemd starts this once sshd answers and [`run`] is done.
pub(super) fn ready() {
    events::send(&Event::Ready { uptime_ms: events::uptime_ms() });
}

/// Says that one of civm's own units failed, with its last words; the first of them, which takes the
/// others along.
pub(super) fn failed(unit: &str) {
    if !first_failure() {
        return;
    }
    let output = Command::new("journalctl").args(["-q", "-n", "5", "-o", "cat", "-u", unit]).output();
    let words = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().replace('\n', "; "));
    let message = format!("{unit} failed: {}", words.unwrap_or_default());
    console::say(&message);
    events::send(&Event::Failed { message });
}

/// Whether no failure has been told yet.
pub(super) fn first_failure() -> bool {
    fs::File::create_new(FAILED).is_ok()
}

fn start_units(layer: &Layer) -> Result<(), Error> {
    let own = layer.units.iter().filter(|(_, unit)| unit.start).map(|(name, _)| name);
    let names: Vec<&String> = own.chain(&layer.services).collect();
    if names.is_empty() {
        return Ok(());
    }
    let mut child = Command::new("systemctl")
        .args(["start", "--"])
        .args(names)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io("run", "systemctl"))?;
    if !ended(&mut child, UNITS_WITHIN)? {
        warn("some units of the host layer are still starting".to_owned());
        return Ok(());
    }
    let output = child.wait_with_output().map_err(Error::io("run", "systemctl"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        // One sentence a failed unit; what follows is advice on how to look at it.
        for line in words.lines().filter(|line| !line.starts_with("See \"")) {
            warn(line.to_owned());
        }
    }
    Ok(())
}

fn ended(child: &mut Child, within: Duration) -> Result<bool, Error> {
    let begun = Instant::now();
    while child.try_wait().map_err(Error::io("wait for", "systemctl"))?.is_none() {
        if begun.elapsed() > within {
            return Ok(false);
        }
        thread::sleep(POLL);
    }
    Ok(true)
}

fn swap(zram: &Zram) -> Result<(), Error> {
    console::run("modprobe", &["zram"])?;
    let memory = fs::read_to_string("/proc/meminfo").map_err(Error::io("read", "/proc/meminfo"))?;
    let total = memory_kib(&memory).ok_or_else(|| Error::content("/proc/meminfo", "has no MemTotal"))?;
    let set = |name: &str, value: &str| {
        let path = Path::new(ZRAM).join(name);
        fs::write(&path, value).map_err(Error::io("write", &path))
    };
    set("comp_algorithm", &zram.algorithm)?;
    set("disksize", &format!("{}K", total.saturating_mul(u64::from(zram.percent)) / 100))?;
    console::run("mkswap", &["-q", ZRAM_DEVICE]).or_else(|_| console::run("mkswap", &[ZRAM_DEVICE]))?;
    console::run("swapon", &["-p", SWAP_PRIORITY, ZRAM_DEVICE])
}

/// All memory in KiB, as /proc/meminfo says it.
fn memory_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Grows the root file system to its disk, in use as it is.
fn grow_disk() -> Result<(), Error> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(Error::io("read", "/proc/self/mounts"))?;
    let Some(device) = root_device(&mounts) else { return Ok(()) };
    let size = root::device_size(Path::new(device))?;
    let file_system = Superblock::read(Path::new(device))?;
    // Less than a block group (128 MiB) cannot always be used.
    if size.saturating_sub(file_system.size) < 128 << 20 {
        return Ok(());
    }
    console::run("resize2fs", &[device])
}

/// What is mounted on `/`.
fn root_device(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (device, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (target == "/" && kind == "ext4").then_some(device)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_device_is_the_ext4_one() {
        let mounts = "rootfs / rootfs rw 0 0\nproc /proc proc rw 0 0\n/dev/vda / ext4 rw 0 0\n";
        assert_eq!(root_device(mounts), Some("/dev/vda"));
        assert_eq!(root_device("rootfs / rootfs rw 0 0\n"), None);
    }

    #[test]
    fn memory_is_read_in_kib() {
        assert_eq!(memory_kib("MemTotal:        1000 kB\nMemFree: 1 kB\n"), Some(1000));
        assert_eq!(memory_kib(""), None);
    }
}

//! What of the layer sshd need not wait for, the units that it starts; then the host is told that the guest is ready, and
//! what can wait until somebody has logged in is done (swap, the disk's size).

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::manager::Jobs;
use super::modules::Modules;
use super::root::{self, Superblock};
use super::{
    Error, apply, console, devices, events, journal, notify_ready, packages, sshd, systemctl, units, usage,
};
use crate::host::layer::{Layer, Zram};
use crate::image::layout;
use crate::vm::agent::{Event, LOGGED_IN};

/// The compressed swap is preferred to any other.
const SWAP_PRIORITY: &str = "100";
/// How long the host's first login is waited for after readiness, before the console has a shell and before all the rest is
/// done: nobody logs in after a reboot, or without a forwarded port.
pub(super) const CONSOLE: Duration = Duration::from_secs(5);
pub(super) const LOGIN: Duration = Duration::from_secs(10);
/// How long in all while somebody is connected to sshd: many machines that start at once take the processor from one
/// another, and all the rest would take it from their logins.
const LOGGING_IN: Duration = Duration::from_secs(30);
const CONNECTIONS: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
const POLL: Duration = Duration::from_millis(50);
/// Exists once the host has been told of a failure.
const FAILED: &str = "/run/civm/failed";
/// Where the journal can be asked once it has begun, and how long that may take.
const JOURNAL_SOCKET: &str = "/run/systemd/journal/io.systemd.journal";
const BEGUN: Duration = Duration::from_secs(10);
/// How often it is looked at whether the end of the boot can still come.
const ASKED_EVERY: Duration = Duration::from_secs(5);
/// Exists once all of the boot is done.
const SETTLED: &str = "/run/civm/settled";
const ZRAM: &str = "/sys/block/zram0";
const ZRAM_DEVICE: &str = "/dev/zram0";

/// Does all of that; what fails of it is a warning, for the guest is of use without it. Not so without sshd: that it
/// failed has been told by then.
///
/// Swap, the disk's size and what packages have enabled follow only once the host has been told: readiness does not wait
/// for them. Nor do they take the processor from the login that the host proves readiness with, which is slow enough
/// where that is emulated.
pub(super) fn run(layer: &Layer, mut jobs: io::Result<Jobs>) -> Result<(), Error> {
    // Units of the layer may open them.
    devices::prepare().unwrap_or_else(|error| warn(format!("devices: {error}")));
    // Units may need them.
    if packages::are_outgrown() {
        // It takes long: sshd starts meanwhile, and so does the journal.
        notify_ready();
        begin_journal();
        let caught_up = packages::catch_up(layer, packages::Patience::While);
        caught_up.unwrap_or_else(|error| warn(format!("packages: {error}")));
        apply::complete().unwrap_or_else(|error| warn(format!("the host layer: {error}")));
        jobs = Jobs::begin();
    }
    start_units(layer, jobs)?;
    events::send(&Event::Ready { uptime_ms: events::uptime_ms() });
    let ready = Instant::now();
    begin_journal();
    await_login(ready, CONSOLE);
    if layer.console_login {
        start_console();
    }
    await_login(ready, LOGIN);
    if let Some(zram) = &layer.zram {
        swap(zram).unwrap_or_else(|error| warn(format!("swap: {error}")));
    }
    grow_disk().unwrap_or_else(|error| warn(format!("growing the disk: {error}")));
    start_later().unwrap_or_else(|error| warn(format!("units of the image: {error}")));
    fs::write(SETTLED, "").map_err(Error::io("write", SETTLED))
}

/// `civm guest ready`: waits until all of that is done.
pub(super) fn await_end() -> Result<(), Error> {
    let mut asked = Instant::now();
    while !Path::new(SETTLED).exists() {
        thread::sleep(POLL);
        if asked.elapsed() > ASKED_EVERY {
            asked = Instant::now();
            if !systemctl::is_active(units::APPLY) {
                return Err(Error::content(units::APPLY, "has failed"));
            }
        }
    }
    Ok(())
}

/// The journal begins only now: it does not take the processor from what readiness waits for.
pub(super) fn begin_journal() {
    journal::begin().unwrap_or_else(|error| console::log(&format!("journal: {error}")));
}

/// Waits until all that was said so far is in the journal.
fn await_journal() {
    let until = Instant::now() + BEGUN;
    while !Path::new(JOURNAL_SOCKET).exists() && Instant::now() < until {
        thread::sleep(POLL);
    }
    let _ = console::run("journalctl", &["--sync"]);
}

/// Reports what is wrong, though the guest is of use without it. A guest on its way down starts nothing any more, and
/// that is nobody's fault.
fn warn(message: String) {
    console::log(&message);
    if systemctl::is_stopping() {
        return;
    }
    events::send(&Event::Warning { message });
}

/// Waits for the host's first login, for a while since the guest is ready.
pub(super) fn await_login(ready: Instant, within: Duration) {
    while !Path::new(LOGGED_IN).exists() {
        let waited = ready.elapsed();
        if waited >= within && (waited >= LOGGING_IN || !CONNECTIONS.iter().any(|list| is_visited(list))) {
            return;
        }
        thread::sleep(POLL);
    }
}

/// Whether one of the kernel's lists of connections has one to sshd.
fn is_visited(list: &str) -> bool {
    fs::read_to_string(list).is_ok_and(|lines| lines.lines().any(is_to_sshd))
}

/// A line begins with a number, the two ends, and the state: 01 is an established connection (Linux,
/// Documentation/networking/proc_net_tcp.rst).
fn is_to_sshd(line: &str) -> bool {
    let mut fields = line.split_whitespace().skip(1);
    fields.next().is_some_and(|own| own.ends_with(":0016")) && fields.nth(1) == Some("01")
}

/// Starts root's shell on the console.
fn start_console() {
    match systemctl::start(Jobs::begin(), &[units::CONSOLE], || (), || (), |_| ()) {
        Ok(wrong) => wrong.into_iter().for_each(warn),
        Err(error) => warn(format!("the console: {error}")),
    }
}

/// Starts the targets that packages hang their units on.
fn start_later() -> Result<(), Error> {
    let start = ["start", "--no-block", "--"];
    console::run("systemctl", &[&start[..], &units::LATER[..]].concat())
}

/// Reports that one of civm's own units failed, with its last messages; only the first of them, which takes the
/// others along.
pub(super) fn failed(unit: &str) {
    begin_journal();
    if first_failure() {
        tell_failure(unit);
    }
    // There is a shell to look at it with, where the layer came far enough to say that there may be.
    start_console();
}

fn tell_failure(unit: &str) {
    await_journal();
    // Its own messages; systemd's about it where it wrote none.
    let own = last_messages(&[&format!("_SYSTEMD_UNIT={unit}.service")]);
    let messages = if own.is_empty() { last_messages(&["-u", unit]) } else { own };
    let message = format!("{unit} failed: {messages}");
    console::say(&message);
    events::send(&Event::Failed { message });
}

/// The end of the journal of this boot, of what `matches` choose; each line once.
fn last_messages(matches: &[&str]) -> String {
    let output = Command::new("journalctl").args(["-q", "-b", "-n", "8", "-o", "cat"]).args(matches).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        if !line.is_empty() && !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("; ")
}

/// Whether no failure has been told yet.
pub(super) fn first_failure() -> bool {
    fs::File::create_new(FAILED).is_ok()
}

/// Starts what the layer starts, while sshd comes up, and waits for both. systemd hears of these units before it hears that
/// the layer is there, and others can start.
fn start_units(layer: &Layer, jobs: io::Result<Jobs>) -> Result<(), Error> {
    let own = layer.units.iter().filter(|(_, unit)| unit.start).map(|(name, _)| name);
    let names: Vec<&str> = own.chain(&layer.services).map(String::as_str).collect();
    // `up` shows which unit it waits for.
    let waiting = |what| events::send(&Event::Waiting { what });
    // A unit that takes longer may say more than waits for the journal.
    match systemctl::start(jobs, &names, notify_ready, begin_journal, waiting) {
        Ok(wrong) => wrong.into_iter().filter(|line| !units::is_about_own(line)).for_each(warn),
        Err(error) => warn(format!("units: {error}")),
    }
    sshd::await_listening(waiting)
}

/// Loads drivers, unless they are there.
pub(super) fn load_drivers(names: &[&str]) -> Result<(), Error> {
    let modules = Modules::open(&Path::new(layout::RUN_DIR).join(layout::MODULES))?;
    names.iter().for_each(|name| modules.load(name));
    Ok(())
}

fn swap(zram: &Zram) -> Result<(), Error> {
    load_drivers(&["zram", &zram.algorithm])?;
    let memory = fs::read_to_string("/proc/meminfo").map_err(Error::io("read", "/proc/meminfo"))?;
    let total =
        usage::kib(&memory, "MemTotal").ok_or_else(|| Error::content("/proc/meminfo", "has no MemTotal"))?;
    let set = |name: &str, value: &str| {
        let path = Path::new(ZRAM).join(name);
        fs::write(&path, value).map_err(Error::io("write", &path))
    };
    set("comp_algorithm", &zram.algorithm)?;
    set("disksize", &format!("{}K", total.saturating_mul(u64::from(zram.percent)) / 100))?;
    console::run("mkswap", &["-q", ZRAM_DEVICE]).or_else(|_| console::run("mkswap", &[ZRAM_DEVICE]))?;
    console::run("swapon", &["-p", SWAP_PRIORITY, ZRAM_DEVICE])
}

/// Grows the root file system to its disk, in use as it is.
pub(super) fn grow_disk() -> Result<(), Error> {
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
    fn connections_to_sshd_are_told_from_others() {
        let line =
            |own: &str, state: &str| format!("   1: 0F02000A:{own} 0202000A:D6A8 {state} 00000000:00000000");
        assert!(is_to_sshd(&line("0016", "01")));
        assert!(!is_to_sshd(&line("0016", "0A")) && !is_to_sshd(&line("1F90", "01")));
        assert!(!is_to_sshd("  sl  local_address rem_address   st tx_queue rx_queue"));
    }

    #[test]
    fn the_root_device_is_the_ext4_one() {
        let mounts = "rootfs / rootfs rw 0 0\nproc /proc proc rw 0 0\n/dev/vda / ext4 rw 0 0\n";
        assert_eq!(root_device(mounts), Some("/dev/vda"));
        assert_eq!(root_device("rootfs / rootfs rw 0 0\n"), None);
    }
}

//! What makes a guest one of its own: name, machine id, clock.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::mount::{MntFlags, umount2};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use super::notes::Notes;
use super::{Error, files, root, units};
use crate::host::rootfs::{Entry, Kind};
use crate::vm::agent::answer::{How, What};

/// Debian's address for a machine's own name.
const OWN_ADDRESS: &str = "127.0.1.1";
/// Where the instance's machine id lies; it covers the image's.
const MACHINE_ID: &str = "/run/civm/machine-id";
/// Where the journal of a boot lies, a directory a machine id.
const JOURNAL: &str = "/run/log/journal";
/// The kernel's boot id, and what covers it in a machine that is to be a template.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const NO_BOOT_ID: &str = "/run/civm/boot-id";
const GENERIC_BOOT_ID: &str = "636c7669-6d00-4000-8000-000000000000";

/// Where time zones lie, below the root.
const ZONES: &str = "usr/share/zoneinfo";

/// Sets the host name, now and in the files that programs read it from.
pub(super) fn host_name(name: &str, dry_run: bool, notes: &mut Notes) -> Result<(), Error> {
    if nix::unistd::gethostname().is_ok_and(|now| now.to_str() != Some(name)) {
        notes.note(What::Setting, How::Changed, "hostname");
    }
    if dry_run {
        return Ok(());
    }
    nix::unistd::sethostname(name).map_err(Error::io("set", "the host name"))?;
    files::write(Path::new("/etc/hostname"), format!("{name}\n").as_bytes(), 0o644)?;
    let hosts = Path::new("/etc/hosts");
    let old = fs::read_to_string(hosts).unwrap_or_default();
    files::write(hosts, with_own_name(&old, name).as_bytes(), 0o644)
}

/// The hosts file with the machine's own name in the one line that is civm's.
fn with_own_name(hosts: &str, name: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in hosts.lines() {
        if line.split_whitespace().next() != Some(OWN_ADDRESS) {
            lines.push(line.to_owned());
        }
    }
    if !hosts.lines().any(|line| line.split_whitespace().any(|word| word == "localhost")) {
        lines.push("127.0.0.1\tlocalhost".to_owned());
    }
    lines.push(format!("{OWN_ADDRESS}\t{name}"));
    lines.join("\n") + "\n"
}

/// Gives the guest its own machine id. The disk keeps the generic one: the id belongs to the instance,
/// and the next boot starts generic again.
pub(super) fn machine_id(id: &str) -> Result<(), Error> {
    if id.len() != 32 || !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Error::content("machine_id of the layer", "is not 32 hex digits"));
    }
    fs::write(MACHINE_ID, format!("{id}\n")).map_err(Error::io("write", MACHINE_ID))?;
    root::bind(Path::new(MACHINE_ID), Path::new("/etc/machine-id"))?;
    // The journal was begun under the generic id, but journalctl looks under the machine's own.
    let (own, generic) = (Path::new(JOURNAL).join(id), Path::new(JOURNAL).join(units::GENERIC_MACHINE_ID));
    if generic.is_dir() && own.symlink_metadata().is_err() {
        symlink(units::GENERIC_MACHINE_ID, &own).map_err(Error::io("create", &own))?;
    }
    Ok(())
}

/// Covers the kernel's boot id, which the kernel makes when it is read for the first time: the instances of a template would
/// have one in common.
pub(super) fn hide_boot_id() -> Result<(), Error> {
    fs::write(NO_BOOT_ID, format!("{GENERIC_BOOT_ID}\n")).map_err(Error::io("write", NO_BOOT_ID))?;
    root::bind(Path::new(NO_BOOT_ID), Path::new(BOOT_ID))
}

/// Whether the machine was booted to be a template. Nobody looks at the covered file for that: it cannot be uncovered while
/// somebody has it open.
pub(super) fn is_template() -> bool {
    Path::new(NO_BOOT_ID).exists()
}

/// Uncovers it, and nothing stays over a file of `/proc`: with that, the kernel would let nobody mount another `/proc` in
/// a user namespace, as sandboxes do.
pub(super) fn show_boot_id() -> Result<(), Error> {
    umount2(BOOT_ID, MntFlags::MNT_DETACH).map_err(Error::io("uncover", BOOT_ID))
}

/// What is laid over the image for a time zone, in Debian's two places; `None` where the guest does not have it.
pub(super) fn time_zone(name: &str, root: &Path) -> Option<[Entry; 2]> {
    let zone = Path::new(ZONES).join(name);
    let is_inside = zone.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !is_inside || !root.join(&zone).is_file() {
        return None;
    }
    let entry = |path: &str, mode, kind| Entry { path: path.into(), mode, kind };
    Some([
        entry("etc/localtime", 0o777, Kind::Link(Path::new("/").join(zone))),
        entry("etc/timezone", 0o644, Kind::File(format!("{name}\n").into_bytes())),
    ])
}

/// How far the clock may lag behind the host's.
const LAG: Duration = Duration::from_secs(1);

/// Sets the clock where it lags behind the host's, as one does that has no battery or stood still. `true` where it
/// did. `host` is the time since the epoch.
pub(super) fn clock(host: Duration) -> Result<bool, Error> {
    if SystemTime::now() + LAG >= UNIX_EPOCH + host {
        return Ok(false);
    }
    set_clock(host).map(|()| true)
}

/// Sets the clock to the host's, whatever it shows.
pub(super) fn set_clock(host: Duration) -> Result<(), Error> {
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(host))
        .map_err(Error::io("set", "the clock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_name_has_one_line_in_hosts() {
        let hosts = with_own_name("127.0.0.1 localhost\n127.0.1.1 old\n::1 localhost\n", "new");
        assert_eq!(hosts, "127.0.0.1 localhost\n::1 localhost\n127.0.1.1\tnew\n");
        assert_eq!(with_own_name(&hosts, "new"), hosts);
        assert_eq!(with_own_name("", "a"), "127.0.0.1\tlocalhost\n127.0.1.1\ta\n");
    }

    #[test]
    fn a_time_zone_is_one_that_the_guest_has() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(dir.path().join("usr/share/zoneinfo/Europe")).expect("mkdir");
        fs::write(dir.path().join("usr/share/zoneinfo/Europe/Helsinki"), "TZif").expect("write");
        let [link, file] = time_zone("Europe/Helsinki", dir.path()).expect("a zone");
        assert_eq!(link.kind, Kind::Link("/usr/share/zoneinfo/Europe/Helsinki".into()));
        assert_eq!(file.kind, Kind::File("Europe/Helsinki\n".into()));
        for name in ["Europe", "Europe/Nowhere", "../zoneinfo/Europe/Helsinki", "/etc/passwd"] {
            assert!(time_zone(name, dir.path()).is_none(), "{name}");
        }
    }

    #[test]
    fn an_id_that_could_be_a_path_is_refused() {
        assert!(machine_id("../../../../../../../../etc/passw").is_err());
        assert!(machine_id(&"A".repeat(32)).is_err());
    }
}

//! What makes a guest one of its own: name, machine id, clock.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use super::{Error, files, root, units};

/// Debian's address for a machine's own name.
const OWN_ADDRESS: &str = "127.0.1.1";
/// Where the instance's machine id lies; it covers the image's.
const MACHINE_ID: &str = "/run/civm/machine-id";
/// Where the journal of a boot lies, a directory a machine id.
const JOURNAL: &str = "/run/log/journal";

/// Sets the host name, now and in the files that programs read it from.
pub(super) fn host_name(name: &str) -> Result<(), Error> {
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

/// How far the clock may lag behind the host's.
const LAG: Duration = Duration::from_secs(1);

/// Sets the clock where it lags behind the host's, as one does that has no battery or stood still. `true` where it
/// did. `host` is the time since the epoch.
pub(super) fn clock(host: Duration) -> Result<bool, Error> {
    if SystemTime::now() + LAG >= UNIX_EPOCH + host {
        return Ok(false);
    }
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(host))
        .map_err(Error::io("set", "the clock"))?;
    Ok(true)
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
    fn an_id_that_could_be_a_path_is_refused() {
        assert!(machine_id("../../../../../../../../etc/passw").is_err());
        assert!(machine_id(&"A".repeat(32)).is_err());
    }
}

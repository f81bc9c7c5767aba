//! The journal: `civm guest journal` stands in for systemd-journald until the guest is ready, and becomes it then.
//!
//! It does not take the processor from what readiness waits for. The journal keeps the boot id that it began with, which of a
//! template is not the instance's. And systemd works long until a process has the restrictions of that unit: here it has
//! done so before a machine is frozen. Messages wait in the journal's sockets meanwhile. Of a process that has ended by the
//! time the journal reads what it sent there, only what it said itself is known; what came from a unit's output is the unit's.

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Error, identity, notify_ready};

/// The unit of the image, and what is laid over it.
pub(super) const UNIT: &str = "systemd-journald.service";
pub(super) const STAND_IN: &str = "[Service]\nExecStart=\nExecStart=/run/civm/civm guest journal\n";
/// Where systemd-journald lies, in the order of looking.
const PROGRAMS: [&str; 2] = ["/usr/lib/systemd/systemd-journald", "/lib/systemd/systemd-journald"];
/// Where the word comes that it is time.
const SOCKET: &str = "/run/civm/journal.sock";
/// Exists once the machine has its own boot id and machine id.
const OWN: &str = "/run/civm/own";
/// How often that is looked at, in case that nobody says the word, and how long the word may take then: a program that says
/// more than a socket holds waits for the journal.
const TICK: Duration = Duration::from_secs(1);
const WORD: u32 = 3;
/// How long a boot goes without a journal that does not come so far. A machine that becomes a template has none.
const BOOT: u32 = 10;

/// Waits for the word, and becomes the journal.
pub(super) fn run() -> Result<(), Error> {
    if !Path::new(OWN).exists() {
        let _ = fs::remove_file(SOCKET);
        let socket = UnixDatagram::bind(SOCKET).map_err(Error::io("create", SOCKET))?;
        socket.set_read_timeout(Some(TICK)).map_err(Error::io("wait at", SOCKET))?;
        // The boot waits for its journal.
        notify_ready();
        let mut patience = Patience::default();
        while socket.recv(&mut [0]).is_err() {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            if patience.is_over(Path::new(OWN).exists(), identity::is_template()) {
                break;
            }
        }
        let _ = fs::remove_file(SOCKET);
    }
    let program = PROGRAMS.iter().find(|path| Path::new(path).exists()).unwrap_or(&PROGRAMS[0]);
    Err(Error::io("run", program)(Command::new(program).exec()))
}

/// Ticks without a word.
#[derive(Debug, Default)]
struct Patience {
    boot: u32,
    word: u32,
}

impl Patience {
    fn is_over(&mut self, is_own: bool, is_template: bool) -> bool {
        self.boot += 1;
        self.word += u32::from(is_own);
        self.word >= WORD || (self.boot >= BOOT && !is_own && !is_template)
    }
}

/// The machine has its own boot id and machine id from here on.
pub(super) fn may_begin() -> Result<(), Error> {
    fs::write(OWN, "").map_err(Error::io("write", OWN))
}

/// Lets the journal begin, where it has not.
pub(super) fn begin() -> io::Result<()> {
    match UnixDatagram::unbound()?.send_to(&[0], SOCKET) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        sent => sent.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_of_a_template_never_begins_by_itself() {
        let mut patience = Patience::default();
        assert!(!(0..1000).any(|_| patience.is_over(false, true)));
        // An instance of it, to whose journal nobody says the word.
        assert_eq!((1..).find(|_| patience.is_over(true, false)), Some(WORD));
    }

    #[test]
    fn a_boot_that_does_not_come_to_the_point_has_a_journal() {
        let mut patience = Patience::default();
        assert_eq!((1..).find(|_| patience.is_over(false, false)), Some(BOOT));
    }
}

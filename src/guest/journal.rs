//! The journal: `civm guest journal` stands in for systemd-journald until the guest is ready, and becomes it then.
//!
//! It does not take the processor from what readiness waits for. The journal keeps the boot id that it began with, which of a
//! template is not the instance's. And systemd works long until a process has the restrictions of that unit: here it has
//! done so before a machine is frozen. Messages wait in the journal's sockets meanwhile, with all that is known of who sent
//! them.

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Error, notify_ready, point};

/// The unit of the image, and what is laid over it.
pub(super) const UNIT: &str = "systemd-journald.service";
pub(super) const STAND_IN: &str = "[Service]\nExecStart=\nExecStart=/run/civm/civm guest journal\n";
/// Where systemd-journald lies, in the order of looking.
const PROGRAMS: [&str; 2] = ["/usr/lib/systemd/systemd-journald", "/lib/systemd/systemd-journald"];
/// Where the word comes that it is time.
const SOCKET: &str = "/run/civm/journal.sock";
/// Exists once the point is passed.
const PASSED: &str = "/run/civm/passed";
/// How often that is looked at, in case that nobody says the word.
const AT_LEAST_EVERY: Duration = Duration::from_secs(1);
/// How long a boot goes without a journal that never comes to the point.
const WITHIN: Duration = Duration::from_secs(10);

/// Waits for the word, and becomes the journal.
pub(super) fn run() -> Result<(), Error> {
    if !Path::new(PASSED).exists() {
        let _ = fs::remove_file(SOCKET);
        let socket = UnixDatagram::bind(SOCKET).map_err(Error::io("create", SOCKET))?;
        socket.set_read_timeout(Some(AT_LEAST_EVERY)).map_err(Error::io("wait at", SOCKET))?;
        // The boot waits for its journal.
        notify_ready();
        let begun = Instant::now();
        let is_over = || Path::new(PASSED).exists() || (begun.elapsed() > WITHIN && !point::waits());
        while socket.recv(&mut [0]).is_err() && !is_over() {}
        let _ = fs::remove_file(SOCKET);
    }
    let program = PROGRAMS.iter().find(|path| Path::new(path).exists()).unwrap_or(&PROGRAMS[0]);
    Err(Error::io("run", program)(Command::new(program).exec()))
}

/// The machine is one of its own from here on. Its journal begins when it is told to, or in a second.
pub(super) fn pass_on() -> Result<(), Error> {
    fs::write(PASSED, "").map_err(Error::io("write", PASSED))
}

/// Lets the journal begin, where it has not.
pub(super) fn begin() -> io::Result<()> {
    match UnixDatagram::unbound()?.send_to(&[0], SOCKET) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        sent => sent.map(drop),
    }
}

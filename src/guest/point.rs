//! The one point of the boot: before it nothing is particular to the instance, after it everything is.
//!
//! The guest tells the host that it is there, and goes on when the host says so. A cold boot is told at once. A
//! template is frozen while it waits; what is resumed from it hears the word in another machine, days later, and first
//! becomes one of its own: randomness, clock, boot id. See docs/warm-start.md.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use super::{Error, console, events, identity, root};
use crate::vm::agent::{Event, Go};

/// Where the agent passes the host's word on to.
const SOCKET: &str = "/run/civm/point.sock";
/// How long the word is waited for. A host without an agent's port says none, and neither does an old civm.
const WORD: Duration = Duration::from_secs(10);
/// How long the kernel may take to hear from the machine that it is another one now.
const RESEEDED: Duration = Duration::from_secs(10);
/// What it writes into its log when its random numbers have been made new because of that (drivers/char/random.c).
const RESEEDED_WORDS: &str = "crng reseeded due to virtual machine fork";
const KERNEL_LOG: &str = "/dev/kmsg";
const POOL: &str = "/dev/urandom";
const POLL: Duration = Duration::from_millis(2);
/// The longest word of the host.
const WORD_MAX: usize = 4096;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const OWN_BOOT_ID: &str = "/run/civm/boot-id";
const NEW_UUID: &str = "/proc/sys/kernel/random/uuid";

/// Waits at the point, and passes it.
pub(super) fn pass() -> Result<(), Error> {
    let _ = fs::remove_file(SOCKET);
    let socket = UnixDatagram::bind(SOCKET).map_err(Error::io("create", SOCKET))?;
    socket.set_read_timeout(Some(WORD)).map_err(Error::io("wait at", SOCKET))?;
    // Opened before, so that what comes meanwhile is read.
    let log = kernel_log();
    events::send(&Event::Point { uptime_ms: events::uptime_ms() });
    let mut word = [0; WORD_MAX];
    let go = match socket.recv(&mut word) {
        Ok(length) => serde_json::from_slice::<Go>(&word[..length])
            .map_err(|error| Error::content(SOCKET, error.to_string()))?,
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            console::log("the host said nothing at the point: going on");
            return Ok(());
        }
        Err(error) => return Err(Error::io("read", SOCKET)(error)),
    };
    let _ = fs::remove_file(SOCKET);
    if go.resumed { become_another(&go, log?) } else { Ok(()) }
}

/// The agent's part: the word goes to whoever waits for it.
pub(super) fn tell(go: &Go) {
    let text = serde_json::to_vec(go).unwrap_or_default();
    // Nobody waits where the guest has given up waiting.
    let _ = UnixDatagram::unbound().and_then(|socket| socket.send_to(&text, SOCKET));
}

/// Makes a resumed guest differ from all others of its template.
fn become_another(go: &Go, log: File) -> Result<(), Error> {
    let host = Duration::from_millis(go.unix_ms);
    identity::set_clock(host)?;
    // Beside what the machine's generation id brings, and the random device.
    fs::write(POOL, seed_bytes(go)).map_err(Error::io("write", POOL))?;
    // No key is read and no random number taken for use before that.
    await_reseed(log)?;
    let id = fs::read_to_string(NEW_UUID).map_err(Error::io("read", NEW_UUID))?;
    fs::write(OWN_BOOT_ID, id).map_err(Error::io("write", OWN_BOOT_ID))?;
    root::bind(Path::new(OWN_BOOT_ID), Path::new(BOOT_ID))?;
    // It keeps the boot id that it began with. Nobody waits for that: messages stay in its sockets meanwhile.
    let restart = ["restart", "--no-block", "systemd-journald.service"];
    Command::new("systemctl").args(restart).spawn().map(drop).map_err(Error::io("run", "systemctl"))
}

fn seed_bytes(go: &Go) -> Vec<u8> {
    go.seed.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The kernel's log from now on; reads of it never block.
fn kernel_log() -> Result<File, Error> {
    let open = || -> io::Result<File> {
        let flags = OFlag::O_NONBLOCK.bits();
        let mut log = OpenOptions::new().read(true).custom_flags(flags).open(KERNEL_LOG)?;
        log.seek(SeekFrom::End(0))?;
        Ok(log)
    };
    open().map_err(Error::io("open", KERNEL_LOG))
}

/// Waits until the kernel says that its random numbers are new.
fn await_reseed(mut log: impl Read) -> Result<(), Error> {
    let until = Instant::now() + RESEEDED;
    let mut record = [0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(length) if String::from_utf8_lossy(&record[..length]).contains(RESEEDED_WORDS) => {
                return Ok(());
            }
            // Another message; or some were lost before they were read.
            Ok(length) if length > 0 => continue,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => continue,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(Error::io("read", KERNEL_LOG)(error)),
        }
        if Instant::now() >= until {
            return Err(Error::content(
                KERNEL_LOG,
                "the kernel did not make its random numbers new after a warm start",
            ));
        }
        thread::sleep(POLL);
    }
}

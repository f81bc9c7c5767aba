//! The one point of the boot: before it nothing is particular to the instance, after it everything is.
//!
//! The guest tells the host that it is there, and goes on when the host says so. A cold boot is told at once. A machine that
//! is to become a template prepares what comes next, and says so: that is when it is frozen. What is resumed from it hears
//! the word in another machine, days later, and first becomes one of its own: randomness, clock, boot id. See
//! docs/warm-start.md.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use super::{Error, console, events, identity, prepare};
use crate::vm::agent::{Event, Go};

/// Where the agent passes the host's word on to.
const SOCKET: &str = "/run/civm/point.sock";
/// How soon a machine would hear it that is not to become a template after all.
const SOON: Duration = Duration::from_secs(1);
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

/// Waits at the point, and passes it; whether all of the boot before it is known to be over.
pub(super) fn pass() -> Result<bool, Error> {
    let _ = fs::remove_file(SOCKET);
    let socket = UnixDatagram::bind(SOCKET).map_err(Error::io("create", SOCKET))?;
    // Opened before, so that what comes meanwhile is read. A guest that boots does without.
    let mut log = kernel_log();
    events::send(&Event::Point { uptime_ms: events::uptime_ms() });
    let is_template = identity::is_template();
    let (mut reseeded, mut prepared) = (false, false);
    let go = loop {
        let prepares = is_template && !prepared;
        if let Some(go) = receive(&socket, if prepares { SOON } else { WORD })? {
            break go;
        }
        if prepares {
            prepared = true;
            prepare::prepare()?;
            events::send(&Event::Prepared);
            continue;
        }
        reseeded = reseeded || log.as_mut().is_ok_and(|log| is_reseeded(log).unwrap_or(false));
        if !reseeded {
            console::log("the host said nothing at the point: going on");
            return Ok(prepared);
        }
        // It was resumed, and is not to go on as what it was.
    };
    if go.resumed {
        become_another(&go, log?, reseeded)?;
        // What it had said was said to another host. Nobody waits for the answer: the agent sets the clock by it.
        events::send(&Event::Point { uptime_ms: events::uptime_ms() });
    }
    let _ = fs::remove_file(SOCKET);
    Ok(prepared)
}

/// The word, if it comes in time.
fn receive(socket: &UnixDatagram, within: Duration) -> Result<Option<Go>, Error> {
    socket.set_read_timeout(Some(within)).map_err(Error::io("wait at", SOCKET))?;
    let mut word = [0; WORD_MAX];
    match socket.recv(&mut word) {
        Ok(length) => serde_json::from_slice(&word[..length])
            .map(Some)
            .map_err(|error| Error::content(SOCKET, error.to_string())),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(Error::io("read", SOCKET)(error)),
    }
}

/// The agent's part: the word goes to whoever waits for it.
pub(super) fn tell(go: &Go) {
    let text = serde_json::to_vec(go).unwrap_or_default();
    // Nobody waits where the guest has given up waiting.
    let _ = UnixDatagram::unbound().and_then(|socket| socket.send_to(&text, SOCKET));
}

/// Makes a resumed guest differ from all others of its template.
fn become_another(go: &Go, log: File, reseeded: bool) -> Result<(), Error> {
    let host = Duration::from_millis(go.unix_ms);
    identity::set_clock(host)?;
    // Beside what the machine's generation id brings, and the random device.
    fs::write(POOL, seed_bytes(go)).map_err(Error::io("write", POOL))?;
    // No key is read and no random number taken for use before that.
    if !reseeded {
        await_reseed(log, RESEEDED)?;
    }
    identity::show_boot_id()
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
fn await_reseed(mut log: impl Read, within: Duration) -> Result<(), Error> {
    let until = Instant::now() + within;
    while !is_reseeded(&mut log)? {
        if Instant::now() >= until {
            let reason = "the kernel did not make its random numbers new after a warm start";
            return Err(Error::content(KERNEL_LOG, reason));
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// Whether the kernel has said so in what is to be read now, a message at a time.
fn is_reseeded(log: &mut impl Read) -> Result<bool, Error> {
    let mut message = [0; 8192];
    loop {
        match log.read(&mut message) {
            Ok(0) => return Ok(false),
            Ok(length) if String::from_utf8_lossy(&message[..length]).contains(RESEEDED_WORDS) => {
                return Ok(true);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // Messages were lost before they were read, or a signal came.
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(Error::io("read", KERNEL_LOG)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of messages, one a read.
    struct Log(Vec<Result<&'static str, io::ErrorKind>>);

    impl Read for Log {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let text = self.0.remove(0)?;
            buffer[..text.len()].copy_from_slice(text.as_bytes());
            Ok(text.len())
        }
    }

    #[test]
    fn the_kernels_word_is_found_among_others() {
        let word = "5,612,9871,-;random: crng reseeded due to virtual machine fork\n";
        let seen = |log: Vec<_>| is_reseeded(&mut Log(log)).expect("read");
        assert!(seen(vec![Ok("6,1,2,-;something\n"), Err(io::ErrorKind::BrokenPipe), Ok(word)]));
        assert!(!seen(vec![Ok("6,1,2,-;something\n")]) && !seen(Vec::new()));
        assert!(is_reseeded(&mut Log(vec![Err(io::ErrorKind::PermissionDenied)])).is_err());
    }

    #[test]
    fn a_guest_whose_kernel_never_says_it_does_not_go_on() {
        let others = (0..5).map(|_| Ok("6,1,2,-;something else\n")).collect();
        let begun = Instant::now();
        let error = await_reseed(Log(others), Duration::from_millis(20)).expect_err("it fails");
        assert!(begun.elapsed() >= Duration::from_millis(20), "later words are waited for");
        assert!(error.to_string().contains("random numbers"), "{error}");
        let late = vec![
            Err(io::ErrorKind::WouldBlock),
            Ok("5,6,9,-;random: crng reseeded due to virtual machine fork\n"),
        ];
        await_reseed(Log(late), Duration::from_secs(10)).expect("it has said so");
    }

    #[test]
    fn all_of_the_seed_goes_into_the_pool() {
        let go = Go { resumed: true, unix_ms: 0, seed: [1, 2, 3, u64::MAX] };
        assert_eq!(seed_bytes(&go).len(), 32);
        assert_eq!(&seed_bytes(&go)[24..], [0xff; 8]);
    }
}

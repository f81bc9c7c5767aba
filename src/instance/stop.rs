//! Ending an instance: the guest is asked, QEMU is told, then killed; afterwards it is made sure that
//! nothing is left.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill as send_signal};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;

use crate::edge::environment::Environment;
use crate::instance::deadline::scaled;
use crate::instance::error::Error;
use crate::instance::event::{Ask, Event};
use crate::instance::state::{Place, Record};

/// How long a guest may take to power off.
pub const GUEST: Duration = Duration::from_secs(30);
/// How long QEMU may take to quit when told.
const QUIT: Duration = Duration::from_secs(5);
/// How long the rest may take: killing, cleaning up.
const REST: Duration = Duration::from_secs(10);
/// How long the kernel may take to free what a killed process had.
const SETTLING: Duration = Duration::from_secs(3);
/// How long a supervisor may take to answer before it counts as hung.
const ANSWER: Duration = Duration::from_secs(5);

/// How an instance was stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// How the machine ended; `None` where it was not running any more.
    pub reason: Option<String>,
    /// What had to be cleaned up besides, in words.
    pub cleaned: Vec<String>,
}

/// Stops an instance and checks that nothing of it is left. `patience` is the guest's time to power off.
///
/// # Errors
/// It is not running and left nothing; or something survived.
pub fn down(
    place: &Place,
    patience: Duration,
    environment: &Environment,
    on: &mut dyn FnMut(&Event),
) -> Result<Stopped, Error> {
    let Some(record) = place.running().or_else(|| place.is_alive().then(|| place.record()).flatten()) else {
        if place.is_alive() {
            return force(place, None, Stopped::default(), environment);
        }
        let cleaned = place.sweep_report();
        if cleaned.is_empty() {
            return Err(Error::NotRunning(place.host.clone()));
        }
        return Ok(Stopped { reason: None, cleaned });
    };
    let (patience, quit) = (scaled(patience, environment), scaled(QUIT, environment));
    let ask = Ask::Stop { patience_ms: millis(patience), quit_ms: millis(quit) };
    let deadline = patience + quit + scaled(REST, environment);
    let reason = match ask_supervisor(&record, &ask, deadline, on) {
        Some(reason) => Some(reason),
        // It may have ended by itself in the same moment.
        None => place.record().and_then(|record| record.reason),
    };
    let stopped = Stopped { reason, cleaned: Vec::new() };
    force(place, Some(&record), stopped, environment)
}

/// Makes sure that the instance is gone, whatever it takes.
fn force(
    place: &Place,
    record: Option<&Record>,
    mut stopped: Stopped,
    environment: &Environment,
) -> Result<Stopped, Error> {
    if !wait_until_dead(place, scaled(REST, environment)) {
        for lock in [place.supervisor_lock(), place.lock()] {
            if let Some(pid) = lock_holder(&lock)
                && send_signal(pid, Signal::SIGKILL).is_ok()
            {
                stopped.cleaned.push(format!("killed process {pid}, which did not answer"));
            }
        }
        wait_until_dead(place, scaled(REST, environment));
    }
    stopped.cleaned.extend(place.sweep_report());
    let mut left = remains(place, record);
    let until = Instant::now() + SETTLING;
    // The kernel closes the sockets of a killed process a moment after its locks.
    while !left.is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
        left = remains(place, record);
    }
    if left.is_empty() { Ok(stopped) } else { Err(Error::Left { host: place.host.clone(), left }) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Asks the supervisor and listens until it is gone; how the machine ended, if it said so.
fn ask_supervisor(
    record: &Record,
    ask: &Ask,
    deadline: Duration,
    on: &mut dyn FnMut(&Event),
) -> Option<String> {
    let until = Instant::now() + deadline;
    let mut socket = UnixStream::connect(record.control()?).ok()?;
    let peer = getsockopt(&socket, PeerCredentials).ok().map(|peer| Pid::from_raw(peer.pid()));
    let line = serde_json::to_string(ask).ok()?;
    socket.write_all(format!("{line}\n").as_bytes()).ok()?;
    socket.set_read_timeout(Some(ANSWER.min(deadline))).ok()?;
    let mut lines = BufReader::new(socket);
    let mut answered = false;
    loop {
        let mut line = String::new();
        match lines.read_line(&mut line) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(_) => {
                // A supervisor that says nothing at all, or takes longer than all its deadlines, is hung;
                // with it the kernel ends QEMU.
                if !answered || Instant::now() >= until {
                    let _ = peer.map(|peer| send_signal(peer, Signal::SIGKILL));
                    return None;
                }
                continue;
            }
        }
        answered = true;
        let Ok(event) = serde_json::from_str::<Event>(&line) else { continue };
        on(&event);
        if let Event::Ended { reason, .. } = event {
            return Some(reason);
        }
    }
}

/// Ends an instance at once, without asking the guest.
pub(crate) fn kill(record: &Record) {
    let _ = ask_supervisor(record, &Ask::Kill, REST, &mut |_| {});
}

fn wait_until_dead(place: &Place, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while place.is_alive() {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// The process that holds a lock, as the kernel lists it.
fn lock_holder(path: &Path) -> Option<Pid> {
    let inode = std::fs::metadata(path).ok()?.ino();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    // `1: FLOCK  ADVISORY  WRITE 4242 08:01:131 0 EOF`
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let held = fields.get(1) == Some(&"FLOCK");
        let same = fields.get(5)?.rsplit(':').next()?.parse() == Ok(inode);
        let pid: i32 = fields.get(4)?.parse().ok()?;
        (held && same && pid > 0).then(|| Pid::from_raw(pid))
    })
}

/// What is left of an instance, in words.
fn remains(place: &Place, record: Option<&Record>) -> Vec<String> {
    let mut left = Vec::new();
    if place.is_alive() {
        left.push(format!("{} is still held", place.lock().display()));
    }
    let Some(record) = record else { return left };
    for forward in record.forwards.iter().filter(|forward| forward.host_port != 0) {
        // Somebody else may take the port in this very moment; that is named as well.
        if TcpListener::bind((forward.address, forward.host_port)).is_err() {
            left.push(format!("port {} is still taken", forward.host_port));
        }
    }
    if let Some(runtime) = &record.runtime {
        if runtime.exists() {
            left.push(format!("{} is still there", runtime.display()));
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if mounts.contains(&*runtime.to_string_lossy()) {
            left.push(format!("something is mounted below {}", runtime.display()));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::{down, lock_holder};
    use crate::edge::environment::Environment;
    use crate::instance::error::Error;
    use crate::instance::state::{Home, Phase, Record, try_lock};
    use std::time::Duration;

    #[test]
    fn the_kernel_names_the_holder_of_a_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let lock = try_lock(&path).unwrap();
        assert_eq!(lock_holder(&path).map(nix::unistd::Pid::as_raw), i32::try_from(std::process::id()).ok());
        drop(lock);
        assert_eq!(lock_holder(&path), None);
    }

    #[test]
    fn what_never_ran_is_not_stopped_and_remains_are_cleaned() {
        let directory = tempfile::tempdir().unwrap();
        let environment = Environment::empty().with("XDG_STATE_HOME", directory.path());
        let home = Home::find(&environment).unwrap();
        let place = home.project(directory.path()).unwrap().place("a").unwrap();
        let stop = || down(&place, Duration::ZERO, &environment, &mut |_| {});
        assert!(matches!(stop(), Err(Error::NotRunning(_))));
        let runtime = directory.path().join("runtime");
        std::fs::create_dir(&runtime).unwrap();
        let mut record = Record::new(&place, 0);
        (record.phase, record.runtime) = (Phase::Ready, Some(runtime.clone()));
        record.save(&place.path).unwrap();
        assert_eq!(stop().unwrap().cleaned, [format!("removed {}", runtime.display())]);
        assert!(matches!(stop(), Err(Error::NotRunning(_))));
    }
}

//! Ending an instance: the guest is asked, QEMU is told, then killed; afterwards it is made sure that
//! nothing is left.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::edge::environment::Environment;
use crate::edge::lock::holder;
use crate::instance::control::{self, Session};
use crate::instance::deadline::scaled;
use crate::instance::error::Error;
use crate::instance::event::{Event, Health};
use crate::instance::state::{Place, Process, Record, StageProcess};
use crate::instance::wire::{Request, Status, Within};

/// How long a guest may take to power off.
pub const GUEST: Duration = Duration::from_secs(30);
/// How long QEMU may take to quit when told.
const QUIT: Duration = Duration::from_secs(5);
/// How long the rest may take: killing, cleaning up.
const REST: Duration = Duration::from_secs(10);
/// How long the kernel may take to free what a killed process had.
const SETTLING: Duration = Duration::from_secs(3);
/// How long a supervisor may take to answer before it counts as hung, and its guest is lost. It writes its record to the
/// disk first, which takes seconds where the disk is busy.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a look at a machine's health may take.
const HEALTH: Duration = Duration::from_secs(4);

/// How an instance was stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// How the machine ended; `None` where it was no longer running.
    pub reason: Option<String>,
    /// What else had to be cleaned up, as text for the user.
    pub cleaned: Vec<String>,
}

/// How much time a guest is given to power off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// So much; where somebody else stops the machine already, what they gave it.
    Usual(Duration),
    /// No more than this, whatever somebody else gave it.
    AtMost(Duration),
}

/// Stops an instance and checks that nothing of it is left. A stop that is under way is joined.
///
/// # Errors
/// It is not running and left nothing; its record is another civm's; or something survived.
pub fn down(
    place: &Place,
    patience: Patience,
    environment: &Environment,
    on: &mut dyn FnMut(&Event),
) -> Result<Stopped, Error> {
    // What another version of civm runs is that one's to stop.
    let record = place.load()?;
    if !place.is_alive() {
        let cleaned = place.sweep_report();
        if cleaned.is_empty() {
            return Err(Error::NotRunning(place.name.clone()));
        }
        return Ok(Stopped { reason: None, cleaned });
    }
    let asked = match &record {
        Some(record) => ask_supervisor(record, patience, environment, on)?,
        None => Asked::Gone,
    };
    let mut stopped = Stopped::default();
    stopped.reason = match asked {
        Asked::Ended(reason) => Some(reason),
        // It may have ended by itself in the same moment.
        Asked::Gone => {
            wait_until_dead(place, scaled(REST, environment));
            place.record().and_then(|record| record.reason)
        }
        Asked::Silent => {
            stopped.cleaned = kill_stages(place);
            None
        }
    };
    let mut stopped = make_sure(place, record.as_ref(), stopped, environment)?;
    stopped.reason.get_or_insert_with(|| "it was killed".to_owned());
    Ok(stopped)
}

/// Makes sure that the instance is gone, and kills what does not answer.
fn make_sure(
    place: &Place,
    record: Option<&Record>,
    mut stopped: Stopped,
    environment: &Environment,
) -> Result<Stopped, Error> {
    if !wait_until_dead(place, scaled(REST, environment)) {
        stopped.cleaned.extend(kill_stages(place));
        wait_until_dead(place, scaled(REST, environment));
    }
    // Its supervisor takes QEMU with it; this is for the one that got away all the same.
    for qemu in processes(place, record).filter(|qemu| qemu.kill()) {
        stopped
            .cleaned
            .push(format!("killed QEMU (process {}), which had outlived its supervisor", qemu.pid));
    }
    stopped.cleaned.extend(place.sweep_report());
    // A keeper that was killed between its supervisor's last word and its own cleaning left it, and no record says so.
    if let Some(runtime) = record.and_then(|record| record.runtime.as_deref()) {
        stopped.cleaned.extend(place.sweep_runtime(runtime));
    }
    let mut left = remains(place, record);
    let until = Instant::now() + SETTLING;
    // The kernel closes the sockets of a killed process a moment after its locks.
    while !left.is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
        left = remains(place, record);
    }
    if left.is_empty() { Ok(stopped) } else { Err(Error::Left { host: place.name.clone(), left }) }
}

/// Kills what holds an instance and does not answer: processes that are known by their arguments, their user and the
/// time of their start, never by a number alone.
pub(crate) fn kill_stages(place: &Place) -> Vec<String> {
    let killed = StageProcess::of(place).into_iter().filter(StageProcess::kill);
    killed.map(|stage| format!("killed process {}, which did not answer", stage.pid())).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What became of a request to stop.
enum Asked {
    /// The machine ended like this.
    Ended(String),
    /// The supervisor is gone.
    Gone,
    /// The supervisor says nothing, or takes longer than it said.
    Silent,
}

/// Asks the supervisor and listens until it is gone.
fn ask_supervisor(
    record: &Record,
    patience: Patience,
    environment: &Environment,
    on: &mut dyn FnMut(&Event),
) -> Result<Asked, Error> {
    let (patience, hurry) = match patience {
        Patience::Usual(patience) => (patience, false),
        Patience::AtMost(patience) => (patience, true),
    };
    let (patience, quit) = (scaled(patience, environment), scaled(QUIT, environment));
    let request = Request::Stop { patience_ms: millis(patience), quit_ms: millis(quit), hurry };
    end(record, &request, scaled(ANSWER, environment), scaled(REST, environment), on)
}

/// Asks for the end of a machine and listens until it has come. A supervisor answers at once, and says how long the
/// rest may take.
fn end(
    record: &Record,
    request: &Request,
    answer: Duration,
    rest: Duration,
    on: &mut dyn FnMut(&Event),
) -> Result<Asked, Error> {
    let begun = Session::open(record, answer).and_then(|mut session| {
        match session.subscribe(answer) {
            // Then the end of the connection says as much.
            Ok(()) | Err(control::Error::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        let Within { within_ms } = session.request(request, answer)?;
        Ok((session, within_ms))
    });
    let (mut session, within_ms) = match begun {
        Ok(begun) => begun,
        Err(control::Error::Gone) => return Ok(Asked::Gone),
        Err(control::Error::Silent) => return Ok(Asked::Silent),
        // What another civm runs, and answers, is not killed.
        Err(source) => return Err(Error::Control { host: record.name.clone(), source }),
    };
    on(&Event::Stopping { reason: "as asked".to_owned(), within_ms });
    let until = Instant::now() + Duration::from_millis(within_ms) + rest;
    loop {
        match session.next_event(until.saturating_duration_since(Instant::now())) {
            Ok(Event::Stopping { .. }) => {}
            Ok(event) => {
                on(&event);
                if let Event::Ended { reason, .. } = event {
                    return Ok(Asked::Ended(reason));
                }
            }
            Err(control::Error::Silent) if Instant::now() < until => {}
            // A supervisor that takes longer than it said is hung.
            Err(control::Error::Silent) => return Ok(Asked::Silent),
            Err(_) => return Ok(Asked::Gone),
        }
    }
}

/// Ends an instance at once, without asking the guest.
pub(crate) fn kill(record: &Record) {
    let _ = end(record, &Request::Kill, REST, REST, &mut |_| {});
}

/// How a running machine is.
///
/// # Errors
/// Its supervisor does not say.
pub fn status(record: &Record, environment: &Environment) -> Result<Status, control::Error> {
    let patience = scaled(HEALTH, environment);
    Session::open(record, patience)?.status(patience)
}

/// The same, as far as its supervisor and QEMU answer.
#[must_use]
pub fn health(record: &Record, environment: &Environment) -> Health {
    status(record, environment).map_or(Health::Frozen, |status| status.health)
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

/// QEMU's process, as the record said when the stop began, and as it says now.
fn processes(place: &Place, record: Option<&Record>) -> impl Iterator<Item = Process> {
    let now = place.record().and_then(|record| record.qemu);
    let before = record.and_then(|record| record.qemu).filter(|before| Some(*before) != now);
    before.into_iter().chain(now).filter(|qemu| qemu.runs(&place.name))
}

/// What is left of an instance, as text for the user.
fn remains(place: &Place, record: Option<&Record>) -> Vec<String> {
    let mut left = Vec::new();
    if place.is_alive() {
        let holder = [place.lock(), place.supervisor_lock()].iter().find_map(|lock| holder(lock));
        let holder = holder.map(|pid| format!(" by process {pid}")).unwrap_or_default();
        left.push(format!("{} is still held{holder}", place.lock().display()));
    }
    let living = processes(place, record).filter(|qemu| qemu.is_alive());
    left.extend(living.map(|qemu| format!("QEMU still runs as process {}", qemu.pid)));
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
    use super::{Patience, down};
    use crate::edge::environment::Environment;
    use crate::instance::error::Error;
    use crate::instance::state::{Home, Phase, Record, try_lock};
    use std::time::Duration;

    #[test]
    fn what_never_ran_is_not_stopped_and_remains_are_cleaned() {
        let directory = tempfile::tempdir().unwrap();
        let environment = Environment::empty().with("XDG_STATE_HOME", directory.path());
        let home = Home::find(&environment).unwrap();
        let place = home.project(directory.path()).unwrap().place("a").unwrap();
        let stop = || down(&place, Patience::Usual(Duration::ZERO), &environment, &mut |_| {});
        assert!(matches!(stop(), Err(Error::NotRunning(_))));
        let runtime = place.path.join("run");
        std::fs::create_dir(&runtime).unwrap();
        let mut record = Record::new(&place, "a", 0);
        (record.phase, record.runtime) = (Phase::Ready, Some(runtime.clone()));
        record.save(&place.path).unwrap();
        assert_eq!(stop().unwrap().cleaned, [format!("removed {}", runtime.display())]);
        assert!(matches!(stop(), Err(Error::NotRunning(_))));
    }

    #[test]
    fn a_record_of_another_civm_is_named_and_nothing_is_touched() {
        let directory = tempfile::tempdir().unwrap();
        let environment = Environment::empty().with("XDG_STATE_HOME", directory.path());
        let place = Home::find(&environment).unwrap().project(directory.path()).unwrap().place("a").unwrap();
        let runtime = place.path.join("run");
        std::fs::create_dir(&runtime).unwrap();
        let file = place.path.join("instance.json");
        for (text, who) in
            [(r#"{"version": 99, "phase": "ready"}"#, "newer"), ("{}", "older"), ("{", "damaged")]
        {
            std::fs::write(&file, text).unwrap();
            for held in [true, false] {
                let _lock = held.then(|| try_lock(&place.lock()).unwrap().unwrap());
                let error = down(&place, Patience::AtMost(Duration::ZERO), &environment, &mut |_| {});
                assert!(
                    matches!(&error, Err(Error::Record { reason, .. }) if reason.contains(who)),
                    "{error:?}"
                );
            }
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
            assert!(runtime.exists());
        }
    }
}

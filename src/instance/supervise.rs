//! The caller's view of an instance that it started.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use crate::edge::environment::Environment;
use crate::instance::deadline::scaled;
use crate::instance::error::Error;
use crate::instance::event::Event;
use crate::instance::plan::{DETACH, READY};
use crate::instance::state::{Phase, Place};
use crate::instance::{ssh, stop, wire};
use crate::vm::agent;
use crate::vm::ports::Forward;

/// Events that wait for a caller that is busy elsewhere; further ones wait in the stage, as far as it keeps them.
const WAITING: usize = 256;
/// How long a keeper may take to clean up once its supervisor is gone.
const CLEANING: Duration = Duration::from_secs(10);
/// How long the first attempt to log in may take: of a guest that has said that it is ready, and of one that may not have a
/// network yet, where a connection of QEMU's leads nowhere. Without KVM a login costs seconds, and many at once a minute.
const READY_ATTEMPT: Duration = Duration::from_secs(60);
const ATTEMPT: Duration = Duration::from_secs(15);

/// The events of a stage, read by a thread.
#[derive(Debug)]
pub(crate) struct Stream {
    keeper: Child,
    events: Receiver<Event>,
}

impl Stream {
    pub(crate) fn read(mut keeper: Child) -> Result<Self, Error> {
        let stdout = keeper.stdout.take().ok_or_else(|| Error::Stage("it has no output".to_owned()))?;
        let (send, events) = sync_channel(WAITING);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // What a stage of ours says is an event, unless it broke off in its middle.
                if let Some(event) = wire::event(line.as_bytes())
                    && send.send(event).is_err()
                {
                    return;
                }
            }
        });
        Ok(Self { keeper, events })
    }

    /// The next event; `None` when none comes in time, or never again.
    pub(crate) fn next(&mut self, patience: Duration) -> Option<Event> {
        self.events.recv_timeout(patience).ok()
    }

    /// Waits for the keeper's end, for a while.
    pub(crate) fn finish(&mut self) -> bool {
        let until = Instant::now() + CLEANING;
        while Instant::now() < until {
            match self.keeper.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Ok(Some(_)) | Err(_) => return true,
            }
        }
        false
    }
}

/// An instance that this process started and holds.
#[derive(Debug)]
pub struct Running {
    stream: Stream,
    lifeline: UnixStream,
    place: Place,
    forwards: Vec<Forward>,
    environment: Environment,
}

impl Running {
    pub(crate) fn new(
        stream: Stream,
        lifeline: UnixStream,
        place: Place,
        forwards: Vec<Forward>,
        environment: &Environment,
    ) -> Self {
        Self { stream, lifeline, place, forwards, environment: environment.clone() }
    }

    /// The forwards, with the ports that were chosen.
    #[must_use]
    pub fn forwards(&self) -> &[Forward] {
        &self.forwards
    }

    /// Waits until the guest says that it is ready and, where `login` is given, one can log in.
    ///
    /// # Errors
    /// The machine ended, the guest failed, or the deadline (times `CIVM_TIMEOUT_SCALE`) passed. The
    /// instance has been stopped then.
    pub fn wait_ready(
        &mut self,
        deadline: Duration,
        login: Option<&ssh::Login>,
        on: &mut dyn FnMut(&Event),
    ) -> Result<(), Error> {
        let deadline = scaled(deadline, &self.environment);
        let until = Instant::now() + deadline;
        let outcome = self.wait_for_report(deadline, until, on).and_then(|()| match login {
            Some(login) => self.wait_for_login(login, READY_ATTEMPT, deadline, until, on),
            None => Ok(()),
        });
        if outcome.is_err() {
            self.end();
        }
        outcome
    }

    /// The same for a guest that need not have an agent: a login alone proves it.
    ///
    /// # Errors
    /// As [`Running::wait_ready`].
    pub fn wait_login(
        &mut self,
        deadline: Duration,
        login: &ssh::Login,
        on: &mut dyn FnMut(&Event),
    ) -> Result<(), Error> {
        let deadline = scaled(deadline, &self.environment);
        let outcome = self.wait_for_login(login, ATTEMPT, deadline, Instant::now() + deadline, on);
        if outcome.is_ok() {
            // It may be over already, which the next command tells.
            let _ = self.lifeline.write_all(&[READY]);
        } else {
            self.end();
        }
        outcome
    }

    fn wait_for_report(
        &mut self,
        deadline: Duration,
        until: Instant,
        on: &mut dyn FnMut(&Event),
    ) -> Result<(), Error> {
        let mut waiting_for = "the guest has not reported anything".to_owned();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event = match self.stream.events.recv_timeout(left) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.not_ready(deadline, waiting_for));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let reason = "the stage was killed".to_owned();
                    return Err(Error::Ended { reason, tail: self.place.tail() });
                }
            };
            on(&event);
            match event {
                Event::Guest { report: agent::Event::Ready { .. } } => return Ok(()),
                Event::Guest { report: agent::Event::Failed { message } } => {
                    return Err(Error::Guest { message, tail: self.place.tail() });
                }
                Event::Guest { report } => waiting_for = last_report(&report),
                Event::Ended { reason, .. } => {
                    let reason = format!("the machine ended before it was ready: {reason}");
                    return Err(Error::Ended { reason, tail: self.place.tail() });
                }
                Event::Panicked { message } => {
                    let reason = format!("the guest's kernel panicked before the guest was ready: {message}");
                    return Err(Error::Ended { reason, tail: self.place.tail() });
                }
                _ => {}
            }
        }
    }

    /// Waits for an event. Where it does not come, the instance has been stopped.
    pub(crate) fn wait_for(
        &mut self,
        deadline: Duration,
        what: &str,
        is_it: impl Fn(&Event) -> bool,
        on: &mut dyn FnMut(&Event),
    ) -> Result<(), Error> {
        let deadline = scaled(deadline, &self.environment);
        let until = Instant::now() + deadline;
        let ended = |reason, place: &Place| Error::Ended { reason, tail: place.tail() };
        let error = loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.stream.events.recv_timeout(left) {
                Ok(event) => {
                    on(&event);
                    match event {
                        event if is_it(&event) => return Ok(()),
                        Event::Ended { reason, .. } => break ended(reason, &self.place),
                        Event::Guest { report: agent::Event::Failed { message } } => {
                            break Error::Guest { message, tail: self.place.tail() };
                        }
                        _ => {}
                    }
                }
                Err(RecvTimeoutError::Timeout) => break self.not_ready(deadline, what.to_owned()),
                Err(RecvTimeoutError::Disconnected) => {
                    break ended("the stage was killed".to_owned(), &self.place);
                }
            }
        };
        self.end();
        Err(error)
    }

    /// Ends it at once.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// A login proves what an open port does not: QEMU itself accepts connections from the start.
    fn wait_for_login(
        &mut self,
        login: &ssh::Login,
        mut attempt: Duration,
        deadline: Duration,
        until: Instant,
        on: &mut dyn FnMut(&Event),
    ) -> Result<(), Error> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let begun = Instant::now();
            let checked = login.check(left.min(attempt), &self.environment);
            attempt = next_attempt(attempt, begun.elapsed());
            self.stream.events.try_iter().for_each(|event| on(&event));
            let Err(failure) = checked else { return Ok(()) };
            let record = self.place.record();
            let over = [Phase::Ended, Phase::Panicked];
            if record.as_ref().is_none_or(|record| over.contains(&record.phase)) {
                let how =
                    record.and_then(|record| record.reason).unwrap_or_else(|| "it was killed".to_owned());
                let reason = format!("the machine ended before anybody could log in: {how}");
                return Err(Error::Ended { reason, tail: self.place.tail() });
            }
            if Instant::now() >= until {
                return Err(self.not_ready(deadline, format!("ssh: {failure}")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The deadline has passed: what had not come, and how the machine is.
    fn not_ready(&self, deadline: Duration, mut waiting_for: String) -> Error {
        if let Some(record) = self.place.record() {
            let accel = record.accel.map_or_else(String::new, |accel| format!(" under {accel}"));
            let health = stop::health(&record, &self.environment);
            waiting_for.push_str(&format!("; the machine{accel} is {health}"));
        }
        Error::NotReady { seconds: deadline.as_secs(), waiting_for, tail: self.place.tail() }
    }

    /// Lets the instance outlive this process.
    ///
    /// # Errors
    /// The stage is gone.
    pub fn detach(mut self) -> Result<(), Error> {
        self.lifeline.write_all(&[DETACH]).map_err(|error| Error::Stage(error.to_string()))
    }

    /// Waits until the instance is over; how it ended, and whether that was wanted, by its guest or by a user.
    pub fn wait_end(mut self, on: &mut dyn FnMut(&Event)) -> (String, bool) {
        let mut last = ("the stage was killed".to_owned(), false);
        while let Ok(event) = self.stream.events.recv() {
            on(&event);
            if let Event::Ended { reason, clean } = event {
                last = (reason, clean);
            }
        }
        self.stream.finish();
        last
    }

    /// Ends the instance at once and waits until nothing is left.
    fn end(&mut self) {
        if let Some(record) = self.place.record() {
            stop::kill(&record);
        }
        if !self.stream.finish() {
            let _ = self.stream.keeper.kill();
            let _ = self.stream.keeper.wait();
        }
        self.place.sweep();
    }
}

/// How long the attempt to log in may take that follows one which took `took` and did not get in. One that is given up is
/// lost work for a guest that has little processor time, and for all that share it: the next may take half as long again.
fn next_attempt(attempt: Duration, took: Duration) -> Duration {
    // ssh counts whole seconds.
    let given_up = took + Duration::from_secs(1) > attempt;
    if given_up { attempt + attempt / 2 } else { attempt }
}

fn last_report(report: &agent::Event) -> String {
    match report {
        agent::Event::Started { .. } => "its initrd started, nothing since".to_owned(),
        agent::Event::Point { .. } => "it reached its share, nothing since".to_owned(),
        agent::Event::Prepared => "it waits at its point".to_owned(),
        agent::Event::KeyTaken => "it took its key, nothing since".to_owned(),
        agent::Event::LayerApplied => "it applied its layer, nothing since".to_owned(),
        agent::Event::SecretsInstalled { .. } => "it installed its secrets, nothing since".to_owned(),
        agent::Event::Warning { message } | agent::Event::Failed { message } => {
            format!("its last message: {message}")
        }
        agent::Event::Waiting { what } => format!("still starting: {what}"),
        agent::Event::Ready { .. } | agent::Event::Answer { .. } => "it is ready".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_is_given_up_leaves_more_time_to_the_next() {
        // Refused at once, as by a guest whose sshd does not run yet.
        assert_eq!(next_attempt(ATTEMPT, Duration::from_millis(20)), ATTEMPT);
        let longer = next_attempt(ATTEMPT, ATTEMPT - Duration::from_millis(300));
        assert_eq!(longer, ATTEMPT * 3 / 2, "ssh ends before the second is full");
        assert_eq!(next_attempt(longer, longer), longer * 3 / 2);
    }
}

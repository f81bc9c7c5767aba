//! A lease, and the machine that is lent under it.

use std::sync::PoisonError;
use std::time::Instant;

use super::inbox::Input;
use super::kept;
use super::lease::Lease;
use super::machine::{self, Machine, Making};
use super::refusal::{End, Refusal};
use super::{Asked, LOOK, Session};
use crate::builder::wire::{FromRemote, Kind, ToRemote};
use crate::host::spec::Require;
use crate::image::sent::Incoming;
use crate::instance::accel::AccelRequest;
use crate::instance::plan::Staged;
use crate::instance::{Home, Place};
use crate::lifecycle;

/// How far the way to a machine has come.
struct Way {
    lease: Lease,
    place: Place,
    staged: Option<Vec<Staged>>,
    has_image: bool,
    /// Per cent of the image that have come.
    received: u64,
    start: bool,
    machine: Option<Machine>,
}

impl Session<'_> {
    /// Lends a machine until it is over; says why it is, and what is left.
    pub(super) fn lend(&self, home: &Home, asked: Asked) -> (String, Vec<String>) {
        let _used = kept::in_use();
        let begun = Lease::take(home, &asked.owner).map_err(|error| {
            let message = format!("cannot make a lease in {}: {error}", home.path().display());
            Refusal::of_io(&error, message)
        });
        let begun = begun.and_then(|lease| match lease.place() {
            Ok(place) => Ok((lease, place)),
            Err(error) => Err(Refusal::of(&error.into())),
        });
        let (lease, place) = match begun {
            Ok(begun) => begun,
            Err(refusal) => return self.tell(refusal.into()),
        };
        // What is missing for a build was refused, unless there is an image to be sent.
        if let Some(id) = asked.image.clone().filter(|_| asked.is_sent) {
            self.begin_to_receive(id);
        }
        let has_image = !asked.is_sent;
        let mut way = Way { lease, place, staged: None, has_image, received: 0, start: false, machine: None };
        let (end, now) = self.walk(home, &asked, &mut way);
        let (reason, mut left) = self.tell(end);
        let Way { lease, machine, .. } = way;
        if let Some(machine) = machine {
            left.extend(self.stop(machine, now));
        }
        // One that does not end keeps its lease, which the next civm that serves finds without a holder.
        if left.is_empty() {
            left.extend(lease.remove());
        }
        (reason, left)
    }

    /// Goes the way to a machine and along with it; says why it ends, and whether at once.
    fn walk(&self, home: &Home, asked: &Asked, way: &mut Way) -> (End, bool) {
        loop {
            let step = match self.next() {
                Input::Said(ToRemote::Stop { now }) => return (End::Over("as asked".to_owned()), now),
                Input::Lost(reason) => return (End::Over(reason), true),
                input => self.step(input, way),
            };
            if let Err(refusal) = step {
                return (refusal.into(), true);
            }
            if way.start && way.has_image && way.machine.is_none() {
                way.machine = Some(self.begin(home, asked, way));
            }
        }
    }

    fn step(&self, input: Input, way: &mut Way) -> Result<(), Refusal> {
        match input {
            Input::Said(ToRemote::Ping { n }) => match &way.machine {
                Some(machine) => machine.ping(n),
                None => self.outbox.say(FromRemote::Pong(machine::idle(&way.place, n))),
            },
            Input::Entries(files) if !way.start => way.staged = Some(files),
            Input::Entries(_) => return Err(Refusal::protocol("files of a machine that is started already")),
            Input::Said(ToRemote::Start) if way.staged.is_some() => way.start = true,
            Input::Said(ToRemote::Start) => {
                return Err(Refusal::protocol(if way.start {
                    "a second start"
                } else {
                    "a start without files"
                }));
            }
            Input::Receiving(Ok(Some(incoming))) => {
                *self.receiving.lock().unwrap_or_else(PoisonError::into_inner) = Some(incoming);
                self.outbox.say(FromRemote::NeedImage);
            }
            Input::Receiving(Ok(None)) | Input::ImageWhole => way.has_image = true,
            Input::Receiving(Err(error)) => return Err(Refusal::of(&error.into())),
            Input::ImagePart(done, total) => {
                let percent = done.saturating_mul(100) / total.max(1);
                if percent != way.received {
                    way.received = percent;
                    let phase = "receiving the image".to_owned();
                    self.outbox.say(FromRemote::Progress { phase, done: Some(done), total: Some(total) });
                }
            }
            Input::Machine(machine::Event::Started(port)) => {
                if let Err(error) = way.lease.note_port(port) {
                    self.outbox.say(FromRemote::Warning { message: error.to_string() });
                }
            }
            Input::Machine(machine::Event::Failed(refusal)) => return Err(refusal),
            Input::Machine(machine::Event::Ended(reason)) => {
                return Err(Refusal::new(Kind::Ended, format!("the machine ended: {reason}")));
            }
            Input::Refused(kind, message) => return Err(Refusal::new(kind, message)),
            Input::Said(ToRemote::Hello { .. }) => return Err(Refusal::protocol("a second `hello`")),
            Input::Said(ToRemote::Purge { .. }) => {
                return Err(Refusal::protocol("a purge of a machine's own connection"));
            }
            Input::Said(_) | Input::Lost(_) | Input::Stopped(_) => {}
        }
        Ok(())
    }

    fn begin(&self, home: &Home, asked: &Asked, way: &mut Way) -> Machine {
        let making = Making {
            home: home.clone(),
            place: way.place.clone(),
            order: asked.order.clone(),
            image: asked.image.clone(),
            accel: match asked.require {
                Require::Kvm => AccelRequest::Kvm,
                Require::Any => AccelRequest::Auto,
            },
            staged: way.staged.take().unwrap_or_default(),
            environment: self.environment.clone(),
        };
        Machine::begin(making, &self.outbox, &self.to)
    }

    /// Ends a machine; says what is left of it. A keeper that is gone, or is in a hurry, gives its guest no time.
    fn stop(&self, machine: Machine, now: bool) -> Vec<String> {
        let ending = machine.end(now, &self.to);
        let (until, mut hurried) = (Instant::now() + ending.patience, now);
        loop {
            let hurry = match self.inbox.recv_timeout(LOOK) {
                Ok(Input::Stopped(left)) => return left,
                Ok(Input::Said(ToRemote::Ping { n })) => {
                    ending.ping(n);
                    false
                }
                Ok(Input::Said(ToRemote::Stop { now })) => now,
                Ok(Input::Lost(_) | Input::Refused(..)) => true,
                _ => self.lost().is_some(),
            };
            if hurry && !hurried {
                hurried = true;
                ending.hurry();
            }
            if Instant::now() >= until {
                return vec!["the machine does not end".to_owned()];
            }
        }
    }

    /// Waits until nobody else makes the image, by a thread of its own.
    fn begin_to_receive(&self, id: String) {
        let (to, outbox, environment) = (self.to.clone(), self.outbox.clone(), self.environment.clone());
        std::thread::spawn(move || {
            let cache = lifecycle::image_cache(&environment).unwrap_or_default();
            let begun = Incoming::begin(&id, &cache, &environment, &mut |_| {
                let phase = "waiting for another civm that makes the same image".to_owned();
                outbox.say(FromRemote::Progress { phase, done: None, total: None });
            });
            let _ = to.send(Input::Receiving(begun));
        });
    }
}

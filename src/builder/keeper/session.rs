//! One attempt at a builder, in a thread of its own: from the first login until nothing of it is left here.

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use rand::RngCore as _;

use super::Message;
use super::gates::Gates;
use super::reason::{Kind, Reason};
use super::state::{Ending, Event};
use crate::builder::identity::Identity;
use crate::builder::link::{Link, Target, Waker};
use crate::builder::parcels::Loaded;
use crate::builder::place::Place;
use crate::builder::publish::Learned;
use crate::builder::push::Binaries;
use crate::builder::ssh::Access;
use crate::builder::ssh::child::Cut;
use crate::builder::wire::{self, Facts, Owner, Pong, ToRemote};
use crate::edge::environment::Environment;
use crate::host::spec::Require;
use crate::image::sent;
use crate::lifecycle;

mod talk;

use talk::Talk;

/// What all sessions of a keeper share.
pub struct Shared {
    /// Where its files are.
    pub place: Place,
    /// Its keys.
    pub identity: Identity,
    /// What can be pushed.
    pub binaries: Binaries,
    /// Who has to wait.
    pub gates: Gates,
    /// The variables of this run.
    pub environment: Environment,
    /// Who it is; the builder's name is added.
    pub owner: Owner,
}

/// What a session is told from outside.
#[derive(Default)]
pub struct Orders {
    stop: AtomicBool,
    /// Whether the remote was told to start the machine: from then on it must be told to end it.
    started: AtomicBool,
    /// Cuts its connections.
    pub cut: Cut,
    waker: Mutex<Option<Waker>>,
}

impl Orders {
    /// The builder is to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        if !self.started.load(Ordering::SeqCst) {
            self.cut.now();
        }
        self.wake();
    }

    /// The connection is to end, and the builder with it.
    pub fn cut(&self) {
        self.cut.now();
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake();
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// What a session says to its keeper.
pub enum Said {
    /// Something that its state depends on.
    Event(Event),
    /// What the remote is.
    Facts(Box<Facts>),
    /// How connections come to the machine's sshd.
    Way(Way),
    /// What executes the machine.
    Started {
        /// What executes it.
        accel: String,
        /// Why.
        reason: String,
    },
    /// What the builder says of itself.
    Learned(Learned),
    /// How it is.
    Pong(Pong),
    /// What it does just now.
    Doing(String),
    /// What its user should know.
    Warning(String),
}

/// How connections come to a builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The arguments of the ssh that leads there.
    pub arguments: Vec<OsString>,
    /// How many may go it at once, where there is a limit.
    pub most: Option<u32>,
}

/// A session to be.
pub struct Session {
    /// The builder.
    pub loaded: Arc<Loaded>,
    /// Its number.
    pub id: u64,
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// What it is told.
    pub orders: Arc<Orders>,
    /// Where its keeper listens.
    pub keeper: SyncSender<Message>,
    /// The way to the remote.
    pub access: Access,
}

/// Says that the session has ended, whatever became of its thread.
struct Last<'a> {
    session: &'a Session,
    ending: Ending,
}

impl Drop for Last<'_> {
    fn drop(&mut self) {
        let ending = std::mem::replace(&mut self.ending, Ending::Gone);
        let chance = rand::rngs::OsRng.next_u32();
        self.session.say(Said::Event(Event::Ended { ending, chance }));
    }
}

impl Session {
    fn say(&self, said: Said) {
        let builder = self.loaded.name().to_owned();
        // A keeper that does not listen any more has ended.
        let _ = self.keeper.send(Message::Session { builder, id: self.id, said });
    }

    fn doing(&self, what: impl Into<String>) {
        self.say(Said::Doing(what.into()));
    }

    /// All of it.
    pub fn run(self) {
        let crashed = Reason::new(Kind::Local, "its thread in the keeper ended unexpectedly");
        let mut last = Last { session: &self, ending: Ending::Broken(crashed) };
        last.ending = match self.attempt() {
            Ok(()) => Ending::Gone,
            Err(_) if self.orders.is_stopped() && !self.orders.started.load(Ordering::SeqCst) => Ending::Gone,
            Err(reason) => {
                if self.orders.is_stopped() {
                    // The remote ends it by itself, as soon as it sees that nobody is there any more.
                    self.say(Said::Warning(format!(
                        "the remote has not confirmed that it is gone: {reason}"
                    )));
                }
                Ending::Broken(reason)
            }
        };
        *self.orders.waker.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.access.forget();
    }

    /// The image of the builder, where it is in this machine's cache: a remote that has none and cannot build it gets
    /// it. What is particular to this machine's civm is made there anew.
    fn image(&self) -> Option<String> {
        let environment = &self.shared.environment;
        let id = lifecycle::image_id(&self.loaded.parcel.machine, environment).ok()?;
        let cache = lifecycle::image_cache(environment)?;
        sent::files(&id, &cache, environment).ok().map(|_| id)
    }

    fn attempt(&self) -> Result<(), Reason> {
        let shared = &*self.shared;
        let builder = &self.loaded.parcel.builder;
        let local = |message: String| Reason::new(Kind::Local, message);
        let client = self.loaded.key().map_err(local)?;
        let host = shared.identity.host(self.loaded.name()).map_err(local)?;
        let staged =
            self.loaded.staged(&host, client.as_ref().unwrap_or(&shared.identity.client)).map_err(local)?;
        let give_up = || self.orders.is_stopped() || self.orders.cut.is_done();
        self.doing(format!("connecting to {}", builder.on));
        let gate = shared.gates.handshake(&builder.on.host, builder.on.port);
        let Some(permit) = gate.pass(&give_up) else { return Ok(()) };
        let target = Target {
            access: &self.access,
            arch: self.loaded.parcel.machine.arch,
            emulates: builder.require == Require::Any,
            run_with: &builder.run_with,
            binaries: &shared.binaries,
            environment: &shared.environment,
            cut: &self.orders.cut,
        };
        let image = self.image();
        let mut link = Link::open(&target, &mut |what| self.doing(what))?;
        drop(permit);
        *self.orders.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(link.waker());
        link.say(&ToRemote::Hello {
            protocol: wire::PROTOCOL,
            civm: env!("CARGO_PKG_VERSION").to_owned(),
            owner: Owner { builder: self.loaded.name().to_owned(), ..shared.owner.clone() },
            ttl_ms: u64::try_from(builder.ttl.as_millis()).unwrap_or(u64::MAX),
            order: Some(self.loaded.parcel.machine.clone()),
            require: builder.require,
            image: image.clone(),
        })?;
        let ended = Talk::new(self, &mut link, image).run(staged, &host);
        link.close();
        ended
    }
}

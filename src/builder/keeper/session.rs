//! One attempt at a builder, in a thread of its own: from the first login until nothing of it is left here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::RngCore as _;

use super::Message;
use super::gates::{Gates, Permit};
use super::ready::Check;
use super::reason::{Kind, Reason};
use super::state::{Ending, Event};
use crate::builder::identity::{Identity, Pair};
use crate::builder::link::{Link, Target, Waker};
use crate::builder::parcels::Loaded;
use crate::builder::place::Place;
use crate::builder::publish::Learned;
use crate::builder::push::Binaries;
use crate::builder::ssh::Access;
use crate::builder::ssh::child::Cut;
use crate::builder::wire::{self, Facts, FromRemote, ImageState, Owner, PING_MS, Pong, ToRemote};
use crate::edge::environment::Environment;
use crate::instance::deadline::scaled;

/// How often a session looks whether it may go on while it waits for somebody else.
const LOOK: Duration = Duration::from_millis(250);
/// How long QEMU or the guest may be silent, while the remote itself answers.
const SICK: Duration = Duration::from_secs(60);

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
    /// What executes the machine, and the port of the remote's loopback that leads to its sshd.
    Started {
        /// The port.
        port: u16,
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
    pub keeper: Sender<Message>,
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
                    self.say(Said::Warning(format!("it was not said that it is gone: {reason}")));
                }
                Ending::Broken(reason)
            }
        };
        *self.orders.waker.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.access.forget();
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
            run_with: &builder.run_with,
            binaries: &shared.binaries,
            environment: &shared.environment,
            cut: &self.orders.cut,
        };
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
            image: None,
        })?;
        let talk = Talk {
            session: self,
            link: &mut link,
            heard: Instant::now(),
            pinged: Instant::now(),
            pings: 0,
            told: false,
            image: None,
            waits: false,
            check: None,
            well: Instant::now(),
            ready: false,
        };
        let ended = talk.run(staged, &host);
        link.close();
        ended
    }
}

/// The conversation with a remote.
struct Talk<'a> {
    session: &'a Session,
    link: &'a mut Link,
    /// When it last said anything.
    heard: Instant,
    pinged: Instant,
    pings: u64,
    /// Whether it was told to stop.
    told: bool,
    /// The right to have an image built.
    image: Option<Permit>,
    /// Whether the start waits for it.
    waits: bool,
    /// The login that proves that the builder is ready.
    check: Option<Check>,
    /// When QEMU and the guest were last well.
    well: Instant,
    ready: bool,
}

impl Talk<'_> {
    fn run(mut self, staged: Vec<crate::instance::plan::Staged>, host: &Pair) -> Result<(), Reason> {
        let mut staged = Some(staged);
        loop {
            self.follow_orders()?;
            self.ping()?;
            if self.waits && !self.told {
                self.image = self.session.shared.gates.images.try_pass();
                if self.image.is_some() {
                    self.start()?;
                }
            }
            if self.check.is_some() && self.link.forwards_nothing() {
                let on = &self.session.loaded.parcel.builder.on;
                let message = format!("the sshd of {on} forwards no connections");
                return Err(Reason::new(Kind::Auth, message)
                    .hint("set `AllowTcpForwarding yes` (or `local`) in its sshd_config"));
            }
            if let Some(learned) = self.check.as_mut().and_then(Check::result) {
                self.check = None;
                self.proved(learned?);
            }
            let Some(message) = self.link.hear(self.look())? else { continue };
            self.heard = Instant::now();
            if self.take(message, &mut staged, host)? {
                return Ok(());
            }
        }
    }

    /// Until when the next message is waited for.
    fn look(&self) -> Instant {
        let ping = self.pinged + Duration::from_millis(PING_MS);
        if self.waits || self.check.is_some() { ping.min(Instant::now() + LOOK) } else { ping }
    }

    fn follow_orders(&mut self) -> Result<(), Reason> {
        if self.session.orders.cut.is_done() {
            return Err(Reason::new(Kind::Stopped, "the connection was cut"));
        }
        if self.session.orders.is_stopped() && !self.told {
            self.told = true;
            self.check = None;
            self.session.doing("ending it");
            // What it has on its disk is nobody's: there is nothing to be put in order first.
            self.link.say(&ToRemote::Stop { now: true })?;
        }
        Ok(())
    }

    fn ping(&mut self) -> Result<(), Reason> {
        let now = Instant::now();
        let on = &self.session.loaded.parcel.builder.on;
        let ttl = scaled(self.session.loaded.parcel.builder.ttl, &self.session.shared.environment);
        if now.duration_since(self.heard) >= ttl {
            return Err(Reason::new(Kind::Network, format!("{on} has said nothing for {} s", ttl.as_secs())));
        }
        if self.ready && now.duration_since(self.well) >= scaled(SICK, &self.session.shared.environment) {
            return Err(Reason::new(
                Kind::Remote(wire::Kind::Ended),
                format!("the machine on {on} does not answer any more"),
            ));
        }
        if now.duration_since(self.pinged) >= Duration::from_millis(PING_MS) {
            self.pinged = now;
            self.pings += 1;
            self.link.say(&ToRemote::Ping { n: self.pings })?;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), Reason> {
        self.waits = false;
        self.session.orders.started.store(true, Ordering::SeqCst);
        self.link.say(&ToRemote::Start)
    }

    fn proved(&mut self, learned: Learned) {
        let builder = &self.session.loaded.parcel.builder;
        if learned.trusted == Some(false) {
            self.session.say(Said::Warning(format!(
                "nix in the builder does not trust `{}`: add it to `nix.trusted_users` of host `{}`",
                builder.user, builder.host
            )));
        }
        self.session.say(Said::Learned(learned));
        self.session.doing("ready");
        self.ready = true;
        self.well = Instant::now();
        self.session.say(Said::Event(Event::Ready));
    }

    /// True at the end.
    fn take(
        &mut self,
        message: FromRemote,
        staged: &mut Option<Vec<crate::instance::plan::Staged>>,
        host: &Pair,
    ) -> Result<bool, Reason> {
        let on = &self.session.loaded.parcel.builder.on;
        match message {
            FromRemote::Facts(facts) => {
                let Some(staged) = staged.take() else { return Ok(false) };
                self.facts(facts, &staged)?;
            }
            FromRemote::NeedImage => {
                let message = format!("{on} has no image for this builder, and cannot build one");
                return Err(Reason::new(Kind::Remote(wire::Kind::Image), message)
                    .hint("install mmdebstrap there, or let `run_with` provide it"));
            }
            FromRemote::Progress { phase, done, total } => {
                let part = match (done, total) {
                    (Some(done), Some(total)) if total > 0 => {
                        format!(", {} %", done.saturating_mul(100) / total)
                    }
                    _ => String::new(),
                };
                self.session.doing(format!("{phase}{part}"));
            }
            FromRemote::Started { port, accel, reason } => {
                self.image = None;
                self.session.say(Said::Started { port, accel: accel.to_string(), reason });
                self.session.doing("booting");
                self.session.say(Said::Event(Event::Started));
                self.check = Some(Check::new(self.session, port, host));
            }
            FromRemote::Ready => {
                self.session.doing("logging in");
                if let Some(check) = &mut self.check {
                    check.begin()?;
                }
            }
            FromRemote::Pong(pong) => {
                if pong.qemu && pong.agent {
                    self.well = Instant::now();
                }
                self.session.say(Said::Pong(pong));
            }
            FromRemote::Warning { message } => self.session.say(Said::Warning(message)),
            FromRemote::Failed { kind, message, hint } => {
                let reason = Reason::new(Kind::Remote(kind), format!("{on}: {message}"));
                return Err(Reason { hint, ..reason });
            }
            FromRemote::Gone { reason, left } => {
                if !left.is_empty() {
                    let left = left.join(", ");
                    self.session.say(Said::Warning(format!("{on} could not remove {left}")));
                }
                if self.told {
                    return Ok(true);
                }
                return Err(Reason::new(Kind::Remote(wire::Kind::Ended), format!("{on} ended it: {reason}")));
            }
            FromRemote::Purged { .. } | FromRemote::Unknown => {}
        }
        Ok(false)
    }

    fn facts(&mut self, facts: Facts, staged: &[crate::instance::plan::Staged]) -> Result<(), Reason> {
        let on = &self.session.loaded.parcel.builder.on;
        if let Some(first) = facts.missing.first() {
            let what: Vec<&str> = facts.missing.iter().map(|missing| missing.what.as_str()).collect();
            let mut remedies: Vec<&str> =
                facts.missing.iter().map(|missing| missing.remedy.as_str()).collect();
            remedies.retain(|remedy| !remedy.is_empty());
            remedies.dedup();
            let message = format!("{on} ({}) lacks: {}", facts.os, what.join("; "));
            return Err(Reason::new(Kind::Remote(first.kind), message).hint(remedies.join("\n")));
        }
        let image = facts.image;
        self.session.say(Said::Facts(Box::new(facts)));
        self.session.say(Said::Event(Event::Reached));
        self.link.say(&ToRemote::Entries)?;
        self.link.say_files(staged)?;
        // Images are built a few at a time: they come over the same network, and from the same archive.
        self.waits = image == ImageState::Buildable;
        if self.waits {
            self.session.doing("waiting for the turn to build its image");
            return Ok(());
        }
        self.start()
    }
}

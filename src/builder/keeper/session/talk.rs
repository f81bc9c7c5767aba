//! The conversation with a remote.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Said, Session, Way};
use crate::builder::identity::Pair;
use crate::builder::keeper::gates::Permit;
use crate::builder::keeper::ready::Check;
use crate::builder::keeper::reason::{Kind, Reason};
use crate::builder::keeper::state::Event;
use crate::builder::link::Link;
use crate::builder::publish::Learned;
use crate::builder::wire::{self, Facts, FromRemote, ImageState, PING_MS, Pong, ToRemote};
use crate::image::sent;
use crate::instance::deadline::scaled;
use crate::instance::plan::Staged;
use crate::lifecycle;

/// How often a session looks whether it may go on while it waits for somebody else.
const LOOK: Duration = Duration::from_millis(250);
/// Without a good answer for three pings nix is told of other builders.
const UNWELL: Duration = Duration::from_millis(3 * PING_MS);
/// How long QEMU or the guest may be silent, while the remote itself answers.
const SICK: Duration = Duration::from_secs(60);
/// Connections at once where each takes a session. sshd's `MaxSessions` is 10 where nobody says otherwise: one is that
/// of the civm there, and one is left for the keeper.
const SESSIONS: u32 = 8;

/// With less than this on the remote, in MiB, writes of the guest fail, and not all of them are told to who writes.
const DISK_LEFT_MIB: u64 = 16;

/// The conversation with a remote.
pub(super) struct Talk<'a> {
    session: &'a Session,
    link: &'a mut Link,
    /// When it last said anything.
    heard: Instant,
    pinged: Instant,
    pings: u64,
    /// Whether it was told to stop.
    told: bool,
    /// The right to have an image built.
    permit: Option<Permit>,
    /// The image that can be sent.
    image: Option<String>,
    /// Whether the start waits for it.
    waits: bool,
    /// The login that proves that the builder is ready.
    check: Option<Check>,
    /// Whether each connection takes a session of its own.
    sessions: bool,
    /// When QEMU and the guest were last well.
    well: Instant,
    /// Whether it was told that they are not.
    unwell: bool,
    ready: bool,
}

impl<'a> Talk<'a> {
    pub(super) fn new(session: &'a Session, link: &'a mut Link, image: Option<String>) -> Self {
        let now = Instant::now();
        Self {
            session,
            link,
            heard: now,
            pinged: now,
            pings: 0,
            told: false,
            permit: None,
            image,
            waits: false,
            check: None,
            sessions: false,
            well: now,
            unwell: false,
            ready: false,
        }
    }

    /// Until the builder is gone.
    pub(super) fn run(mut self, staged: Vec<Staged>, host: &Pair) -> Result<(), Reason> {
        let mut staged = Some(staged);
        loop {
            self.follow_orders()?;
            self.ping()?;
            self.tell_health();
            if self.waits && !self.told {
                self.permit = self.session.shared.gates.images.try_pass();
                if self.permit.is_some() {
                    self.start()?;
                }
            }
            if self.check.is_some() && !self.sessions && self.link.forwards_nothing() {
                self.take_sessions(host)?;
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

    /// Says when the machine does not answer any more, and when it does again.
    fn tell_health(&mut self) {
        // One that is to end says nothing of itself any more.
        if !self.ready || self.told {
            return;
        }
        let unwell = self.well.elapsed() >= scaled(UNWELL, &self.session.shared.environment);
        if unwell != self.unwell {
            self.unwell = unwell;
            self.session.doing(if unwell { "its machine does not answer" } else { "ready" });
            self.session.say(Said::Event(if unwell { Event::Unwell } else { Event::Well }));
        }
    }

    /// A guest whose writes fail builds nothing more, or builds what is damaged. A new one begins with an empty disk.
    fn full(&self, pong: &Pong) -> Reason {
        let builder = &self.session.loaded.parcel.builder;
        let free = pong.remote_disk_free_mib.map(|free| format!(": {free} MiB are free on {}", builder.on));
        let message = format!("nothing can be written to its disk any more{}", free.unwrap_or_default());
        Reason::new(Kind::Remote(wire::Kind::Ended), message).hint(format!(
            "make room for what `disk` in hosts/{}/host.yaml says, or let it say less",
            builder.host
        ))
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
        staged: &mut Option<Vec<Staged>>,
        host: &Pair,
    ) -> Result<bool, Reason> {
        let on = &self.session.loaded.parcel.builder.on;
        match message {
            FromRemote::Facts(facts) => {
                let Some(staged) = staged.take() else { return Ok(false) };
                self.facts(facts, &staged)?;
            }
            FromRemote::NeedImage => self.send_image()?,
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
                self.permit = None;
                self.session.say(Said::Started { accel: accel.to_string(), reason });
                self.session.doing("booting");
                self.session.say(Said::Event(Event::Started));
                let arguments = self.session.access.forward(port);
                self.check = Some(Check::new(self.session, &arguments, host));
                self.session.say(Said::Way(Way { arguments, most: None }));
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
                let no_room = pong.remote_disk_free_mib.is_some_and(|free| free < DISK_LEFT_MIB);
                let broken = (pong.disk_read_only || no_room).then(|| self.full(&pong));
                self.session.say(Said::Pong(pong));
                if let Some(reason) = broken {
                    return Err(reason);
                }
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
                return Err(Reason::new(
                    Kind::Remote(wire::Kind::Ended),
                    format!("{on} ended the builder: {reason}"),
                ));
            }
            FromRemote::Purged { .. } | FromRemote::Unknown => {}
        }
        Ok(false)
    }

    /// The remote's sshd forwards no connections: the civm there does.
    fn take_sessions(&mut self, host: &Pair) -> Result<(), Reason> {
        self.sessions = true;
        let keeper = &self.session.shared.owner.keeper;
        let arguments = self.link.dial(keeper, self.session.loaded.name());
        let mut check = Check::new(self.session, &arguments, host);
        check.begin()?;
        self.check = Some(check);
        self.session.say(Said::Way(Way { arguments, most: Some(SESSIONS) }));
        Ok(())
    }

    /// Sends the image, file by file. Where the builder is to stop meanwhile, the connection is cut: that ends it as well.
    fn send_image(&mut self) -> Result<(), Reason> {
        let on = self.session.loaded.parcel.builder.on.to_string();
        let Some(id) = self.image.clone() else {
            let message = format!("{on} has no image for this builder, and cannot build one");
            return Err(Reason::new(Kind::Remote(wire::Kind::Image), message)
                .hint("install mmdebstrap there, or let `run_with` provide it"));
        };
        let environment = &self.session.shared.environment;
        let local = |error: String| Reason::new(Kind::Local, format!("the image {id}: {error}"));
        let cache = lifecycle::image_cache(environment).unwrap_or_default();
        let files = sent::files(&id, &cache, environment).map_err(|error| local(error.to_string()))?;
        let count = files.len();
        for (index, (name, path)) in files.into_iter().enumerate() {
            if self.session.orders.is_stopped() || self.session.orders.cut.is_done() {
                return Err(Reason::new(Kind::Stopped, "it was stopped while its image was sent"));
            }
            self.session.doing(format!("sending the image, file {} of {count}", index + 1));
            self.link.say_image_file(&name, &path)?;
        }
        self.heard = Instant::now();
        Ok(())
    }

    fn facts(&mut self, facts: Facts, staged: &[Staged]) -> Result<(), Reason> {
        let on = &self.session.loaded.parcel.builder.on;
        if let Some(kind) = wire::Kind::of(&facts.missing) {
            let what: Vec<&str> = facts.missing.iter().map(|missing| missing.what.as_str()).collect();
            let mut remedies: Vec<&str> =
                facts.missing.iter().map(|missing| missing.remedy.as_str()).collect();
            remedies.retain(|remedy| !remedy.is_empty());
            remedies.dedup();
            let message = format!("{on} ({}) lacks: {}", facts.os, what.join("; "));
            return Err(Reason::new(Kind::Remote(kind), message).hint(remedies.join("\n")));
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

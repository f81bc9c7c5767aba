//! The remote side of a builder: one process at the end of an ssh connection, which has a machine for as long as its
//! keeper is there to say so.
//!
//! Everything is over with it: the machine is held by this process, its state lies in a lease that this process has
//! locked. When the pipe ends, cannot be written to or is silent for too long, the machine is ended and its lease
//! removed; where this process is killed, the kernel ends the machine, and the next civm that serves removes the rest.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::wire::{FromRemote, ImageState, Kind, Owner, PROTOCOL, Pong, ToRemote};
use crate::edge::environment::Environment;
use crate::host::parcel::Order;
use crate::host::spec::Require;
use crate::image::{debian, templates};
use crate::instance::Home;
use crate::lifecycle;
use crate::vm::spec::check_name;

mod dial;
mod facts;
mod inbox;
mod kept;
mod lease;
mod lending;
mod machine;
mod outbox;
mod refusal;

pub use dial::dial;
use facts::Wanted;
use inbox::{Heard, Input, Slot};
use outbox::Outbox;
use refusal::{End, Refusal};

/// How long a keeper may be silent before it has said how long.
const TTL: Duration = Duration::from_secs(60);
/// Bounds of what it may say.
const TTL_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60 * 60));
/// How often it is looked whether it still is there; a sleep of this machine is noticed so much later at most.
const LOOK: Duration = Duration::from_secs(1);
/// How long the last words may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Messages that wait to be looked at.
const WAITING: usize = 64;

/// Serves one keeper, and returns when all that it had here is gone.
pub fn serve(
    environment: &Environment,
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
) {
    let (to, inbox) = sync_channel(WAITING);
    let (outbox, written) = Outbox::begin(output);
    let (heard, receiving) = (Arc::new(Heard::now()), Slot::default());
    {
        let (heard, receiving, to) = (Arc::clone(&heard), Arc::clone(&receiving), to.clone());
        std::thread::spawn(move || inbox::read(input, heard, &receiving, &to));
    }
    if let Ok(mut signals) = Signals::new([SIGHUP, SIGINT, SIGTERM]) {
        let to = to.clone();
        std::thread::spawn(move || {
            if signals.forever().next().is_some() {
                let _ = to.send(Input::Lost("it was told to end".to_owned()));
            }
        });
    }
    let session = Session { environment, inbox, to, outbox, heard, receiving, ttl: TTL };
    session.run();
    written.wait(LAST_WORDS);
}

/// A conversation with a keeper.
struct Session<'a> {
    environment: &'a Environment,
    inbox: Receiver<Input>,
    to: SyncSender<Input>,
    outbox: Outbox,
    heard: Arc<Heard>,
    receiving: Slot,
    ttl: Duration,
}

/// What a keeper has asked for.
struct Asked {
    owner: Owner,
    order: Order,
    require: Require,
    image: Option<String>,
    /// Whether that image comes from the keeper.
    is_sent: bool,
}

impl Session<'_> {
    fn run(mut self) {
        let left = match self.meet() {
            Ok((home, Some(asked))) => self.lend(&home, asked),
            Ok((_, None)) => {
                let end = self.look();
                self.tell(end)
            }
            Err(end) => self.tell(end),
        };
        let (reason, left) = left;
        if let Ok(mut receiving) = self.receiving.try_lock() {
            // What has come of an image goes.
            receiving.take();
        }
        self.outbox.say(FromRemote::Gone { reason, left });
        self.outbox.close();
    }

    /// Says why it is over, unless it was asked for.
    fn tell(&self, end: End) -> (String, Vec<String>) {
        match end {
            End::Over(reason) => (reason, Vec::new()),
            End::Refused(Refusal { kind, message, hint }) => {
                self.outbox.say(FromRemote::Failed { kind, message: message.clone(), hint });
                (message, Vec::new())
            }
        }
    }

    /// The next thing that happens.
    fn next(&self) -> Input {
        loop {
            if let Some(reason) = self.lost() {
                return Input::Lost(reason);
            }
            match self.inbox.recv_timeout(LOOK.min(self.ttl.saturating_sub(self.heard.ago()))) {
                Ok(input) => return input,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    /// Why the keeper counts as dead, if it does.
    fn lost(&self) -> Option<String> {
        if self.outbox.is_lost() {
            return Some("its keeper takes nothing more".to_owned());
        }
        let ago = self.heard.ago();
        (ago >= self.ttl).then(|| format!("its keeper was silent for {} s", ago.as_secs()))
    }

    /// Hears who asks for what, looks at this machine, and says what it found.
    fn meet(&mut self) -> Result<(Home, Option<Asked>), End> {
        let (owner, order, require, image) = loop {
            match self.next() {
                Input::Said(ToRemote::Hello { protocol, civm, .. }) if protocol != PROTOCOL => {
                    return Err(Refusal {
                        kind: Kind::Protocol,
                        message: format!(
                            "this civm ({}) speaks protocol {PROTOCOL}, and its keeper ({civm}) protocol {protocol}",
                            env!("CARGO_PKG_VERSION")
                        ),
                        hint: Some("use the same version of civm on both sides".to_owned()),
                    }
                    .into());
                }
                Input::Said(ToRemote::Hello { owner, ttl_ms, order, require, image, .. }) => {
                    self.ttl = Duration::from_millis(ttl_ms).clamp(TTL_RANGE.0, TTL_RANGE.1);
                    break (owner.bounded(), order, require, image);
                }
                Input::Said(ToRemote::Unknown) => {}
                Input::Said(ToRemote::Stop { .. }) => return Err(End::Over("as asked".to_owned())),
                Input::Refused(kind, message) => return Err(Refusal::new(kind, message).into()),
                Input::Lost(reason) => return Err(End::Over(reason)),
                _ => return Err(Refusal::protocol("the first message is not `hello`").into()),
            }
        };
        if let Some(order) = &order {
            // They become parts of paths.
            let names = [&owner.builder, &order.host];
            let checked = names.into_iter().try_for_each(|name| check_name(name));
            checked.map_err(|error| Refusal::protocol(error.to_string()))?;
        }
        let home = Home::find(self.environment).map_err(|error| Refusal::of(&error.into()))?;
        let swept = lease::sweep(&home, self.environment);
        kept::sweep(self.environment);
        if let Some(cache) = lifecycle::image_cache(self.environment) {
            // Images and templates that nobody sends or makes any more.
            debian::sweep(&cache, self.environment);
            templates::sweep(&cache, self.environment);
        }
        for message in swept.left {
            self.outbox.say(FromRemote::Warning { message });
        }
        let wanted = Wanted { order: order.as_ref(), require, image: image.as_deref() };
        let facts = facts::look(wanted, &home, swept.gone, self.environment);
        let refusal = order.as_ref().and_then(|_| facts::refusal(&facts.missing));
        let is_absent = facts.image == ImageState::Absent;
        self.outbox.say(FromRemote::Facts(facts));
        if let Some(refusal) = refusal {
            return Err(refusal.into());
        }
        let asked = order.map(|order| Asked { owner, order, require, is_sent: is_absent, image });
        Ok((home, asked))
    }

    /// Answers those who only look.
    fn look(&self) -> End {
        loop {
            match self.next() {
                Input::Said(ToRemote::Ping { n }) => {
                    self.outbox.say(FromRemote::Pong(Pong { n, ..Pong::default() }));
                }
                Input::Said(ToRemote::Purge { dry_run }) => {
                    kept::purge(dry_run, self.environment, &mut |message| self.outbox.say(message));
                }
                Input::Said(ToRemote::Stop { .. }) => return End::Over("as asked".to_owned()),
                Input::Said(ToRemote::Unknown) => {}
                Input::Lost(reason) => return End::Over(reason),
                Input::Refused(kind, message) => return Refusal::new(kind, message).into(),
                _ => return Refusal::protocol("only looks and purges work without an order").into(),
            }
        }
    }
}

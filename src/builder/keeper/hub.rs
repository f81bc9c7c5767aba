//! The hub: what happens goes into each builder's state, and what follows from it is done.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::SIGHUP;

use super::builders::Builder;
use super::listen::has_hung_up;
use super::report::{Follower, tell};
use super::session::{Orders, Said, Session, Shared};
use super::socket::{Line, Reply, View};
use super::state::{Action, Event, Input, Phase, State, Time};
use super::{Caller, Message, Options};
use crate::builder::place::Held;
use crate::builder::publish;
use crate::builder::ssh::Access;
use crate::builder::ssh::child::{STACK, command};

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(200);
/// How long the end of everything may take.
const END_WITHIN: Duration = Duration::from_secs(15);
/// How long a keeper that nobody wants any more waits for somebody.
const IDLE: Duration = Duration::from_secs(2);
/// Stack of a session: it puts a share together.
const SESSION_STACK: usize = 512 << 10;

/// The hub.
pub(super) struct Hub<'a> {
    held: Held,
    parcels: PathBuf,
    enable_all: bool,
    exit_when_idle: bool,
    civm: PathBuf,
    shared: Arc<Shared>,
    sender: SyncSender<Message>,
    /// What it tells itself: it would wait for itself at its own queue.
    own: VecDeque<Message>,
    pub(super) tell: &'a mut dyn FnMut(&Line),
    pub(super) builders: BTreeMap<String, Builder>,
    /// Why others cannot be made.
    refused: BTreeMap<String, String>,
    callers: BTreeMap<u64, (String, Caller)>,
    dials: u64,
    pub(super) followers: Vec<Follower>,
    begun: Instant,
    /// When everything must have ended, once it is to end.
    ending: Option<Instant>,
    /// Since when nobody wants anything; none before anybody did.
    unwanted: Option<Instant>,
    pub(super) status: String,
    /// Whether nix and ssh are to be told something new.
    changed: bool,
}

impl<'a> Hub<'a> {
    pub(super) fn new(
        options: Options,
        shared: Arc<Shared>,
        sender: SyncSender<Message>,
        tell: &'a mut dyn FnMut(&Line),
    ) -> Self {
        let Options { held, parcels, enable_all, exit_when_idle, civm, .. } = options;
        Self {
            held,
            parcels,
            enable_all,
            exit_when_idle,
            civm,
            shared,
            sender,
            own: VecDeque::new(),
            tell,
            builders: BTreeMap::new(),
            refused: BTreeMap::new(),
            callers: BTreeMap::new(),
            dials: 0,
            followers: Vec::new(),
            begun: Instant::now(),
            ending: None,
            unwanted: None,
            status: String::new(),
            changed: true,
        }
    }

    /// The keeper's socket.
    pub(super) fn listener(&self) -> Result<UnixListener, String> {
        let socket = self.held.place.socket();
        let failed = |error: std::io::Error| format!("cannot listen on {}: {error}", socket.display());
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        self.held.open_socket(&socket).map_err(failed)?;
        Ok(listener)
    }

    /// Until everything has ended.
    pub(super) fn run(&mut self, receiver: &Receiver<Message>) {
        let mut ticked = Instant::now();
        while !self.has_ended() {
            let next = match self.own.pop_front() {
                Some(message) => Ok(message),
                None => receiver.recv_timeout(TICK.saturating_sub(ticked.elapsed())),
            };
            match next {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.tick();
            }
            self.turn_away_from_the_waiting();
            if std::mem::take(&mut self.changed) {
                self.publish();
                self.tell_status();
            }
        }
    }

    fn now(&self) -> Time {
        self.begun.elapsed()
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    fn has_ended(&mut self) -> bool {
        let gone = self.builders.values().all(|builder| builder.state.is_gone());
        if let Some(until) = self.ending {
            return gone || Instant::now() >= until;
        }
        let wanted = !gone || self.builders.values().any(|builder| builder.state.is_enabled());
        match (wanted, self.unwanted) {
            (true, _) => self.unwanted = Some(Instant::now()),
            (false, Some(since)) if self.exit_when_idle && !self.builders.is_empty() => {
                return since.elapsed() >= IDLE;
            }
            _ => {}
        }
        false
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Session { builder, id, said } => self.said(&builder, id, said),
            Message::Ask { request, reply, owner } => self.answer(request, reply, owner),
            Message::Dial { builder, caller } => self.dial(builder, caller),
            Message::Closed { builder } => self.step(&builder, Input::Closed),
            Message::Signal(SIGHUP) => self.hang_up(),
            Message::Signal(_) => self.end(),
        }
    }

    /// SIGHUP: the parcels are read again, and what failed is tried again.
    fn hang_up(&mut self) {
        if self.is_ending() {
            return;
        }
        self.reload(self.enable_all);
        let failed = |builder: &Builder| matches!(builder.state.phase(), Phase::Failed(_));
        let names: Vec<String> = self
            .builders
            .iter()
            .filter(|(_, builder)| failed(builder))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.step(&name, Input::Up);
        }
    }

    /// SIGTERM: all builders end at once. The second one cuts every connection, which ends them as well.
    fn end(&mut self) {
        if self.is_ending() {
            for builder in self.builders.values() {
                if let Some(orders) = &builder.orders {
                    orders.cut();
                }
            }
            return;
        }
        self.ending = Some(Instant::now() + END_WITHIN);
        let names: Vec<String> = self.builders.keys().cloned().collect();
        for name in names {
            self.step(&name, Input::Down { within: Some(Duration::ZERO) });
        }
    }

    fn tick(&mut self) {
        self.drop_the_gone();
        let names: Vec<String> = self.builders.keys().cloned().collect();
        for name in names {
            self.step(&name, Input::Tick);
            self.accept(&name);
        }
        self.renew();
    }

    /// Those who waited and have hung up.
    fn drop_the_gone(&mut self) {
        let hung_up = |caller: &Caller| match caller {
            Caller::Socket(stream) => has_hung_up(stream.as_fd()),
            Caller::Port(stream) => has_hung_up(stream.as_fd()),
        };
        let gone: Vec<u64> =
            self.callers.iter().filter(|(_, (_, caller))| hung_up(caller)).map(|(dial, _)| *dial).collect();
        for dial in gone {
            if let Some((name, _)) = self.callers.remove(&dial) {
                self.step(&name, Input::HungUp { dial });
            }
        }
    }

    /// Takes those who came to a builder's own port.
    fn accept(&mut self, name: &str) {
        let ending = self.is_ending();
        let Some(builder) = self.builders.get_mut(name) else { return };
        if let Some(complaint) = if ending { None } else { builder.listen() } {
            builder.warn(&complaint);
            self.log(name, &complaint);
        }
        while let Some(Ok((stream, _))) = self
            .builders
            .get(name)
            .and_then(|builder| builder.listener.as_ref())
            .map(std::net::TcpListener::accept)
        {
            let _ = stream.set_nonblocking(false);
            self.dial(name.to_owned(), Caller::Port(stream));
        }
    }

    fn dial(&mut self, name: String, caller: Caller) {
        if !self.builders.contains_key(&name) {
            let refused = self.unknown(&name);
            tell(&caller, Reply { refused: Some(refused), kind: Some("unknown".into()), ..Reply::default() });
            return;
        }
        self.dials += 1;
        let dial = self.dials;
        let elsewhere = self.has_room_elsewhere(&name);
        self.callers.insert(dial, (name.clone(), caller));
        self.step(&name, Input::Dial { dial, elsewhere });
    }

    /// Why there is no such builder.
    pub(super) fn unknown(&self, name: &str) -> String {
        if let Some(reason) = self.refused.get(name) {
            return format!("builder `{name}` cannot be made: {reason}");
        }
        let known: Vec<&str> = self.builders.keys().map(String::as_str).collect();
        format!("no builder `{name}` here; there are: {}", known.join(", "))
    }

    /// Whether another builder could take what this one is asked for. One that is started on demand could, where this one
    /// cannot be reached.
    fn has_room_elsewhere(&self, name: &str) -> bool {
        let Some(builder) = self.builders.get(name) else { return false };
        let system = builder.loaded.system();
        let waits = builder.state.is_away();
        let could = |builder: &Builder| builder.has_room() || (waits && builder.starts_on_demand());
        self.builders
            .iter()
            .any(|(other, builder)| other != name && could(builder) && builder.builds(&system))
    }

    /// Whoever waits for a builder that cannot be reached goes on to another one as soon as there is one.
    fn turn_away_from_the_waiting(&mut self) {
        let waits = |builder: &Builder| builder.state.held() > 0 && builder.state.is_away();
        let names: Vec<String> = self
            .builders
            .iter()
            .filter(|(_, builder)| waits(builder))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            if self.has_room_elsewhere(&name) {
                self.step(&name, Input::Elsewhere);
            }
        }
    }

    fn said(&mut self, name: &str, id: u64, said: Said) {
        let Some(builder) = self.builders.get_mut(name) else { return };
        match said {
            Said::Event(event) => {
                if let Event::Ready = event {
                    builder.is_ready_now();
                }
                let word = match event {
                    Event::Unwell => Some("its machine does not answer: new builds wait, or go elsewhere"),
                    Event::Well => Some("its machine answers again"),
                    _ => None,
                };
                self.step(name, Input::Session { id, event });
                if let Some(word) = word {
                    self.log(name, word);
                }
            }
            Said::Facts(facts) => builder.facts(*facts),
            Said::Way(way) => {
                let most = way.most;
                builder.way = Some(way);
                self.changed = true;
                if let Some(most) = most {
                    let text = "the remote's sshd forwards no connections: each takes a session of its own, \
                                and there can be";
                    self.log(name, &format!("{text} {most} at once"));
                }
            }
            Said::Started { accel, reason } => builder.started(accel, reason),
            Said::Learned(learned) => {
                builder.learned = Some(learned);
                self.changed = true;
            }
            Said::Pong(pong) => builder.health(pong),
            Said::Doing(what) => {
                builder.does(&what);
            }
            Said::Warning(what) => {
                if builder.warn(&what) {
                    self.log(name, &format!("warning: {what}"));
                }
            }
        }
    }

    /// One step of a builder's life.
    pub(super) fn step(&mut self, name: &str, input: Input) {
        let now = self.now();
        let Some(builder) = self.builders.get_mut(name) else { return };
        let before = builder.state.phase().name();
        let seen = |state: &State| (state.is_enabled(), state.connections(), state.is_well());
        let was = seen(&builder.state);
        let in_use = |state: &State| state.is_enabled() || !state.is_gone();
        let was_in_use = in_use(&builder.state);
        let (state, actions) = builder.state.clone().step(&builder.policy(), input, now);
        builder.state = state;
        if builder.state.is_gone() {
            builder.orders = None;
            builder.way = None;
        }
        self.changed |= before != builder.state.phase().name() || was != seen(&builder.state);
        if was_in_use && !in_use(&builder.state) {
            self.held.remove_keys(name);
        }
        if builder.state.phase().name() != before {
            let line = Self::phase_line(builder);
            self.log(name, &line);
        }
        for action in actions {
            self.act(name, action);
        }
    }

    fn act(&mut self, name: &str, action: Action) {
        match action {
            Action::Start { session } => self.start(name, session),
            Action::Stop { .. } => self.order(name, Orders::stop),
            Action::Cut { .. } => self.order(name, Orders::cut),
            Action::Connect { dial } => self.connect(name, dial),
            Action::Hold { dial } => {
                if let Some((_, caller)) = self.callers.get(&dial) {
                    self.say_waiting(name, caller);
                }
            }
            Action::Refuse { dial, why } => {
                if let Some((_, caller)) = self.callers.remove(&dial) {
                    self.say_refused(name, why, &caller);
                }
            }
        }
    }

    fn order(&self, name: &str, order: fn(&Orders)) {
        if let Some(orders) = self.builders.get(name).and_then(|builder| builder.orders.as_ref()) {
            order(orders);
        }
    }
}

mod act;
mod reload;

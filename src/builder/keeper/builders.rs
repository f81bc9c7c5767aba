//! A builder as the hub holds it.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::session::{Orders, Way};
use super::socket::{Line, View};
use super::state::{Phase, Policy, State, Time};
use crate::builder::identity::Pair;
use crate::builder::parcels::Loaded;
use crate::builder::publish::{Learned, Told};
use crate::builder::wire::{Facts, Pong};
use crate::host::spec::Start;

/// The most connections to one: each is an ssh of this machine.
const CONNECTIONS_MAX: u32 = 512;
/// Lines of its log that are kept.
const LINES_MAX: usize = 200;
/// Longest line of it.
const LINE_MAX: usize = 2000;
/// Warnings that are kept.
const WARNINGS_MAX: usize = 8;
/// Those of one session that go into the log: a file, which a remote must not fill.
const LOGGED_MAX: usize = 100;

/// A builder.
pub(super) struct Builder {
    /// What it is made of.
    pub(super) loaded: Arc<Loaded>,
    /// What it is to be made of once it is gone; none where it goes for good.
    pub(super) next: Option<Option<Arc<Loaded>>>,
    /// Whether it is wanted then.
    pub(super) next_is_wanted: bool,
    /// How it is.
    pub(super) state: State,
    /// Its host key.
    pub(super) host_key: Arc<Pair>,
    /// What its session is told.
    pub(super) orders: Option<Arc<Orders>>,
    /// How connections come to its sshd.
    pub(super) way: Option<Way>,
    /// What it has said of itself.
    pub(super) learned: Option<Learned>,
    /// The port of this machine that leads to it, and whether somebody else has it.
    pub(super) listener: Option<TcpListener>,
    port_complained: bool,
    log: VecDeque<Line>,
    doing: String,
    ready_since: Option<u64>,
    accel: Option<(String, String)>,
    os: Option<String>,
    health: Option<Pong>,
    warnings: VecDeque<String>,
    /// Warnings of this session.
    warned: usize,
}

/// Seconds since the epoch.
fn epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Builder {
    /// One that nobody has asked for yet.
    pub(super) fn new(loaded: Arc<Loaded>, host_key: Arc<Pair>) -> Self {
        Self {
            loaded,
            next: None,
            next_is_wanted: false,
            state: State::default(),
            host_key,
            orders: None,
            way: None,
            learned: None,
            listener: None,
            port_complained: false,
            log: VecDeque::new(),
            doing: String::new(),
            ready_since: None,
            accel: None,
            os: None,
            health: None,
            warnings: VecDeque::new(),
            warned: 0,
        }
    }

    /// What decides its life.
    pub(super) fn policy(&self) -> Policy {
        let builder = &self.loaded.parcel.builder;
        let most = self.most().unwrap_or(CONNECTIONS_MAX);
        Policy { start: builder.start, idle: builder.idle, hold: builder.hold, most }
    }

    /// How many connections the way to it bears.
    fn most(&self) -> Option<u32> {
        self.way.as_ref().and_then(|way| way.most)
    }

    /// As it is told to nix.
    pub(super) fn told(&self, published: bool) -> Told<'_> {
        Told {
            loaded: &self.loaded,
            host_key: &self.host_key.public,
            learned: self.learned.as_ref(),
            most: self.most(),
            published,
        }
    }

    /// Whether it builds for a system.
    pub(super) fn builds(&self, system: &str) -> bool {
        let extra = self.learned.iter().flat_map(|learned| &learned.extra_platforms);
        self.loaded.system() == system || extra.into_iter().any(|other| other == system)
    }

    /// Whether it could take one more build now.
    pub(super) fn has_room(&self) -> bool {
        self.state.is_well() && self.state.connections() < self.told(true).jobs()
    }

    /// Whether the next who wants it has it made.
    pub(super) fn starts_on_demand(&self) -> bool {
        let on_demand = self.policy().start == Start::OnDemand;
        on_demand && self.state.is_enabled() && *self.state.phase() == Phase::Idle
    }

    /// Begins anew: what was said in an earlier session holds no more, but for what nix is told.
    pub(super) fn forget_session(&mut self) {
        self.way = None;
        self.health = None;
        self.warnings.clear();
        self.warned = 0;
        self.doing.clear();
        self.ready_since = None;
    }

    /// What its remote is.
    pub(super) fn facts(&mut self, facts: Facts) {
        self.os = Some(facts.os);
    }

    /// What executes it.
    pub(super) fn started(&mut self, accel: String, reason: String) {
        self.accel = Some((accel, reason));
    }

    /// How its machine is.
    pub(super) fn health(&mut self, pong: Pong) {
        self.health = Some(pong);
    }

    /// It is ready from now on.
    pub(super) fn is_ready_now(&mut self) {
        self.ready_since = Some(epoch());
    }

    /// What it does just now; false where it did that before.
    pub(super) fn does(&mut self, what: &str) -> bool {
        let changed = self.doing != what;
        what.clone_into(&mut self.doing);
        changed
    }

    /// What its user should know; false where it need not be logged: it was said before, or the remote talks too much.
    pub(super) fn warn(&mut self, what: &str) -> bool {
        let new = !self.warnings.iter().any(|known| known == what);
        if new {
            if self.warnings.len() == WARNINGS_MAX {
                self.warnings.pop_front();
            }
            self.warnings.push_back(what.to_owned());
            self.warned += 1;
        }
        new && self.warned <= LOGGED_MAX
    }

    /// A line of its log.
    pub(super) fn log(&mut self, text: &str) -> Line {
        let text = text.chars().take(LINE_MAX).collect();
        let line = Line { at: epoch(), builder: self.loaded.name().to_owned(), text };
        if self.log.len() == LINES_MAX {
            self.log.pop_front();
        }
        self.log.push_back(line.clone());
        line
    }

    /// The lines that are kept of it.
    pub(super) fn lines(&self) -> impl Iterator<Item = &Line> {
        self.log.iter()
    }

    /// Listens on the port of this machine that host.yaml gives it. What is wrong is said once.
    pub(super) fn listen(&mut self) -> Option<String> {
        let wanted = self.state.is_enabled() || !self.state.is_gone();
        let Some(port) = self.loaded.parcel.builder.port.filter(|_| wanted) else {
            self.listener = None;
            return None;
        };
        if self.listener.is_some() {
            return None;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        match listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener)) {
            Ok(listener) => {
                self.listener = Some(listener);
                self.port_complained = false;
                None
            }
            Err(error) if !self.port_complained => {
                self.port_complained = true;
                Some(format!(
                    "port {port} of this machine cannot lead to it ({error}): somebody else listens there, and nix \
                     would be told a wrong host key; `civm builder dial` and nix's list go on to work"
                ))
            }
            Err(_) => None,
        }
    }

    /// How it is.
    pub(super) fn view(&self, published: bool, now: Time) -> View {
        let told = self.told(published);
        let phase = self.state.phase();
        let again = match phase {
            Phase::Waiting { until, .. } => u64::try_from(until.saturating_sub(now).as_millis()).ok(),
            _ => None,
        };
        let alive = !self.state.is_gone();
        let accel = self.accel.clone().filter(|_| alive);
        View {
            name: self.loaded.name().to_owned(),
            on: self.loaded.parcel.builder.on.to_string(),
            system: self.loaded.system(),
            state: phase.name().to_owned(),
            doing: if alive { self.doing.clone() } else { String::new() },
            wanted: self.state.is_enabled(),
            ready_since: self
                .ready_since
                .filter(|_| matches!(phase, Phase::Ready { .. } | Phase::Draining { .. })),
            again_in_ms: again,
            reason: phase.reason().cloned(),
            connections: self.state.connections(),
            waiting: self.state.held(),
            max_jobs: told.jobs(),
            features: told.features(),
            published,
            accel_reason: accel.as_ref().map(|(_, reason)| reason.clone()),
            accel: accel.map(|(accel, _)| accel),
            os: self.os.clone().filter(|_| alive),
            nix: self.learned.as_ref().and_then(|learned| learned.version.clone()).filter(|_| alive),
            store: told.store(),
            health: self.health.clone(),
            warnings: self.warnings.iter().cloned().collect(),
        }
    }
}

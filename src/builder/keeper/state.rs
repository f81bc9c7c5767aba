//! The life of one builder, as its keeper sees it: what happens, what the clock says, and what is to be done about it.
//! Pure: it starts nothing, and asks no clock.
//!
//! ```text
//! idle -> connecting -> preparing -> starting -> ready -> draining -> stopping -> idle
//! any of these -> waiting -> connecting     the network, or a machine that ended
//! any of these -> failed                    what no second try changes; only `up` leads out of it
//! ```

use std::time::Duration;

use super::dial::{Answer, Refusal, answer};
use super::reason::{Kind, Reason};
use super::retry::Retry;
use crate::builder::wire;
use crate::host::spec::Start;

mod words;

pub use words::{Action, Ending, Event, Input, Phase, Policy};

/// Time since the keeper began.
pub type Time = Duration;
/// How long a remote may take to say that a builder is gone; then the connection is cut, which ends it as well.
pub const STOP_WITHIN: Duration = Duration::from_secs(12);
/// How many may wait for one builder.
pub const HELD_MAX: usize = 512;
/// How many boots in a row may fail.
const BOOTS_MAX: u32 = 3;

/// Somebody who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    dial: u64,
    until: Time,
}

/// A builder's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    phase: Phase,
    /// Whether anybody wants it.
    enabled: bool,
    /// Whether it is started again once it has stopped.
    again: bool,
    retry: Retry,
    /// Boots that have failed in a row.
    boots: u32,
    /// Whether its machine does not answer, though nobody has given it up yet.
    unwell: bool,
    /// The session that lives, and how many there were.
    session: Option<u64>,
    sessions: u64,
    held: Vec<Held>,
    connections: u32,
    /// When a connection was seen last.
    busy: Time,
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: Phase::Idle,
            enabled: false,
            again: false,
            retry: Retry::default(),
            boots: 0,
            unwell: false,
            session: None,
            sessions: 0,
            held: Vec::new(),
            connections: 0,
            busy: Time::ZERO,
        }
    }
}

impl State {
    /// How far it has come.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Whether it is ready, and its machine answers.
    #[must_use]
    pub fn is_well(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. }) && !self.unwell
    }

    /// Whether somebody who waits for it is better served by another one.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self.phase {
            Phase::Waiting { .. } => true,
            Phase::Ready { .. } => self.unwell,
            _ => false,
        }
    }

    /// Whether anybody wants it.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Connections that are open: the builds, as far as they can be counted from outside.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections
    }

    /// How many wait for it.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing of it is left here.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.session.is_none()
    }

    /// Whether nix is told of it. One that is on its way is: who connects early waits. One that cannot be reached, or
    /// does not answer, is only as long as no other builder of that system is ready.
    #[must_use]
    pub fn is_published(&self, elsewhere: bool) -> bool {
        match self.phase {
            _ if self.is_away() => !elsewhere,
            Phase::Connecting | Phase::Preparing | Phase::Starting | Phase::Ready { .. } => true,
            Phase::Idle | Phase::Stopping { .. } => self.enabled,
            Phase::Waiting { .. } | Phase::Draining { .. } | Phase::Failed(_) => false,
        }
    }

    /// What follows from something that happens.
    #[must_use]
    pub fn step(mut self, policy: &Policy, input: Input, now: Time) -> (Self, Vec<Action>) {
        let mut actions = Vec::new();
        self.take(policy, input, now, &mut actions);
        (self, actions)
    }

    fn take(&mut self, policy: &Policy, input: Input, now: Time, actions: &mut Vec<Action>) {
        match input {
            Input::Enable => {
                self.enabled = true;
                if policy.start == Start::Always && self.phase == Phase::Idle {
                    self.begin(actions);
                }
            }
            Input::Up => self.up(now, actions),
            Input::Down { within } => self.down(within, now, actions),
            Input::Dial { dial, elsewhere } => self.dial(policy, dial, elsewhere, now, actions),
            Input::HungUp { dial } => self.held.retain(|held| held.dial != dial),
            Input::Closed => {
                self.connections = self.connections.saturating_sub(1);
                self.busy = now;
                self.let_in(policy, actions);
            }
            Input::Elsewhere => {
                if self.is_away() {
                    self.refuse_all(Refusal::Elsewhere, actions);
                }
            }
            Input::Session { id, event } if self.session == Some(id) => {
                self.session(policy, event, now, actions);
            }
            // A session that was given up, or only the clock.
            Input::Session { .. } | Input::Tick => {}
        }
        self.tick(policy, now, actions);
    }

    fn begin(&mut self, actions: &mut Vec<Action>) {
        if self.session.is_some() {
            self.again = true;
            return;
        }
        self.again = false;
        self.unwell = false;
        self.sessions += 1;
        self.session = Some(self.sessions);
        self.phase = Phase::Connecting;
        actions.push(Action::Start { session: self.sessions });
    }

    fn up(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.enabled = true;
        self.retry = Retry::default();
        self.boots = 0;
        match self.phase {
            Phase::Idle | Phase::Waiting { .. } | Phase::Failed(_) => self.begin(actions),
            Phase::Draining { .. } => {
                self.phase = Phase::Ready { since: now };
                self.busy = now;
            }
            Phase::Stopping { .. } => self.again = true,
            Phase::Connecting | Phase::Preparing | Phase::Starting | Phase::Ready { .. } => {}
        }
    }

    fn down(&mut self, within: Option<Duration>, now: Time, actions: &mut Vec<Action>) {
        self.enabled = false;
        self.again = false;
        self.refuse_all(Refusal::Stopped, actions);
        let until = within.map(|within| now.saturating_add(within));
        match self.phase {
            Phase::Ready { .. } | Phase::Draining { .. } => self.phase = Phase::Draining { until },
            Phase::Stopping { .. } => {}
            _ => self.stop(now, actions),
        }
    }

    fn stop(&mut self, now: Time, actions: &mut Vec<Action>) {
        match self.session {
            Some(session) => {
                self.phase = Phase::Stopping { until: now.saturating_add(STOP_WITHIN), cut: false };
                actions.push(Action::Stop { session });
            }
            None => self.phase = Phase::Idle,
        }
    }

    fn dial(&mut self, policy: &Policy, dial: u64, elsewhere: bool, now: Time, actions: &mut Vec<Action>) {
        let answer = match answer(&self.phase, !self.unwell, self.enabled, elsewhere) {
            // Another builder would not do: who copies from its store wants this very one.
            Answer::Connect if self.connections >= policy.most => Answer::Hold,
            answer => answer,
        };
        match answer {
            Answer::Connect => {
                self.connections += 1;
                self.busy = now;
                actions.push(Action::Connect { dial });
            }
            Answer::Refuse(why) => actions.push(Action::Refuse { dial, why }),
            Answer::Hold | Answer::Start if self.held.len() >= HELD_MAX => {
                actions.push(Action::Refuse { dial, why: Refusal::Full });
            }
            Answer::Hold | Answer::Start => {
                self.held.push(Held { dial, until: now.saturating_add(policy.hold) });
                actions.push(Action::Hold { dial });
                if answer == Answer::Start {
                    self.begin(actions);
                }
            }
        }
    }

    /// Connects those who wait for a builder that is ready, as far as it has room.
    fn let_in(&mut self, policy: &Policy, actions: &mut Vec<Action>) {
        if !self.is_well() {
            return;
        }
        let room = usize::try_from(policy.most.saturating_sub(self.connections)).unwrap_or(usize::MAX);
        for held in self.held.drain(..room.min(self.held.len())) {
            self.connections += 1;
            actions.push(Action::Connect { dial: held.dial });
        }
    }

    fn refuse_all(&mut self, why: Refusal, actions: &mut Vec<Action>) {
        actions.extend(self.held.drain(..).map(|held| Action::Refuse { dial: held.dial, why }));
    }

    fn session(&mut self, policy: &Policy, event: Event, now: Time, actions: &mut Vec<Action>) {
        match (event, &self.phase) {
            (Event::Ended { ending, chance }, _) => self.ended(ending, chance, now, actions),
            (Event::Reached, Phase::Connecting) => self.phase = Phase::Preparing,
            (Event::Started, Phase::Connecting | Phase::Preparing) => self.phase = Phase::Starting,
            (Event::Ready, Phase::Connecting | Phase::Preparing | Phase::Starting) => {
                self.phase = Phase::Ready { since: now };
                self.boots = 0;
                self.busy = now;
                self.let_in(policy, actions);
            }
            (Event::Unwell, _) => self.unwell = true,
            (Event::Well, _) => {
                self.unwell = false;
                self.let_in(policy, actions);
            }
            // It is on its way out already.
            _ => {}
        }
    }

    fn ended(&mut self, ending: Ending, chance: u32, now: Time, actions: &mut Vec<Action>) {
        self.session = None;
        if matches!(self.phase, Phase::Stopping { .. } | Phase::Draining { .. }) {
            self.phase = Phase::Idle;
            if self.again && self.enabled {
                self.begin(actions);
            }
            return;
        }
        if let Phase::Ready { since } = self.phase {
            self.retry = self.retry.after(now.saturating_sub(since));
        }
        let reason = match ending {
            Ending::Broken(reason) => reason,
            Ending::Gone => Reason::new(Kind::Remote(wire::Kind::Ended), "the remote ended it"),
        };
        if reason.kind == Kind::Remote(wire::Kind::Boot) {
            self.boots += 1;
        }
        if !reason.kind.passes() || self.boots >= BOOTS_MAX {
            self.phase = Phase::Failed(reason);
            self.refuse_all(Refusal::Failed, actions);
            return;
        }
        let (retry, wait) = self.retry.failed(chance);
        self.retry = retry;
        self.phase = Phase::Waiting { until: now.saturating_add(wait), reason };
    }

    fn tick(&mut self, policy: &Policy, now: Time, actions: &mut Vec<Action>) {
        let late = |held: &Held| held.until <= now;
        actions.extend(
            self.held
                .iter()
                .filter(|held| late(held))
                .map(|held| Action::Refuse { dial: held.dial, why: Refusal::Late }),
        );
        self.held.retain(|held| !late(held));
        match self.phase {
            Phase::Waiting { until, .. } if until <= now => {
                if policy.start == Start::OnDemand && self.held.is_empty() {
                    self.phase = Phase::Idle;
                } else {
                    self.begin(actions);
                }
            }
            Phase::Draining { until } if self.connections == 0 || until.is_some_and(|until| until <= now) => {
                self.stop(now, actions);
            }
            Phase::Stopping { until, cut: false } if until <= now => {
                self.phase = Phase::Stopping { until, cut: true };
                actions.extend(self.session.map(|session| Action::Cut { session }));
            }
            Phase::Ready { .. }
                if policy.start == Start::OnDemand
                    && self.connections == 0
                    && now.saturating_sub(self.busy) >= policy.idle =>
            {
                self.stop(now, actions);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;

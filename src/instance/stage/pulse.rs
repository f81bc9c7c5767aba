//! Whether QEMU is alive: it is asked from time to time, and when somebody wants to know.

use std::time::{Duration, Instant};

use crate::instance::event::Health;
use crate::instance::stage::control::Asker;

/// How often QEMU is asked.
const EVERY: Duration = Duration::from_secs(10);
/// An answer that takes longer means that the machine stood still, and its clock with it. So does a pause of our own.
const LATE: Duration = Duration::from_secs(3);
/// How long somebody who wants to know waits for QEMU.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What has been asked, and who waits for the answer.
#[derive(Debug)]
pub(super) struct Pulse {
    patience: Duration,
    next: Instant,
    asked: Option<Instant>,
    waiting: Vec<(Asker, Instant)>,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// QEMU is to be asked.
    pub(super) ask: bool,
    /// We stood still ourselves, and all of the machine with us.
    pub(super) stood_still: bool,
}

impl Pulse {
    /// `patience`: how long somebody who wants to know waits for QEMU ([`PATIENCE`], scaled).
    pub(super) fn new(now: Instant, patience: Duration) -> Self {
        Self { patience, next: now + EVERY, asked: None, waiting: Vec::new() }
    }

    /// What is to be done at this time.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        if now < self.next {
            return Due::default();
        }
        let stood_still = now.saturating_duration_since(self.next) > LATE;
        self.next = now + EVERY;
        Due { ask: self.begin(now), stood_still }
    }

    /// Somebody wants to know; whether QEMU is to be asked now.
    pub(super) fn wanted(&mut self, who: Asker, now: Instant) -> bool {
        self.waiting.push((who, now + self.patience));
        self.begin(now)
    }

    /// One question at a time: a QEMU that stands still is not sent one after the other.
    fn begin(&mut self, now: Instant) -> bool {
        let ask = self.asked.is_none();
        self.asked.get_or_insert(now);
        ask
    }

    /// QEMU has answered: who wanted to know, and whether the machine stood still meanwhile.
    pub(super) fn answered(&mut self, now: Instant) -> (Vec<Asker>, bool) {
        let late = self.asked.take().is_some_and(|asked| now.saturating_duration_since(asked) > LATE);
        (self.waiting.drain(..).map(|(who, _)| who).collect(), late)
    }

    /// Those who have waited long enough: QEMU is frozen.
    pub(super) fn given_up(&mut self, now: Instant) -> Vec<Asker> {
        let (late, rest) = self.waiting.drain(..).partition(|(_, until)| now >= *until);
        self.waiting = rest;
        let late: Vec<(Asker, Instant)> = late;
        late.into_iter().map(|(who, _)| who).collect()
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Instant {
        self.waiting.iter().map(|(_, until)| *until).chain([self.next]).min().unwrap_or(self.next)
    }
}

/// QEMU's run state (`query-status`) as health.
pub(super) fn health(status: &str) -> Health {
    match status {
        "running" => Health::Running,
        "guest-panicked" => Health::Panicked,
        _ => Health::Paused,
    }
}

#[cfg(test)]
mod tests {
    use super::{Due, EVERY, LATE, PATIENCE, Pulse};
    use crate::instance::stage::control::Asker;
    use std::time::{Duration, Instant};

    #[test]
    fn one_question_is_open_at_a_time_and_a_late_answer_tells_of_a_pause() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut pulse = Pulse::new(now, PATIENCE);
        assert_eq!(pulse.due(now), Due::default());
        assert_eq!(pulse.due(now + EVERY), Due { ask: true, stood_still: false });
        assert_eq!(pulse.due(now + 2 * EVERY), Due { ask: false, stood_still: false });
        assert!(pulse.answered(now + 2 * EVERY).1);
        assert!(pulse.due(now + 3 * EVERY).ask);
        assert!(!pulse.answered(now + 3 * EVERY + second).1);
        assert!(pulse.due(now + 4 * EVERY + LATE + second).stood_still);
    }

    #[test]
    fn who_wants_to_know_is_not_kept_waiting_by_a_frozen_qemu() {
        let now = Instant::now();
        let mut pulse = Pulse::new(now, PATIENCE);
        let who = |id| Asker { client: 1, id };
        assert!(pulse.wanted(who(1), now));
        assert!(!pulse.wanted(who(2), now + PATIENCE / 2), "the question is open");
        assert_eq!(pulse.next(), now + PATIENCE);
        assert_eq!(pulse.given_up(now + PATIENCE), [who(1)]);
        assert_eq!(pulse.answered(now + PATIENCE).0, [who(2)]);
    }
}

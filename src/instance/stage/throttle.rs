//! A limit on how fast a guest's reports are read. What comes faster is read later, so that the guest waits.

use std::time::{Duration, Instant};

/// The time that an allowance is for.
const WINDOW: Duration = Duration::from_secs(1);
/// Lines in that time.
const LINES: usize = 200;

/// So many lines a second.
#[derive(Debug)]
pub(super) struct Throttle {
    since: Instant,
    spent: usize,
}

impl Throttle {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, spent: 0 }
    }

    /// When one may listen again; `None` where one may now.
    pub(super) fn closed_until(&mut self, now: Instant) -> Option<Instant> {
        if now.saturating_duration_since(self.since) >= WINDOW {
            *self = Self::new(now);
        }
        (self.spent >= LINES).then(|| self.since + WINDOW)
    }

    /// So many lines have come.
    pub(super) fn spend(&mut self, lines: usize) {
        self.spent += lines;
    }
}

#[cfg(test)]
mod tests {
    use super::{LINES, Throttle, WINDOW};
    use std::time::Instant;

    #[test]
    fn who_says_too_much_waits_for_the_next_second() {
        let now = Instant::now();
        let mut throttle = Throttle::new(now);
        throttle.spend(LINES - 1);
        assert_eq!(throttle.closed_until(now), None);
        throttle.spend(100_000);
        assert_eq!(throttle.closed_until(now), Some(now + WINDOW));
        assert_eq!(throttle.closed_until(now + WINDOW / 2), Some(now + WINDOW));
        assert_eq!(throttle.closed_until(now + WINDOW), None);
    }
}

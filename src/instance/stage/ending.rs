//! How an instance is made to end: asked, told, killed, each after the last one's deadline.

use std::time::{Duration, Instant};

/// A step of stopping that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The guest is asked to power off.
    Ask,
    /// QEMU is told to quit.
    Quit,
    /// QEMU is killed.
    Kill,
}

/// How far stopping has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nobody asked it to end.
    Running,
    /// The guest was asked.
    Asked { until: Instant, quit: Duration },
    /// QEMU was told.
    Told { until: Instant },
    /// Nothing more can be done.
    Killed,
}

impl Ending {
    /// Begins to stop; the step to take now, if any. A later request joins the one under way: it shortens the
    /// guest's time only in a hurry.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        patience: Duration,
        quit: Duration,
        hurry: bool,
    ) -> Option<Step> {
        match *self {
            Self::Running => {
                *self = Self::Asked { until: now + patience, quit };
                Some(Step::Ask)
            }
            Self::Asked { until, quit: before } if hurry => {
                *self = Self::Asked { until: until.min(now + patience), quit: before.min(quit) };
                None
            }
            Self::Asked { .. } | Self::Told { .. } | Self::Killed => None,
        }
    }

    /// Tells QEMU to quit without asking the guest.
    pub(super) fn quit(&mut self, now: Instant, quit: Duration) -> Option<Step> {
        match self {
            Self::Running | Self::Asked { .. } => {
                *self = Self::Told { until: now + quit };
                Some(Step::Quit)
            }
            Self::Told { .. } | Self::Killed => None,
        }
    }

    /// How long the rest may take.
    pub(super) fn left(&self, now: Instant) -> Duration {
        match self {
            Self::Running | Self::Killed => Duration::ZERO,
            Self::Asked { until, quit } => until.saturating_duration_since(now) + *quit,
            Self::Told { until } => until.saturating_duration_since(now),
        }
    }

    /// Ends without asking.
    pub(super) fn kill(&mut self) -> Step {
        *self = Self::Killed;
        Step::Kill
    }

    /// The step that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Step> {
        match *self {
            Self::Asked { until, quit } if now >= until => {
                *self = Self::Told { until: now + quit };
                Some(Step::Quit)
            }
            Self::Told { until } if now >= until => Some(self.kill()),
            _ => None,
        }
    }

    /// When the next step is due.
    pub(super) fn next(&self) -> Option<Instant> {
        match self {
            Self::Asked { until, .. } | Self::Told { until } => Some(*until),
            Self::Running | Self::Killed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ending, Step};
    use std::time::{Duration, Instant};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_step_follows_when_the_last_one_did_not_help() {
        let now = Instant::now();
        let mut ending = Ending::Running;
        assert_eq!(ending.due(now), None);
        assert_eq!(ending.begin(now, 30 * SECOND, 5 * SECOND, false), Some(Step::Ask));
        assert_eq!(ending.left(now), 35 * SECOND);
        assert_eq!(ending.due(now + 29 * SECOND), None);
        assert_eq!(ending.due(now + 30 * SECOND), Some(Step::Quit));
        assert_eq!(ending.due(now + 34 * SECOND), None);
        assert_eq!(ending.due(now + 35 * SECOND), Some(Step::Kill));
        assert_eq!((ending.due(now + 99 * SECOND), ending.next()), (None, None));
    }

    #[test]
    fn who_asks_again_joins_and_shortens_only_in_a_hurry() {
        let now = Instant::now();
        let mut ending = Ending::Running;
        ending.begin(now, 30 * SECOND, 5 * SECOND, false);
        assert_eq!(ending.begin(now, 2 * SECOND, SECOND, false), None);
        assert_eq!(ending.next(), Some(now + 30 * SECOND), "the first one's time stands");
        assert_eq!(ending.begin(now, 2 * SECOND, 9 * SECOND, true), None);
        assert_eq!(ending.next(), Some(now + 2 * SECOND));
        assert_eq!(ending.begin(now, 60 * SECOND, SECOND, true), None);
        assert_eq!(ending.next(), Some(now + 2 * SECOND));
        assert_eq!(ending.due(now + 2 * SECOND), Some(Step::Quit));
        assert_eq!(ending.next(), Some(now + 3 * SECOND));
        assert_eq!(ending.quit(now, SECOND), None, "it was told already");
    }
}

//! How long a keeper waits before it tries again.

use std::time::Duration;

/// The shortest wait.
pub const LEAST: Duration = Duration::from_secs(1);
/// The longest.
pub const MOST: Duration = Duration::from_secs(60);
/// A builder that was ready for so long has nothing to do with the failures before.
pub const FORGET: Duration = Duration::from_secs(600);

/// How often something has failed in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    failures: u32,
}

impl Retry {
    /// One more failure, and the wait after it: anything between [`LEAST`] and a limit that doubles each time, so that
    /// many builders that were lost at once do not come back at once. `chance` is a random number.
    #[must_use]
    pub fn failed(self, chance: u32) -> (Self, Duration) {
        let failures = self.failures.saturating_add(1);
        let limit = LEAST.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(MOST);
        let wait = LEAST + (limit - LEAST).mul_f64(f64::from(chance) / f64::from(u32::MAX));
        (Self { failures }, wait)
    }

    /// What is left of the failures after the builder was ready for a while.
    #[must_use]
    pub fn after(self, ready: Duration) -> Self {
        if ready >= FORGET { Self::default() } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::{FORGET, LEAST, MOST, Retry};
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn the_limit_doubles_up_to_a_minute() {
        let mut retry = Retry::default();
        let mut limits = Vec::new();
        for _ in 0..8 {
            let (next, wait) = retry.failed(u32::MAX);
            retry = next;
            limits.push(wait.as_secs());
        }
        assert_eq!(limits, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(retry.failed(0).1, LEAST);
        assert_eq!(retry.after(FORGET), Retry::default());
        assert_eq!(retry.after(FORGET - Duration::from_millis(1)), retry);
    }

    proptest! {
        #[test]
        fn every_wait_is_within_its_bounds(failures in any::<u32>(), chance in any::<u32>()) {
            let (_, wait) = Retry { failures }.failed(chance);
            prop_assert!((LEAST..=MOST).contains(&wait));
        }
    }
}

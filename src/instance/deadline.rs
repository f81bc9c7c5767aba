//! Deadlines, stretched by a variable for slow machines.

use std::time::Duration;

use crate::edge::environment::Environment;

/// The variable by which every deadline is multiplied (`3`, `0.5`).
pub const SCALE_VARIABLE: &str = "CIVM_TIMEOUT_SCALE";
/// Bounds of the factor: below, even a fast machine fails; above, there is no deadline any more.
const SCALE_RANGE: (f64, f64) = (0.05, 1000.0);

/// Longer than anybody waits, and short enough for the clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A deadline times what [`SCALE_VARIABLE`] says; unchanged where it says nothing sensible.
#[must_use]
pub fn scaled(duration: Duration, environment: &Environment) -> Duration {
    let factor = environment
        .non_empty(SCALE_VARIABLE)
        .and_then(|text| text.to_str()?.trim().parse::<f64>().ok())
        .filter(|factor| factor.is_finite())
        .unwrap_or(1.0);
    duration.min(LONGEST).mul_f64(factor.clamp(SCALE_RANGE.0, SCALE_RANGE.1))
}

#[cfg(test)]
mod tests {
    use super::{SCALE_VARIABLE, scaled};
    use crate::edge::environment::Environment;
    use std::time::{Duration, Instant};

    #[test]
    fn the_variable_stretches_and_nonsense_does_nothing() {
        let with = |value| scaled(Duration::from_secs(4), &Environment::empty().with(SCALE_VARIABLE, value));
        assert_eq!(with("2.5"), Duration::from_secs(10));
        assert_eq!(with("x"), Duration::from_secs(4));
        assert_eq!(with("NaN"), Duration::from_secs(4));
        assert_eq!(with("-1"), Duration::from_millis(200));
        assert_eq!(scaled(Duration::from_secs(4), &Environment::empty()), Duration::from_secs(4));
    }

    #[test]
    fn the_longest_deadline_is_one_that_the_clock_knows() {
        let environment = Environment::empty().with(SCALE_VARIABLE, "1000");
        assert!(Instant::now().checked_add(scaled(Duration::MAX, &environment)).is_some());
    }
}

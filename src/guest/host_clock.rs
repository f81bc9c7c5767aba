//! The host's clock, which a guest takes over.
//!
//! A guest that boots has its clock from a device that knows whole seconds; what a resumed one hears at the point is as old
//! as the machine took to go on, so it says once more that it is there. The host's answer has its time: half of what that
//! takes is how old the answer is. A host or a guest that is busy is asked again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{console, events, identity};
use crate::vm::agent::{Event, Go};

/// How often the host is asked, until it answers at once.
const ASKED: u32 = 4;
const PROMPT: Duration = Duration::from_millis(60);
/// An answer that took longer says less than the clock.
const OLD: Duration = Duration::from_secs(1);

/// What was asked, and is not answered yet.
#[derive(Debug, Default)]
pub(super) struct HostClock(Mutex<Asked>);

#[derive(Debug, Default)]
struct Asked {
    at: Option<Instant>,
    times: u32,
}

/// What follows from an answer: the host's time now, as far as it says that, and whether it is asked once more.
#[derive(Debug, PartialEq)]
struct Answered {
    unix: Option<Duration>,
    again: bool,
}

impl HostClock {
    /// The guest is about to say that it is at the point.
    pub(super) fn ask(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).at = Some(Instant::now());
    }

    /// The host has answered.
    pub(super) fn answered(&self, go: &Go) {
        let answered = self.0.lock().unwrap_or_else(PoisonError::into_inner).answered(go, Instant::now());
        let Some(answered) = answered else { return };
        if let Some(unix) = answered.unix {
            identity::set_clock(unix).unwrap_or_else(|error| console::log(&error.to_string()));
        }
        if answered.again {
            events::send(&Event::Point { uptime_ms: events::uptime_ms() });
        }
    }
}

impl Asked {
    fn answered(&mut self, go: &Go, now: Instant) -> Option<Answered> {
        let at = self.at.take();
        if go.resumed {
            // What was asked before was asked of another host.
            return None;
        }
        let took = now.saturating_duration_since(at?);
        self.times += 1;
        let again = took > PROMPT && self.times < ASKED;
        let unix = (took <= OLD).then(|| Duration::from_millis(go.unix_ms) + took / 2);
        Some(Answered { unix, again })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_guest_asks_until_the_answer_is_prompt() {
        let go = |resumed, unix_ms| Go { resumed, unix_ms, seed: [0; 4] };
        let begun = Instant::now();
        let after = |ms| begun + Duration::from_millis(ms);
        let mut asked = Asked { at: Some(begun), ..Asked::default() };
        assert_eq!(asked.answered(&go(true, 5), after(1)), None, "this host was not asked");
        assert_eq!(asked.answered(&go(false, 5), after(1)), None, "nothing was asked of this host");
        let unix = |ms| Some(Duration::from_millis(ms));
        for again in [true, true, true, false] {
            asked.at = Some(begun);
            assert_eq!(
                asked.answered(&go(false, 1000), after(200)),
                Some(Answered { unix: unix(1100), again })
            );
        }
        asked = Asked { at: Some(begun), times: 0 };
        let old = asked.answered(&go(false, 1000), after(1500));
        assert_eq!(old, Some(Answered { unix: None, again: true }));
        asked.at = Some(begun);
        assert_eq!(
            asked.answered(&go(false, 1000), after(40)),
            Some(Answered { unix: unix(1020), again: false })
        );
    }
}

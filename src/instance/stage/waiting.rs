//! Those who wait for an answer that somebody else gives: QEMU, or the guest's agent.

use std::time::Instant;

use crate::instance::stage::control::Asker;

/// Questions that may be open.
const OPEN_MAX: usize = 16;

/// Open questions: the number each has on its way to the one who answers, who wants to know, and until when.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    open: Vec<(u64, Asker, Instant)>,
}

impl Waiting {
    /// Whether one more may be asked.
    pub(super) fn has_room(&self) -> bool {
        self.open.len() < OPEN_MAX
    }

    /// Remembers who asked.
    pub(super) fn add(&mut self, id: u64, who: Asker, until: Instant) {
        self.open.push((id, who, until));
    }

    /// Who asked the question with this number.
    pub(super) fn take(&mut self, id: u64) -> Option<Asker> {
        let at = self.open.iter().position(|(open, ..)| *open == id)?;
        Some(self.open.swap_remove(at).1)
    }

    /// Those who have waited long enough.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<Asker> {
        let overdue = self.open.extract_if(.., |(.., until)| now >= *until);
        overdue.map(|(_, who, _)| who).collect()
    }

    /// All of them: nobody will answer any more.
    pub(super) fn drain(&mut self) -> Vec<Asker> {
        self.open.drain(..).map(|(_, who, _)| who).collect()
    }

    /// When the next has waited long enough.
    pub(super) fn next(&self) -> Option<Instant> {
        self.open.iter().map(|(.., until)| *until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::{OPEN_MAX, Waiting};
    use crate::instance::stage::control::Asker;
    use std::time::{Duration, Instant};

    #[test]
    fn each_answer_finds_who_asked_and_nobody_waits_for_ever() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let who = |client| Asker { client, id: 1 };
        let mut waiting = Waiting::default();
        assert_eq!(waiting.next(), None);
        for n in 0..3 {
            waiting.add(n, who(n), now + second * u32::try_from(n + 1).unwrap());
        }
        assert_eq!((waiting.take(1), waiting.take(1), waiting.take(9)), (Some(who(1)), None, None));
        assert_eq!(waiting.next(), Some(now + second));
        assert_eq!(waiting.overdue(now + second), [who(0)]);
        assert_eq!(waiting.drain(), [who(2)]);
        for n in 0.. {
            if !waiting.has_room() {
                break;
            }
            waiting.add(n, who(n), now);
        }
        assert_eq!(waiting.drain().len(), OPEN_MAX);
    }
}

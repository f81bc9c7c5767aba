//! What becomes of somebody who wants to be connected to a builder.

use super::state::Phase;

/// What the keeper does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The builder is ready.
    Connect,
    /// It is on its way: the connection waits.
    Hold,
    /// It is started, and the connection waits.
    Start,
    /// Nix goes on to another builder.
    Refuse(Refusal),
}

/// Why somebody is not connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another builder of that system is ready and has room.
    Elsewhere,
    /// It was stopped on purpose.
    Stopped,
    /// It finishes its builds, and takes no new ones.
    Draining,
    /// It failed.
    Failed,
    /// It was not ready in time.
    Late,
    /// Too many wait for it already.
    Full,
}

/// The answer for a builder in this phase. `well` says whether the machine of one that is ready answers, `elsewhere`
/// whether another builder of that system could take the build now: nix then is not kept waiting.
#[must_use]
pub fn answer(phase: &Phase, well: bool, enabled: bool, elsewhere: bool) -> Answer {
    match phase {
        Phase::Ready { .. } if well => Answer::Connect,
        Phase::Failed(_) => Answer::Refuse(Refusal::Failed),
        Phase::Draining { .. } => Answer::Refuse(Refusal::Draining),
        _ if !enabled => Answer::Refuse(Refusal::Stopped),
        _ if elsewhere => Answer::Refuse(Refusal::Elsewhere),
        Phase::Connecting
        | Phase::Preparing
        | Phase::Starting
        | Phase::Ready { .. }
        | Phase::Waiting { .. } => Answer::Hold,
        // One that stops because nobody wanted it for a while is started again.
        Phase::Idle | Phase::Stopping { .. } => Answer::Start,
    }
}

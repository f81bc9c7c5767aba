//! What happens to a builder, how far it comes, and what is to be done.

use std::time::Duration;

use super::Time;
use crate::builder::keeper::dial::Refusal;
use crate::builder::keeper::reason::Reason;
use crate::host::spec::Start;

/// What host.yaml says of a builder, as far as it decides its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When it is started.
    pub start: Start,
    /// One that is started on demand stops after so long without a connection.
    pub idle: Duration,
    /// How long a connection waits for it.
    pub hold: Duration,
    /// How many connections it may have at once; more wait.
    pub most: u32,
}

/// How far a builder has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of it is anywhere.
    Idle,
    /// It is tried again later.
    Waiting {
        /// When.
        until: Time,
        /// What went wrong.
        reason: Reason,
    },
    /// The remote is being reached.
    Connecting,
    /// The remote answers; the image and the disk are made.
    Preparing,
    /// The machine boots.
    Starting,
    /// Builds can go there.
    Ready {
        /// Since when.
        since: Time,
    },
    /// Builds that run may finish.
    Draining {
        /// Until when; without a limit where it is absent.
        until: Option<Time>,
    },
    /// The remote was told to end it.
    Stopping {
        /// How long it may take.
        until: Time,
        /// Whether the connection was cut because it took longer.
        cut: bool,
    },
    /// Somebody must do something about it.
    Failed(Reason),
}

impl Phase {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting { .. } => "waiting",
            Self::Connecting => "connecting",
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Ready { .. } => "ready",
            Self::Draining { .. } => "draining",
            Self::Stopping { .. } => "stopping",
            Self::Failed(_) => "failed",
        }
    }

    /// What went wrong last.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Waiting { reason, .. } | Self::Failed(reason) => Some(reason),
            _ => None,
        }
    }
}

/// Something that happens to a builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The keeper begins: it is started now, or on demand.
    Enable,
    /// Somebody wants it now, whatever went wrong before.
    Up,
    /// It is to stop, once its builds are done, at the latest after this time.
    Down {
        /// Without a limit where it is absent.
        within: Option<Duration>,
    },
    /// Somebody wants to be connected.
    Dial {
        /// A number of the connection's own.
        dial: u64,
        /// Whether another builder of that system could take the build now.
        elsewhere: bool,
    },
    /// Somebody who waited has gone.
    HungUp {
        /// The number of the connection.
        dial: u64,
    },
    /// A connection has ended.
    Closed,
    /// Another builder of that system is ready and has room.
    Elsewhere,
    /// Its session says something.
    Session {
        /// Which session.
        id: u64,
        /// What.
        event: Event,
    },
    /// Time has passed.
    Tick,
}

/// What a session says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The remote answers, and has what is needed.
    Reached,
    /// QEMU runs.
    Started,
    /// A login has worked, and nix answers there.
    Ready,
    /// Its machine has not answered for some time.
    Unwell,
    /// It answers again.
    Well,
    /// The session has ended, and nothing of it is left here.
    Ended {
        /// How.
        ending: Ending,
        /// A random number, for the wait before the next try.
        chance: u32,
    },
}

/// How a session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The remote says that the builder is gone.
    Gone,
    /// Something went wrong.
    Broken(Reason),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To begin a session.
    Start {
        /// Its number.
        session: u64,
    },
    /// To tell the remote that the builder is to end.
    Stop {
        /// The session.
        session: u64,
    },
    /// To cut a session's connection.
    Cut {
        /// The session.
        session: u64,
    },
    /// To connect somebody.
    Connect {
        /// The number of the connection.
        dial: u64,
    },
    /// To let somebody wait.
    Hold {
        /// The number of the connection.
        dial: u64,
    },
    /// To turn somebody away.
    Refuse {
        /// The number of the connection.
        dial: u64,
        /// Why.
        why: Refusal,
    },
}

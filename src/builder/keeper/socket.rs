//! What is said over a keeper's socket: one request for each connection, a line of JSON, and lines of JSON that answer
//! it.
//!
//! ```text
//! > {"request":"dial","builder":"big"}
//! < {"waiting":"starting on lender@h.example"}
//! < {"connected":true}                          from here on the socket is the connection
//! < {"refused":"...","kind":"failed"}           or this
//! ```
//!
//! What a side does not know, it ignores.

use serde::{Deserialize, Serialize};

use super::reason::Reason;
use crate::builder::wire::Pong;

/// The protocol that this civm speaks.
pub const PROTOCOL: u32 = 1;
/// Longest request, in bytes.
pub const REQUEST_MAX: u64 = 64 << 10;

/// What a keeper can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Who is there.
    Version,
    /// To be connected to a builder's sshd.
    Dial {
        /// Its name.
        builder: String,
    },
    /// How the builders are.
    List,
    /// To start builders, whatever went wrong before.
    Up {
        /// Their names; all where there are none.
        #[serde(default)]
        builders: Vec<String>,
    },
    /// To stop builders.
    Down {
        /// Their names; all where there are none.
        #[serde(default)]
        builders: Vec<String>,
        /// How long builds may go on, in milliseconds; as host.yaml says where it is absent.
        #[serde(default)]
        within_ms: Option<u64>,
    },
    /// To stop builders when their builds are done, however long they take.
    Drain {
        /// Their names; all where there are none.
        #[serde(default)]
        builders: Vec<String>,
    },
    /// What happened lately.
    Logs {
        /// To whom; to all where it is absent.
        #[serde(default)]
        builder: Option<String>,
        /// Whether to go on with what happens from now on.
        #[serde(default)]
        follow: bool,
    },
    /// What happens from now on.
    Events,
    /// Something of a newer civm.
    #[serde(other)]
    Unknown,
}

/// A line of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reply {
    /// The keeper's protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub civm: Option<String>,
    /// Why a connection waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The same in a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// That the socket is the connection now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
    /// The builders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builders: Option<Vec<View>>,
    /// That it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// A line of a log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<Line>,
}

/// A line of a builder's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, in seconds since the epoch.
    pub at: u64,
    /// Whose.
    pub builder: String,
    /// What.
    pub text: String,
}

/// How a builder is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Where it is made.
    pub on: String,
    /// The system that it builds for.
    pub system: String,
    /// How far it has come, in a word.
    pub state: String,
    /// What it does just now, for people.
    pub doing: String,
    /// Whether anybody wants it.
    pub wanted: bool,
    /// Since when it is ready, in seconds since the epoch.
    pub ready_since: Option<u64>,
    /// When it is tried again, in milliseconds from now.
    pub again_in_ms: Option<u64>,
    /// What went wrong.
    pub reason: Option<Reason>,
    /// Connections that are open: builds, and questions of nix.
    pub connections: u32,
    /// Connections that wait.
    pub waiting: usize,
    /// Builds at a time.
    pub max_jobs: u32,
    /// System features.
    pub features: Vec<String>,
    /// Whether nix is told of it.
    pub published: bool,
    /// What executes it, and why.
    pub accel: Option<String>,
    /// See `accel`.
    pub accel_reason: Option<String>,
    /// The remote's distribution.
    pub os: Option<String>,
    /// The version of nix in it.
    pub nix: Option<String>,
    /// Its store, as nix names it.
    pub store: String,
    /// The last answer to a ping.
    pub health: Option<Pong>,
    /// What its keeper's user should know.
    pub warnings: Vec<String>,
}

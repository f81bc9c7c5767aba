//! What a civm and the supervisor of a running instance say to each other over the control socket.
//!
//! JSON, one object a line. A request has a number and a name; its answer has the same number and a `result` or an
//! `error`. Who has asked for them is sent events as well, which have no number. Requests may be sent without waiting
//! for the answers, which come in any order. The first request is `hello`: each side says which protocol it speaks.
//!
//! ```text
//! > {"id":1,"request":"hello","protocol":1,"civm":"0.1.0"}
//! < {"id":1,"result":{"protocol":1,"civm":"0.1.0"}}
//! > {"id":2,"request":"status"}
//! < {"id":2,"result":{"health":"running","phase":"ready","run_state":"running"}}
//! > {"id":3,"request":"dance"}
//! < {"id":3,"error":{"code":"unknown-request","message":"...","protocol":1}}
//! ```
//!
//! Rules for what comes later: fields may be added to requests, results and events, and are ignored by those who do
//! not know them. Requests, events and error codes may be added. Nothing is taken away or changes its meaning without
//! another number of the protocol. What is not understood is answered, and the connection stays open.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::instance::event::{Event, Health};
use crate::instance::state::Phase;
use crate::vm::agent;
use crate::vm::ports::Forward;
use crate::vm::qmp::Block;
use crate::vm::spec::Accel;

/// The protocol that this civm speaks. Records name that of their supervisor; 0 stands for the lines without numbers
/// that the civms before it spoke.
pub const PROTOCOL: u32 = 1;
/// Longest request, in bytes.
pub(crate) const REQUEST_MAX: usize = 64 << 10;

/// What can be asked of a running instance's supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Who is there. Answer: [`Hello`].
    Hello(Hello),
    /// How the machine is. Answer: [`Status`].
    Status,
    /// What QEMU runs. Answer: [`MachineFacts`].
    Machine,
    /// To tell the guest to power off, and to insist after a while. Answer: [`Within`].
    Stop {
        /// How long the guest may take, in milliseconds.
        patience_ms: u64,
        /// How long QEMU may take after that, in milliseconds.
        quit_ms: u64,
        /// Whether this shortens the time that an earlier request gave.
        hurry: bool,
    },
    /// To end QEMU at once. Answer: [`Within`].
    Kill,
    /// To be sent events from now on. Answer: nothing in particular.
    Subscribe,
    /// To tell the guest the size of the terminal that shows its console.
    ConsoleSize {
        /// Lines of text.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
    /// To turn this connection into one with the serial console. After the answer ([`Seat`]) it carries the console's
    /// bytes, both ways.
    Console {
        /// What becomes of what is typed.
        typing: Typing,
    },
    /// To pass a question on to the guest's agent. Answer: what the guest says.
    Guest {
        /// The question.
        question: agent::Question,
        /// How long the guest may take, in milliseconds.
        within_ms: u64,
    },
    /// To replace files of the share. The supervisor says `continue` when it is ready for them; they follow as in
    /// [`plan`](crate::instance::plan), without a plan. Answer: [`StagedFiles`].
    Stage {
        /// Only until the guest has answered a question, or this connection ends; then the share is as it was. Their
        /// secrets are not staged.
        #[serde(default)]
        trial: bool,
    },
}

/// Names of the requests, for those who ask for another.
pub(crate) const REQUESTS: [&str; 10] =
    ["hello", "status", "machine", "stop", "kill", "subscribe", "console-size", "console", "guest", "stage"];

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol that is spoken.
    pub protocol: u32,
    /// The version of civm.
    pub civm: String,
}

impl Hello {
    /// This very civm.
    #[must_use]
    pub fn own() -> Self {
        Self { protocol: PROTOCOL, civm: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// How a machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// As far as QEMU answers.
    pub health: Health,
    /// How far it has come; an older civm does not say.
    pub phase: Option<Phase>,
    /// QEMU's own word for it (`running`, `paused`, `guest-panicked`, ...), where it answers.
    pub run_state: Option<String>,
}

/// What QEMU runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineFacts {
    /// QEMU's version.
    pub qemu: Option<String>,
    /// The drives in use.
    pub drives: Vec<Block>,
}

/// How long something may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Within {
    /// In milliseconds.
    pub within_ms: u64,
}

/// How many files were staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFiles {
    /// The number.
    pub files: usize,
}

/// What becomes of what somebody types who attaches to a console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Typing {
    /// Nothing: it is only looked at.
    No,
    /// It goes to the guest, unless somebody else types there already.
    Offered,
    /// It goes to the guest, and what anybody else types does not any more.
    Taken,
}

/// The place of somebody who has attached to a console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Whether what they type goes to the guest.
    pub types: bool,
    /// Whether somebody else types, or did so until now.
    pub another: bool,
}

/// A request with its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numbered {
    pub(crate) id: u64,
    #[serde(flatten)]
    pub(crate) request: Request,
}

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// The request's number; none where it had none.
    pub(crate) id: Option<u64>,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// It was done.
    Result(Value),
    /// It was not.
    Error(Failure),
    /// It goes on: files may be sent.
    Continue(bool),
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of reason.
    pub code: Code,
    /// The reason, for people.
    pub message: String,
    /// The protocol that the answering side speaks.
    #[serde(default)]
    pub protocol: u32,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), protocol: PROTOCOL }
    }
}

/// Kinds of reasons why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// It was not a request.
    Malformed,
    /// The other side does not know such a request: it is an older or a newer civm.
    UnknownRequest,
    /// The machine has not come so far, or is on its way down.
    NotReady,
    /// The guest or QEMU did not answer in time.
    NoAnswer,
    /// Too many ask for it.
    Busy,
    /// It was tried, and failed.
    Failed,
    /// A code that this civm does not know.
    #[serde(other)]
    Unknown,
}

/// The event as it goes over a socket: a name and its facts. The compiler sees that no event is left out.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Event", tag = "event", rename_all = "kebab-case")]
enum Shape {
    Accel { accel: Accel, reason: String },
    Warning { message: String },
    Opened { namespaces: bool, runtime: PathBuf },
    Unavailable { reason: String },
    Busy,
    Staged { files: usize },
    Started { accel: Accel, forwards: Vec<Forward> },
    Resumed,
    Frozen,
    Guest { report: agent::Event },
    KeyRemoved,
    Rebooting,
    Panicked { message: String },
    Stopping { reason: String, within_ms: u64 },
    Insisting { how: String },
    Ended { reason: String, clean: bool },
}

#[derive(Serialize)]
struct Told<'a>(#[serde(with = "Shape")] &'a Event);

#[derive(Deserialize)]
struct Heard(#[serde(with = "Shape")] Event);

/// An event as a line.
pub(crate) fn event_line(event: &Event) -> Vec<u8> {
    line(&Told(event))
}

/// The event that a line holds; `None` where it is not one that this civm knows.
pub(crate) fn event(line: &[u8]) -> Option<Event> {
    serde_json::from_slice(line).ok().map(|Heard(event)| event)
}

/// Anything of this protocol as a line.
pub(crate) fn line(value: &impl Serialize) -> Vec<u8> {
    // Its types have no way to fail; an empty line says nothing and harms nobody.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

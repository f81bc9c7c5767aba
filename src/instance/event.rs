//! What happens to an instance, in the order in which it happens.
//!
//! This is what civm's own code handles and what a terminal is shown. What goes over a socket is in
//! [`wire`](crate::instance::wire); what the log of events holds is in the stage's journal.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::vm::agent;
use crate::vm::ports::Forward;
use crate::vm::spec::Accel;

/// Something that happened to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The accelerator was chosen.
    Accel {
        /// Which one.
        accel: Accel,
        /// Why.
        reason: String,
    },
    /// Something the user should know, and the start goes on.
    Warning {
        /// What.
        message: String,
    },
    /// The stage has a place for the files.
    Opened {
        /// Whether it is in namespaces of its own.
        namespaces: bool,
        /// The instance's directory in memory.
        runtime: PathBuf,
    },
    /// The stage has no such place as was asked for.
    Unavailable {
        /// Why.
        reason: String,
    },
    /// Another stage of this instance lives.
    Busy,
    /// The files lie in the share.
    Staged {
        /// How many.
        files: usize,
    },
    /// QEMU runs.
    Started {
        /// What executes the guest, as QEMU says.
        accel: Accel,
        /// The forwards, with the ports that were chosen.
        forwards: Vec<Forward>,
    },
    /// The guest goes on where its template was frozen, instead of booting.
    Resumed,
    /// The machine stands at its guest's one point, and its state is written: a template.
    Frozen,
    /// The guest reported.
    Guest {
        /// What.
        report: agent::Event,
    },
    /// The guest's staged key has been taken back.
    KeyRemoved,
    /// The guest reset, and boots again.
    Rebooting,
    /// The guest's kernel panicked. The machine stands still, so that one can look at it.
    Panicked {
        /// What the kernel wrote on its console.
        message: String,
    },
    /// The instance was asked to stop, now or before.
    Stopping {
        /// By whom or what.
        reason: String,
        /// How long it may take at most, in milliseconds.
        within_ms: u64,
    },
    /// A polite way of stopping did not help.
    Insisting {
        /// What is tried now.
        how: String,
    },
    /// QEMU is gone.
    Ended {
        /// How it ended.
        reason: String,
        /// Whether that was wanted, by the guest or by us.
        clean: bool,
    },
}

/// How a running machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It runs.
    Running,
    /// QEMU has stopped it.
    Paused,
    /// QEMU does not answer, or its supervisor.
    Frozen,
    /// Its kernel panicked.
    Panicked,
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Frozen => "frozen",
            Self::Panicked => "panicked",
        })
    }
}

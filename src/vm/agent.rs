//! What a guest tells its host: one JSON object a line over a virtio-serial port.

use serde::{Deserialize, Serialize};

/// Name of the virtio-serial port; in the guest `/sys/class/virtio-ports/*/name` holds it.
pub const PORT: &str = "civm.agent";

/// One line from the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// PID 1 of the initrd runs; the accelerator probe ends here.
    Started {
        /// Milliseconds since the guest's kernel started.
        uptime_ms: u64,
    },
    /// The point before which nothing is particular to the instance has been passed.
    Point {
        /// Milliseconds since the guest's kernel started.
        uptime_ms: u64,
    },
    /// The guest holds its own copy of the staged host key: the host removes its file now.
    KeyTaken,
    /// The host layer is applied.
    LayerApplied,
    /// Secrets lie in `/run/secrets`.
    SecretsInstalled {
        /// How many.
        count: usize,
        /// The age recipient that the host key stands for.
        recipient: String,
    },
    /// Something went wrong, yet the boot goes on.
    Warning {
        /// What, without any secret value.
        message: String,
    },
    /// The boot cannot reach readiness.
    Failed {
        /// What, without any secret value.
        message: String,
    },
    /// sshd answers and every unit of the layer has been started.
    Ready {
        /// Milliseconds since the guest's kernel started.
        uptime_ms: u64,
    },
}

/// One line to the guest, over the same port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// To power off in good order. The ACPI power button says the same to guests that listen to it.
    PowerOff,
}

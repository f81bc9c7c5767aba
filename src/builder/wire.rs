//! What a keeper of builders and the civm on a remote say to each other, over ssh's pipe.
//!
//! The remote begins with the line [`GREETING`]; what a login shell says before it is noise. After that both sides send
//! frames: a length of four bytes, most significant first, and a JSON object. An [`ToRemote::Entries`] is followed by
//! the files of the share as [`plan`](crate::instance::plan) sends them, an [`ToRemote::ImageFile`] by its bytes.
//! An image is sent when the remote asks for it, which may be at any time before the machine is started: first the list
//! of its files, then the files (see [`sent`](crate::image::sent)). The remote waits for it with the start.
//!
//! ```text
//! remote  civm-remote 1
//! keeper  {"say":"hello", ...}         who asks, for what, and how long silence is borne
//! remote  {"say":"facts", ...}         what the machine is, has and lacks
//! remote  {"say":"need-image"}         only where it has none and cannot build one
//! keeper  {"say":"image-file", ...} + bytes …
//! keeper  {"say":"entries"} + files    the host key, the layer, files laid over the image
//! keeper  {"say":"start"}
//! remote  {"say":"progress", ...} …    image, disk, boot
//! remote  {"say":"started", "port":…}
//! remote  {"say":"ready"}
//! keeper  {"say":"ping","n":1}  …      remote {"say":"pong","n":1, ...}
//! keeper  {"say":"stop","now":false}
//! remote  {"say":"gone", ...}          and the end of the pipe
//! ```
//!
//! Secrets are in entries only. What a side does not know, it ignores; a protocol that it does not know, it refuses.

use serde::{Deserialize, Serialize};

use crate::host::parcel::Order;
use crate::host::spec::{Arch, Require};
use crate::vm::spec::Accel;

mod bounded;

/// The protocol that this civm speaks.
pub const PROTOCOL: u32 = 1;
/// The remote's first line, without the protocol's number.
pub const GREETING: &str = "civm-remote";
/// The most bytes of noise before the greeting.
pub const NOISE_MAX: usize = 64 << 10;
/// How often a keeper sends a ping.
pub const PING_MS: u64 = 5_000;

/// Who wants a builder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Random hex digits of the keeper's life.
    pub keeper: String,
    /// The keeper's machine.
    pub host: String,
    /// The project, or the controller's name.
    pub project: String,
    /// The builder's name.
    pub builder: String,
}

/// What a keeper says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum ToRemote {
    /// The first word.
    Hello {
        /// The protocol that is spoken.
        protocol: u32,
        /// The version of civm.
        civm: String,
        /// Who asks.
        owner: Owner,
        /// How long the remote bears silence, in milliseconds.
        ttl_ms: u64,
        /// The machine that is wanted; none by those who only look.
        order: Option<Order>,
        /// What may execute it.
        require: Require,
        /// The name of an image that the keeper could send.
        image: Option<String>,
    },
    /// The files of the share follow.
    Entries,
    /// A file of the image follows.
    ImageFile {
        /// Its name in the image's directory.
        name: String,
        /// Its length, in bytes.
        size: u64,
        /// Its SHA-256, as hex digits.
        sha256: String,
    },
    /// To start the machine.
    Start,
    /// A sign of life, which is answered.
    Ping {
        /// Its number.
        n: u64,
    },
    /// To end the machine: at once, or with a word to the guest.
    Stop {
        /// Without a word to the guest.
        now: bool,
    },
    /// To remove what outlives builders: leases without a holder, pushed binaries, images.
    Purge {
        /// Only to tell what would be removed.
        dry_run: bool,
    },
    /// Something of a newer keeper.
    #[serde(other)]
    Unknown,
}

/// What a remote says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum FromRemote {
    /// What the machine is.
    Facts(Facts),
    /// The image is not there and cannot be built: the keeper sends it.
    NeedImage,
    /// How far it has come.
    Progress {
        /// With what, for people.
        phase: String,
        /// Bytes or steps that are done, and of how many, where that is known.
        done: Option<u64>,
        /// See `done`.
        total: Option<u64>,
    },
    /// QEMU runs.
    Started {
        /// The port of the remote's loopback that leads to the guest's sshd.
        port: u16,
        /// What executes the machine.
        accel: Accel,
        /// Why.
        reason: String,
    },
    /// The guest says that it is ready.
    Ready,
    /// An answer to a ping.
    Pong(Pong),
    /// Something that the user should know.
    Warning {
        /// What.
        message: String,
    },
    /// It does not work. `Gone` follows.
    Failed {
        /// What kind of reason.
        kind: Kind,
        /// The reason.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// What was or would be removed by a purge.
    Purged {
        /// Paths.
        paths: Vec<String>,
        /// Bytes.
        bytes: u64,
    },
    /// The machine is gone, and all that belonged to it.
    Gone {
        /// Why.
        reason: String,
        /// What could not be removed.
        left: Vec<String>,
    },
    /// Something of a newer civm.
    #[serde(other)]
    Unknown,
}

/// What a remote is, has and lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The version of civm there.
    pub civm: String,
    /// The kind of machine.
    pub arch: Arch,
    /// The distribution, for people (`Debian GNU/Linux 12`).
    pub os: String,
    /// Number of processors.
    pub cpus: u32,
    /// Memory that can be had, in MiB.
    pub memory_mib: u64,
    /// Free space where images and disks are kept, in MiB.
    pub disk_mib: u64,
    /// What would execute the machine, where there is anything.
    pub accel: Option<Accel>,
    /// Why.
    pub accel_reason: String,
    /// Everything that is missing for the machine that is wanted, each with its remedy.
    pub missing: Vec<Missing>,
    /// The image.
    pub image: ImageState,
    /// Leases without a holder that were swept.
    pub swept: Vec<String>,
    /// Leases that others hold, for a look from afar.
    pub leases: Vec<Lease>,
    /// What outlives builders: images and pushed binaries, with their bytes.
    pub kept: Vec<(String, u64)>,
}

/// A builder's record on a remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its name.
    pub id: String,
    /// Whose it is.
    pub owner: Owner,
    /// Since when, in seconds since the epoch.
    pub since: u64,
    /// Its address on the remote, once QEMU runs.
    pub port: Option<u16>,
}

/// Something that a remote lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What kind of thing.
    pub kind: Kind,
    /// What.
    pub what: String,
    /// What to do about it, on this very machine.
    pub remedy: String,
}

/// An image on a remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageState {
    /// It is in the cache.
    Present,
    /// It can be built.
    Buildable,
    /// It is not there, and cannot be built.
    Absent,
    /// None is wanted.
    None,
}

/// How a builder is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The ping's number.
    pub n: u64,
    /// Whether QEMU answers.
    pub qemu: bool,
    /// Whether the guest's agent answers.
    pub agent: bool,
    /// Free space of the guest's disk, in MiB.
    pub disk_free_mib: Option<u64>,
    /// Whether nothing can be written to it any more.
    #[serde(default)]
    pub disk_read_only: bool,
    /// Average load of the guest over a minute, in hundredths.
    pub load_centi: Option<u32>,
    /// Free space of the remote's disk, in MiB.
    pub remote_disk_free_mib: Option<u64>,
}

/// Kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The protocol is not known.
    Protocol,
    /// The machine is of another kind.
    Arch,
    /// Programs are missing.
    Tools,
    /// KVM does not work.
    Kvm,
    /// Not enough memory.
    Memory,
    /// Not enough disk.
    Disk,
    /// Its directories cannot be written to, however much room there is.
    State,
    /// No image.
    Image,
    /// The packages of an image cannot be fetched.
    Archive,
    /// The guest did not come up.
    Boot,
    /// The machine ended.
    Ended,
    /// Anything else.
    #[serde(other)]
    Internal,
}

impl Kind {
    /// That of several things that are missing: the first that does not come by itself.
    #[must_use]
    pub fn of(missing: &[Missing]) -> Option<Self> {
        let lasting = missing.iter().find(|missing| missing.kind != Self::Disk);
        lasting.or(missing.first()).map(|missing| missing.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_side_does_not_know_is_nothing_to_it() {
        let heard: ToRemote = serde_json::from_str(r#"{"say":"dance","steps":[1]}"#).unwrap();
        assert_eq!(heard, ToRemote::Unknown);
        let heard: FromRemote = serde_json::from_str(r#"{"say":"dance","steps":[1]}"#).unwrap();
        assert_eq!(heard, FromRemote::Unknown);
        let failed = r#"{"say":"failed","kind":"weather","message":"it rains","hint":null,"more":1}"#;
        let heard: FromRemote = serde_json::from_str(failed).unwrap();
        assert!(matches!(heard, FromRemote::Failed { kind: Kind::Internal, .. }));
    }
}

//! What somebody asks for when an instance is brought up, as far as it is not in host.yaml.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::spec::{Resources, Size};
use crate::image::nixos::Reference;
use crate::instance::Place;
use crate::instance::accel::AccelRequest;
use crate::lifecycle::Error;
use crate::lifecycle::kept::Kept;
use crate::lifecycle::warm::Warm;
use crate::vm::ports::Forward;

/// Where the request of an instance's last start is kept, in its state directory.
pub(super) const FILE: Kept = Kept { file: "request.json", remedy: written_by_up };

/// What somebody asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// A host, or an instance that exists.
    pub host: String,
    /// The instance's name; the host's where nothing is said.
    pub name: Option<String>,
    /// The configuration that the host is, where it is one of a flake and the project has no host.yaml for it.
    pub flake: Option<Reference>,
    /// Number of processors.
    pub cpus: Option<u32>,
    /// Memory, in MiB.
    pub memory_mib: Option<u64>,
    /// Size of the disk, in MiB.
    pub disk_mib: Option<u64>,
    /// Forwards: each takes the place of those that lead to the same port of the guest.
    pub forwards: Vec<Forward>,
    /// A disk that goes with the run.
    pub ephemeral: bool,
    /// The disk that exists is removed first.
    #[serde(skip)]
    pub fresh: bool,
    /// The guest gets no secrets.
    pub without_secrets: bool,
    /// What executes it.
    pub accel: AccelRequest,
    /// Root's QEMU stays root.
    pub qemu_as_root: bool,
    /// Arguments for QEMU after all others.
    pub qemu_arguments: Vec<String>,
    /// Whether it is resumed from a template. It counts for this start only.
    #[serde(skip)]
    pub warm: Warm,
    /// How long the guest may take to be ready, before `CIVM_TIMEOUT_SCALE`.
    pub ready_within: Option<Duration>,
}

impl Request {
    /// The resources that take the place of host.yaml's.
    pub(super) fn resources(&self) -> Resources {
        Resources {
            cpus: self.cpus,
            memory: self.memory_mib.map(Size::mebibytes),
            disk: self.disk_mib.map(Size::mebibytes),
            forwards: self.forwards.clone(),
        }
    }

    /// The resources that it asks for, in all else another one.
    pub(super) fn over(self, last: &Self) -> Self {
        Self {
            cpus: self.cpus.or(last.cpus),
            memory_mib: self.memory_mib.or(last.memory_mib),
            disk_mib: self.disk_mib.or(last.disk_mib),
            forwards: if self.forwards.is_empty() { last.forwards.clone() } else { self.forwards },
            ..last.clone()
        }
    }

    /// Keeps it for a restart.
    pub(super) fn save(&self, place: &Place) -> Result<(), Error> {
        FILE.save(place, self)
    }

    /// That of an instance's last start, if there was one.
    pub(super) fn last(place: &Place) -> Result<Option<Self>, Error> {
        FILE.load(place)
    }
}

/// What to do about a damaged file that every start writes.
pub(super) fn written_by_up(name: &str) -> String {
    format!("`civm up {name}` writes it anew, once the instance is down")
}

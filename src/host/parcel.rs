//! A host as it travels to a machine that has no project: the machine that it wants, and what its guest is told.

use serde::{Deserialize, Serialize};

use super::compose::{self, Facts};
use super::layer::Layer;
use super::spec::{Arch, Deployed, MachineType, Spec};
use crate::vm::network::Network;

/// Where the share of a controller has what its builders are made of: `NAME/parcel.json` and `NAME/rootfs/`.
pub const BUILDERS: &str = "host/builders";
/// The parcel of one of them, below its directory.
pub const PARCEL: &str = "parcel.json";
/// The files laid over its image, below its directory.
pub const ROOTFS: &str = "rootfs";

/// What a builder is made of, besides the files laid over its image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// Where and how it is to be made.
    pub builder: Deployed,
    /// The machine.
    pub machine: Order,
    /// What the guest is told, without what is an instance's own.
    pub layer: Layer,
}

/// A machine as its host wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The host's name.
    pub host: String,
    /// The kind of machine.
    pub arch: Arch,
    /// QEMU's type of the machine.
    pub machine_type: MachineType,
    /// Number of processors.
    pub cpus: u32,
    /// Main memory, in MiB.
    pub memory_mib: u64,
    /// Size of the disk, in MiB.
    pub disk_mib: u64,
    /// What the guest may reach.
    pub network: Network,
    /// Release of the image's distribution; the machine's own where it is absent.
    pub suite: Option<String>,
    /// Packages of the image besides those that every image holds.
    pub packages: Vec<String>,
    /// Whether what the serial console shows is written down as long as the machine runs.
    pub console_log: bool,
}

impl Parcel {
    /// What `builder` is made of; `spec` is the host that it is a machine of.
    #[must_use]
    pub fn of(builder: Deployed, spec: &Spec) -> Self {
        let mut layer = compose::layer(spec, &Facts::default());
        // The place of civm's own key, which the keeper of builders has.
        layer.root_authorized_keys.retain(|line| !line.is_empty());
        Self { builder, machine: Order::of(spec), layer }
    }
}

impl Order {
    /// The machine that a host describes.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        Self {
            host: spec.name.clone(),
            arch: spec.arch,
            machine_type: spec.machine_type,
            cpus: spec.cpus,
            memory_mib: spec.memory.in_mebibytes(),
            disk_mib: spec.disk.in_mebibytes(),
            network: spec.network,
            suite: spec.image.suite.clone(),
            packages: spec.image.packages.clone(),
            console_log: spec.console_log,
        }
    }
}

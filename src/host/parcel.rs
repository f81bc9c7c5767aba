//! A host as it travels to a machine that has no project: the machine that it wants, and what its guest is told.

use serde::{Deserialize, Serialize};

use super::compose::{self, Facts};
use super::error::Error;
use super::layer::Layer;
use super::project::Project;
use super::rootfs;
use super::spec::{Arch, Deployed, MachineType, Spec};
use crate::vm::network::Network;

/// Where the share of a controller has what its builders are made of: `NAME/parcel.json` and `NAME/rootfs/`.
pub const BUILDERS: &str = "host/builders";
/// The parcel of one of them, below its directory.
pub const PARCEL: &str = "parcel.json";
/// The files laid over its image, below its directory.
pub const ROOTFS: &str = "rootfs";
/// Where the share of a controller has civm's binary for machines of another kind than its own: `ARCH/civm`.
pub const BINARIES: &str = "host/civm";

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

/// A parcel with the files that go with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The parcel.
    pub parcel: Parcel,
    /// The files laid over its image.
    pub rootfs: Vec<rootfs::Entry>,
    /// Names of the secrets that its host has and it is not given.
    pub secrets: Vec<String>,
}

/// What the builders are made of that a host of a project deploys.
///
/// # Errors
/// A host.yaml that is not valid, or files that cannot be read.
pub fn packed(project: &Project, spec: &Spec) -> Result<Vec<Packed>, Error> {
    let deployed = spec.nix.as_ref().map_or(&[][..], |nix| &nix.deployed);
    let pack = |builder: &Deployed| {
        let spec = project.load(&builder.host, builder.arch)?;
        let secrets = spec.secrets.iter().map(|secret| secret.name.clone()).collect();
        let rootfs = project.rootfs(&spec)?;
        Ok(Packed { parcel: Parcel::of(builder.clone(), &spec), rootfs, secrets })
    };
    deployed.iter().map(pack).collect()
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
    ///
    /// It gets no secrets: its host key is made anew and opens none, and where it is made belongs to somebody else. Nor
    /// does it get the project's source.
    #[must_use]
    pub fn of(builder: Deployed, spec: &Spec) -> Self {
        let mut spec = Spec { source: false, ..spec.clone() };
        spec.leave_out_secrets();
        let mut layer = compose::layer(&spec, &Facts::default());
        // The place of civm's own key, which the keeper of builders has.
        layer.root_authorized_keys.retain(|line| !line.is_empty());
        Self { builder, machine: Order::of(&spec), layer }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parcel_has_nothing_of_its_controller_and_no_secrets() {
        let dir = tempfile::tempdir().expect("a project");
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJKgz+PLpbRnMpiPUnFsbLXwSc/ypyGKJ1Bt3mXDsFPq";
        let controller = format!(
            "nix: {{builders: {{b: {{deploy: builder, arch: aarch64, on: u@h, on_public_key: {key}}}}}}}\n"
        );
        let builder = "cpus: {x86_64: 40, aarch64: 20}\nmemory: 40G\nsource: true\nforwards: {ssh: 2322}\n\
            secrets: [token]\nusers: {vm: {}, root: {authorized_keys: [KEY]}}\nnix: {trusted_users: [vm]}\n";
        let files = [
            ("controller/host.yaml", controller.as_str()),
            ("builder/host.yaml", &builder.replace("KEY", key)),
            ("builder/secrets.yaml", "token: x\n"),
            ("builder/rootfs/etc/motd", "hello\n"),
        ];
        for (path, text) in files {
            let path = dir.path().join("hosts").join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let project = Project::at(dir.path()).expect("a project");
        let spec = project.load("controller", Arch::X86_64).expect("a host");
        let [packed] = &packed(&project, &spec).expect("parcels")[..] else { panic!("one builder") };
        let Parcel { builder, machine, layer } = &packed.parcel;
        assert_eq!((builder.name.as_str(), builder.max_jobs), ("b", Some(4)));
        assert_eq!((machine.arch, machine.cpus, machine.memory_mib), (Arch::Aarch64, 20, 40 * 1024));
        assert_eq!(packed.secrets, ["token"]);
        assert!(!layer.secrets && !layer.source && layer.groups.is_empty());
        assert_eq!(layer.root_authorized_keys, [key]);
        assert!(layer.files.contains_key("/etc/ssh/civm.d/builder.conf"));
        let paths: Vec<_> = packed.rootfs.iter().map(|entry| entry.path.display().to_string()).collect();
        assert_eq!(paths, ["etc", "etc/motd"]);
        let text = serde_json::to_string(&packed.parcel).expect("JSON");
        assert_eq!(serde_json::from_str::<Parcel>(&text).expect("a parcel"), packed.parcel);
        assert!(
            crate::host::parcel::packed(&project, &project.load("builder", Arch::X86_64).expect("a host"))
                .expect("none")
                .is_empty()
        );
    }
}

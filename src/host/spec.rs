//! The validated description of a host: what `host.yaml` says, with its defaults, for one kind of machine.

use std::collections::BTreeMap;
use std::path::PathBuf;

pub mod load;

mod bounded;
mod check;
mod check_artifacts;
mod check_builders;
mod check_deployed;
mod check_image;
mod check_nix;
mod check_secrets;
mod check_services;
mod check_system;
mod check_templates;
mod check_users;
mod deployed;
mod locate;
mod raw;
pub mod tuning;
mod units;

use crate::store::Format;
use crate::vm::network::Network;
use crate::vm::ports::Forward;
pub use crate::vm::spec::{Arch, MachineType};
pub use check_artifacts::{check_sha256, check_url};
pub use check_templates::placeholder;
pub use deployed::{Deployed, Remote, Require, Start};
#[cfg(test)]
pub(super) use raw::shapes;
pub use units::Size;

use super::layer;

/// A valid host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name: that of its directory, and the guest's host name.
    pub name: String,
    /// One line on what it is for.
    pub description: Option<String>,
    /// The hosts that it extends, the nearest first.
    pub extends: Vec<String>,
    /// The kind of machine.
    pub arch: Arch,
    /// QEMU's type of the machine.
    pub machine_type: MachineType,
    /// What it boots.
    pub image: Image,
    /// Number of processors.
    pub cpus: u32,
    /// Main memory.
    pub memory: Size,
    /// Size of the disk, which grows as data is added.
    pub disk: Size,
    /// Ports of the machine that lead into the guest.
    pub forwards: Vec<Forward>,
    /// What the guest may reach.
    pub network: Network,
    /// The host whose `secrets.yaml` is this host's: its own, else that of the nearest host it extends. It holds
    /// the ssh host key as well.
    pub secrets_host: Option<String>,
    /// The secrets that are installed in the guest.
    pub secrets: Vec<Secret>,
    /// Further encrypted files of the project that they are in, by path.
    pub sops_files: BTreeMap<String, Vec<u8>>,
    /// Files that are put together from them in the guest.
    pub templates: Vec<Template>,
    /// Keys of that file that are not among them, the host key apart.
    pub unlisted_secrets: Vec<String>,
    /// Ordinary users.
    pub users: Vec<layer::User>,
    /// `authorized_keys` lines that log in as root.
    pub root_authorized_keys: Vec<String>,
    /// Units of the image to start.
    pub services: Vec<String>,
    /// Units to write.
    pub units: BTreeMap<String, layer::Unit>,
    /// Files to write.
    pub files: BTreeMap<String, layer::File>,
    /// Files from the net to lay over the image.
    pub artifacts: Vec<Artifact>,
    /// `sysctl` keys and values.
    pub sysctls: BTreeMap<String, String>,
    /// Compressed swap in memory.
    pub zram: Option<layer::Zram>,
    /// Nix configuration, where the host has any.
    pub nix: Option<Nix>,
    /// Public keys of other machines, by host name (`host` or `[host]:port`).
    pub known_hosts: BTreeMap<String, Vec<String>>,
    /// The guest's host name, where it is not the host's.
    pub hostname: Option<String>,
    /// Its time zone, such as `Europe/Helsinki`; the image's where it is absent.
    pub timezone: Option<String>,
    /// Whether root gets a shell on the serial console.
    pub console_login: bool,
    /// Whether what the serial console shows is written down as long as the machine runs, and not only until it is
    /// ready.
    pub console_log: bool,
    /// Whether the project's source is shared with the guest.
    pub source: bool,
}

/// Port of sshd in a guest.
pub const SSH_PORT: u16 = 22;

/// Resources that take the place of host.yaml's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Number of processors.
    pub cpus: Option<u32>,
    /// Main memory.
    pub memory: Option<Size>,
    /// Size of the disk.
    pub disk: Option<Size>,
    /// Forwards: each takes the place of those that lead to the same port of the guest.
    pub forwards: Vec<Forward>,
}

impl Spec {
    /// The NixOS configuration that it is a machine of, if it is one.
    #[must_use]
    pub fn nixos(&self) -> Option<&Nixos> {
        match &self.image.provider {
            Provider::Nixos(nixos) => Some(nixos),
            Provider::Debian => None,
        }
    }

    /// The same host without its secrets, as it boots where nobody can open them.
    pub fn leave_out_secrets(&mut self) {
        self.secrets.clear();
        self.templates.clear();
        self.sops_files.clear();
    }

    /// The same with other resources, where they are given.
    ///
    /// # Errors
    /// More than a machine can have, or less than a guest needs.
    pub fn with_resources(mut self, other: &Resources) -> Result<Self, String> {
        if let Some(cpus) = other.cpus {
            if !(1..=check::CPUS_MAX).contains(&cpus) {
                return Err(format!("{cpus} processors: a machine can have 1 to {}", check::CPUS_MAX));
            }
            self.cpus = cpus;
        }
        if let Some(memory) = other.memory {
            let (least, most) = (check::MEMORY_MIN, check::MEMORY_MAX);
            if !(least..=most).contains(&memory) {
                return Err(format!("{memory} of memory: a machine can have {least} to {most}"));
            }
            self.memory = memory;
        }
        if let Some(disk) = other.disk {
            let (least, most) = (check::DISK_MIN, check::DISK_MAX);
            if !(least..=most).contains(&disk) {
                return Err(format!("a disk of {disk}: it can be {least} to {most}"));
            }
            self.disk = disk;
        }
        self.forwards.retain(|old| other.forwards.iter().all(|new| new.guest_port != old.guest_port));
        for forward in &other.forwards {
            if self.forwards.iter().any(|known| known.clashes(forward)) {
                return Err(format!("port {} is forwarded twice", forward.host_port));
            }
            self.forwards.push(*forward);
        }
        Ok(self)
    }
}

/// Reads a forward as host.yaml has it: `[[ADDRESS:]HOST_PORT:]PORT`, with `auto` for a free port of the host.
///
/// # Errors
/// It is not one.
pub fn parse_forward(text: &str) -> Result<Forward, String> {
    check::forward(None, text)
}

/// What a host boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What makes the image.
    pub provider: Provider,
    /// Release of the distribution; the machine's own where it is absent.
    pub suite: Option<String>,
    /// Packages besides those that every image holds.
    pub packages: Vec<String>,
}

/// Whether a name can be that of a package; host.yaml and whoever builds an image agree on it.
#[must_use]
pub fn is_package(name: &str) -> bool {
    check_image::is_package(name)
}

/// Whether a name can be that of a release of the distribution.
#[must_use]
pub fn is_suite(name: &str) -> bool {
    check_image::is_suite(name)
}

/// What makes an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Debian packages, by mmdebstrap.
    Debian,
    /// A NixOS configuration of a flake: all that is in the guest is its own.
    Nixos(Box<Nixos>),
}

/// A NixOS configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nixos {
    /// The flake, as nix is told it; below the project where it begins with a dot.
    pub flake: String,
    /// The name among its `nixosConfigurations`.
    pub configuration: String,
    /// What counts in place of the configuration's own resources.
    pub given: Resources,
    /// The encrypted file of its secrets with its path, once the configuration was asked for it.
    pub sops: Option<(PathBuf, Vec<u8>)>,
}

/// A secret that is installed in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Its path below `/run/secrets`.
    pub name: String,
    /// The encrypted file, below the project; the host's own where there is none.
    pub file: Option<String>,
    /// The format of that file.
    pub format: Format,
    /// Its key in the encrypted file, `/` between levels; empty for a whole file.
    pub key: String,
    /// Name of its owner.
    pub owner: String,
    /// Name of its group.
    pub group: String,
    /// Permission bits.
    pub mode: u32,
    /// Where a link to it is wanted.
    pub path: Option<String>,
    /// Units to restart when it changes.
    pub restart_units: Vec<String>,
    /// Units to reload when it changes.
    pub reload_units: Vec<String>,
}

/// A file that is put together from secrets in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its path below `/run/secrets/rendered`.
    pub name: String,
    /// Its text, with `<secret:NAME>` where a secret is to stand.
    pub content: String,
    /// Name of its owner.
    pub owner: String,
    /// Name of its group.
    pub group: String,
    /// Permission bits.
    pub mode: u32,
    /// Where a link to it is wanted.
    pub path: Option<String>,
    /// Units to restart when it changes.
    pub restart_units: Vec<String>,
    /// Units to reload when it changes.
    pub reload_units: Vec<String>,
}

/// Files from the net.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Where they come from.
    pub source: ArtifactSource,
    /// What is known of them in the guest; of a list, the destination is a pattern.
    pub layer: layer::Artifact,
}

/// Where files from the net come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArtifactSource {
    /// One, from a URL.
    Url {
        /// The URL, https.
        url: String,
        /// Its SHA-256, as hex digits.
        sha256: String,
    },
    /// All that a file beside host.yaml lists.
    List(String),
}

/// Nix configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nix {
    /// Users that the daemon trusts besides root.
    pub trusted_users: Vec<String>,
    /// Builds at a time on the machine itself.
    pub max_jobs: Option<Jobs>,
    /// Processors that a build may use.
    pub cores: Option<Jobs>,
    /// Binary caches; nix's own default where it is absent.
    pub substituters: Option<Vec<String>>,
    /// Keys that sign what comes from the caches.
    pub trusted_public_keys: Vec<String>,
    /// Experimental features that are switched on.
    pub experimental_features: Vec<String>,
    /// Whether builds run in a sandbox.
    pub sandbox: bool,
    /// Whether remote builders fetch from caches themselves.
    pub builders_use_substitutes: bool,
    /// How long a connection to a cache may take, in seconds.
    pub connect_timeout: Option<u32>,
    /// Lines of a failed build's log that are shown.
    pub log_lines: Option<u32>,
    /// The least free space of the store's disk; below it, Nix removes what nobody uses.
    pub min_free: Option<Free>,
    /// How much free space it makes then.
    pub max_free: Option<Free>,
    /// Features that builds may ask for; Nix's own where they are absent.
    pub system_features: Option<Vec<String>>,
    /// Further kinds of systems that it builds for.
    pub extra_platforms: Vec<String>,
    /// Further lines of nix.conf.
    pub extra: Vec<String>,
    /// Remote builders.
    pub builders: Vec<Builder>,
    /// Remote builders that are made on demand.
    pub deployed: Vec<Deployed>,
}

/// A number of builds at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jobs {
    /// As many as there are processors.
    Auto,
    /// So many; none means that everything is built elsewhere.
    Count(u32),
}

/// Free space of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Free {
    /// As the disk's size suggests.
    Auto,
    /// So much.
    Size(Size),
}

/// A remote builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Builder {
    /// The name that Nix calls it by; an ssh alias where the port is not 22.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// Port of its sshd.
    pub port: u16,
    /// What it builds (`x86_64-linux`).
    pub systems: Vec<String>,
    /// The user to log in as.
    pub user: String,
    /// Name of the secret that is the private key.
    pub key: String,
    /// Builds at a time.
    pub max_jobs: u32,
    /// How fast it is, compared with others.
    pub speed: u32,
    /// System features that it has.
    pub features: Vec<String>,
    /// System features that a build must ask for.
    pub mandatory_features: Vec<String>,
    /// Its host key, `type base64`.
    pub public_key: String,
}

#[cfg(test)]
mod tests;

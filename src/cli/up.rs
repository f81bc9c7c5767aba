//! `civm up` and `civm restart`.

use clap::{Args, ValueEnum};

use super::values::{megabytes, port};
use crate::vm::ports::Forward;

/// `civm up HOST`.
#[derive(Args, Clone, Debug)]
pub struct Up {
    /// The host: a directory in hosts/; or an instance that exists; or a NixOS configuration of a flake, such as .#NAME
    #[arg(required_unless_present = "flake")]
    pub host: Option<String>,
    /// A NixOS configuration of a flake: its machine is built with your own Nix, and needs no host.yaml
    #[arg(long, value_name = "FLAKE#NAME", conflicts_with = "host")]
    pub flake: Option<String>,
    /// Name of the instance, for more than one of the same host (default: the host's name)
    #[arg(long)]
    pub name: Option<String>,
    /// Return as soon as the guest is ready, and leave it running
    #[arg(short, long)]
    pub detach: bool,
    /// Boot without secrets, for example because you cannot decrypt them; the guest gets none
    #[arg(long)]
    pub without_secrets: bool,
    /// Use a temporary disk that is deleted when the guest stops
    #[arg(long, conflicts_with = "fresh")]
    pub ephemeral: bool,
    /// Delete the instance's disk first and start with a new one; what is on it is lost
    #[arg(long)]
    pub fresh: bool,
    /// Boot, even where a template of this machine would make for a start in a fraction of the time (docs/warm-start.md)
    #[arg(long, conflicts_with = "warm")]
    pub cold: bool,
    /// Whether to start from a template where one fits: `require` fails rather than to boot
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub warm: Warm,
    /// How to run the guest
    #[arg(long, value_enum, default_value_t)]
    pub accel: Accel,
    /// What the machine has.
    #[command(flatten)]
    pub resources: Resources,
    /// Forward a port of this machine to one of the guest: 8080:80, auto:22 (a free port), 0.0.0.0:8080:80; takes the
    /// place of host.yaml's forward to the same port of the guest
    #[arg(short = 'p', long = "port", value_name = "[[ADDRESS:]HOST_PORT:]PORT", value_parser = port)]
    pub ports: Vec<Forward>,
    /// How many seconds the guest may take to be ready [default: 240]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// When civm runs as root, run QEMU as root too, instead of as a user of its own
    #[arg(long)]
    pub qemu_as_root: bool,
    /// Print what would be done, without doing it
    #[arg(long)]
    pub dry_run: bool,
    /// Print the QEMU command line without starting anything
    #[arg(long, conflicts_with = "dry_run")]
    pub print_command: bool,
    /// More arguments for QEMU, after `--`
    #[arg(last = true, value_name = "QEMU ARGS")]
    pub qemu_arguments: Vec<String>,
}

/// What a machine has, where that differs from host.yaml.
#[derive(Args, Clone, Copy, Debug)]
pub struct Resources {
    /// Number of virtual CPUs (default: as in host.yaml)
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// Memory, such as 4G or 4096M (default: as in host.yaml)
    #[arg(long, value_name = "SIZE", value_parser = megabytes)]
    pub memory: Option<u64>,
    /// Size of the disk, such as 40G; a disk that exists grows to it (default: as in host.yaml)
    #[arg(long, value_name = "SIZE", value_parser = megabytes)]
    pub disk: Option<u64>,
}

/// When a machine is started from a template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Warm {
    /// If one fits
    #[default]
    Auto,
    /// Or not at all
    Require,
}

/// How the guest is executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// KVM if it works (civm probes it), else TCG
    #[default]
    Auto,
    /// KVM only
    Kvm,
    /// TCG only: software emulation, slower
    Tcg,
}

/// `civm restart INSTANCE`.
#[derive(Args, Clone, Debug)]
pub struct Restart {
    /// The instance
    pub instance: String,
    /// How many seconds the guest may take to power off [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

//! `civm up`.

use clap::{Args, ValueEnum};

/// `civm up`.
#[derive(Args, Clone, Debug)]
pub struct Up {
    /// The host: a directory in hosts/
    pub host: String,
    /// Return as soon as the guest is ready, and leave it running
    #[arg(short, long)]
    pub detach: bool,
    /// Boot without secrets, for example because you cannot decrypt them; the guest gets none
    #[arg(long)]
    pub without_secrets: bool,
    /// Use a temporary disk that is deleted when the guest stops
    #[arg(long)]
    pub ephemeral: bool,
    /// How to run the guest
    #[arg(long, value_enum, default_value_t)]
    pub accel: Accel,
    /// Number of virtual CPUs (default: as in host.yaml)
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// Memory, such as 4G or 4096M (default: as in host.yaml)
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// When civm runs as root, run QEMU as root too, instead of as a user of its own
    #[arg(long)]
    pub qemu_as_root: bool,
    /// Print the QEMU command line without starting anything
    #[arg(long)]
    pub print_command: bool,
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

//! `civm up`.

use clap::{Args, ValueEnum};

/// `civm up`.
#[derive(Args, Clone, Debug)]
pub struct Up {
    /// The host: a directory of hosts/
    pub host: String,
    /// Return as soon as the guest is ready, and let it run
    #[arg(short, long)]
    pub detach: bool,
    /// Boot without secrets, for example if they cannot be decrypted; the guest gets none
    #[arg(long)]
    pub without_secrets: bool,
    /// Use a disk that is thrown away afterwards
    #[arg(long)]
    pub ephemeral: bool,
    /// How the guest is executed
    #[arg(long, value_enum, default_value_t)]
    pub accel: Accel,
    /// Number of processors, instead of host.yaml's
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// Memory, instead of host.yaml's: 4G, 4096M
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// When civm runs as root, run QEMU as root too, rather than as a user of its own
    #[arg(long)]
    pub qemu_as_root: bool,
    /// Print the QEMU command line and start nothing
    #[arg(long)]
    pub print_command: bool,
}

/// How the guest is executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// KVM where it works (civm tries it), else TCG
    #[default]
    Auto,
    /// KVM only
    Kvm,
    /// TCG: emulation, slower
    Tcg,
}

//! What a machine is made of: a draft may ask for anything, a [`Spec`] holds only what QEMU can run.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::vm::network::Network;
use crate::vm::ports::Forward;
use crate::vm::runner::Runner;

mod check;

pub use check::{CPUS_MAX, Error, MEMORY_MIN_MIB, MOUNT_TAG_MAX, NAME_MAX, SOCKET_PATH_MAX, check_name};

/// A kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit Intel and AMD.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Arch {
    /// The kind of the machine that this program was built for, where it is one of the two.
    #[must_use]
    pub fn native() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else {
            None
        }
    }

    /// Its name, as the kernel and Nix spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The QEMU program that runs such guests.
    #[must_use]
    pub fn qemu(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Aarch64 => "qemu-system-aarch64",
        }
    }

    /// The guest's device of the first serial port.
    #[must_use]
    pub fn console(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0",
            Self::Aarch64 => "ttyAMA0",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// QEMU's type of a machine: its bus, and what is on its board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineType {
    /// A PC with a PCI Express bus.
    Q35,
    /// A board for aarch64, with a PCI Express bus.
    Virt,
    /// A PC of the least parts: its devices are virtio-mmio, named by ACPI, and nothing can be added to it.
    Microvm,
}

impl MachineType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Q35, Self::Virt, Self::Microvm];

    /// What a machine is where nobody says it.
    #[must_use]
    pub fn usual(arch: Arch) -> Self {
        match arch {
            Arch::X86_64 => Self::Q35,
            Arch::Aarch64 => Self::Virt,
        }
    }

    /// The architecture that has it.
    #[must_use]
    pub fn arch(self) -> Arch {
        match self {
            Self::Q35 | Self::Microvm => Arch::X86_64,
            Self::Virt => Arch::Aarch64,
        }
    }

    /// QEMU's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Q35 => "q35",
            Self::Virt => "virt",
            Self::Microvm => "microvm",
        }
    }

    /// Whether its guest can be told how fast the time stamp counter runs: under TCG that is the machine's own.
    #[must_use]
    pub fn takes_tsc_rate(self, accel: Accel) -> bool {
        (self.arch(), accel) == (Arch::X86_64, Accel::Tcg)
    }

    /// Whether its guest must be told how fast the time stamp counter runs. On other machines a kernel measures that
    /// against another timer, and KVM tells it.
    #[must_use]
    pub fn wants_tsc_rate(self, accel: Accel) -> bool {
        (self, accel) == (Self::Microvm, Accel::Tcg)
    }
}

impl fmt::Display for MachineType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// The kernel's virtualisation.
    Kvm,
    /// QEMU's translation: works everywhere, slower.
    Tcg,
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
        })
    }
}

/// What the machine boots, given to it directly: no firmware menu, no boot loader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// The kernel: on x86_64 best an uncompressed `vmlinux` with a PVH entry.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// Kernel parameters besides those that every machine gets.
    pub append: Vec<String>,
}

/// The root disk, a qcow2 file that grows as data is added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The qcow2 file.
    pub path: PathBuf,
    /// Size the guest sees, in MiB.
    pub size_mib: u64,
    /// Thrown away after the run, so that nothing of it needs to reach the host's disk.
    pub ephemeral: bool,
}

/// The files of the disk, which QEMU inherits open: it needs no right to their paths, and opens no other file that
/// the disk's header may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskFiles {
    /// Descriptor of the disk itself.
    pub disk: i32,
    /// Descriptor of the qcow2 image that an ephemeral disk holds the differences from.
    pub base: Option<i32>,
}

/// A directory of the host that the guest can mount, read-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The directory.
    pub source: PathBuf,
    /// The name under which the guest mounts it.
    pub tag: String,
}

/// Where the other end of a character device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Channel {
    /// A unix socket on which QEMU listens.
    Socket(PathBuf),
    /// A connected socket that QEMU inherits, by number.
    Descriptor(i32),
}

/// The serial console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// Where one attaches to it.
    pub channel: Channel,
}

/// The fence of a guest that must not reach its host ([`crate::vm::network::fence`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fence {
    /// Where the guest's frames go to be judged.
    pub out: Channel,
    /// Where those that pass come back.
    pub back: Channel,
}

/// Memory in a file: of a machine that is frozen at its guest's one point, or resumed there (docs/warm-start.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryFile {
    /// The file.
    pub path: PathBuf,
    /// What the guest writes stays out of the file.
    pub private: bool,
    /// The machine's state follows over its control channel, instead of a boot.
    pub resumed: bool,
}

/// A machine as somebody asks for it; [`Spec::new`] says whether QEMU can run it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// Name of the machine.
    pub name: String,
    /// Architecture of the guest.
    pub arch: Arch,
    /// Type of the machine, one of that architecture.
    pub machine_type: MachineType,
    /// Accelerator.
    pub accel: Accel,
    /// Rate of the time stamp counter in kHz, where [`MachineType::takes_tsc_rate`].
    pub tsc_khz: Option<u32>,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Where the memory is, if not QEMU's own.
    pub memory_file: Option<MemoryFile>,
    /// Kernel and initrd.
    pub boot: Boot,
    /// The program that runs it in place of a QEMU of ours; it knows what it boots.
    pub runner: Option<Runner>,
    /// Root disk.
    pub disk: Option<Disk>,
    /// Its files, where QEMU inherits them.
    pub disk_files: Option<DiskFiles>,
    /// Forwarded ports.
    pub forwards: Vec<Forward>,
    /// What the guest may reach.
    pub network: Network,
    /// What keeps it from reaching more, where that is needed.
    pub fence: Option<Fence>,
    /// The share.
    pub share: Option<Share>,
    /// The serial console.
    pub console: Console,
    /// QEMU's own control channel.
    pub qmp: Option<Channel>,
    /// The port on which the guest reports.
    pub agent: Option<Channel>,
    /// Arguments for QEMU after all others.
    pub extra_arguments: Vec<String>,
}

/// A machine that QEMU can run. Its fields are those of the [`Draft`] it was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec(Draft);

impl Spec {
    /// Checks a draft. `native` is the machine host's own architecture: KVM runs no other.
    ///
    /// # Errors
    /// The first thing that QEMU cannot do.
    pub fn new(draft: Draft, native: Option<Arch>) -> Result<Self, Error> {
        check::draft(&draft, native)?;
        Ok(Self(draft))
    }

    /// The machine's description.
    #[must_use]
    pub fn draft(&self) -> &Draft {
        &self.0
    }
}

/// A sound draft for tests.
#[cfg(test)]
pub(crate) fn sample() -> Draft {
    Draft {
        name: "builder".into(),
        arch: Arch::X86_64,
        machine_type: MachineType::Q35,
        accel: Accel::Tcg,
        tsc_khz: None,
        cpus: 2,
        memory_mib: 4096,
        memory_file: None,
        boot: Boot {
            kernel: "/cache/vmlinux".into(),
            initrd: Some("/cache/initrd.cpio".into()),
            append: vec!["civm.packages=0f".into()],
        },
        runner: None,
        disk: Some(Disk { path: "/project/builder.qcow2".into(), size_mib: 16384, ephemeral: false }),
        disk_files: None,
        forwards: vec![Forward::loopback(2322, 22)],
        network: Network::NoHost,
        fence: Some(Fence { out: Channel::Descriptor(8), back: Channel::Descriptor(9) }),
        share: Some(Share { source: "/run/user/1000/civm/0f/share".into(), tag: "shr".into() }),
        console: Console { channel: Channel::Socket("/run/user/1000/civm/0f/console.sock".into()) },
        qmp: Some(Channel::Descriptor(5)),
        agent: Some(Channel::Descriptor(6)),
        extra_arguments: Vec::new(),
    }
}

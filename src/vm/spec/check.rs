//! Whether a draft is a machine that QEMU can run.

use std::path::Path;

use crate::vm::network::Network;
use crate::vm::ports::Forward;
use crate::vm::spec::{Accel, Arch, Channel, Draft, MachineType};

/// Longest path of a unix socket: `sun_path` has 108 bytes with its final zero (unix(7)).
pub const SOCKET_PATH_MAX: usize = 107;
/// Longest mount tag of a 9p share, in bytes (QEMU's `MAX_TAG_LEN` less its final zero).
pub const MOUNT_TAG_MAX: usize = 31;
/// Longest machine name, in bytes: that of a DNS label, since the guest's host name is the same.
pub const NAME_MAX: usize = 63;
/// Least memory, in MiB, in which a stock kernel unpacks itself and a small initrd.
pub const MEMORY_MIN_MIB: u32 = 128;
/// Most virtual CPUs: what q35 takes without an IOMMU (x2APIC ids below 255).
pub const CPUS_MAX: u32 = 255;

/// Checks a draft whole.
pub(super) fn draft(draft: &Draft, native: Option<Arch>) -> Result<(), Error> {
    check_name(&draft.name)?;
    if draft.cpus == 0 || draft.cpus > CPUS_MAX {
        return Err(Error::Cpus(draft.cpus));
    }
    if draft.memory_mib < MEMORY_MIN_MIB {
        return Err(Error::Memory(draft.memory_mib));
    }
    if draft.accel == Accel::Kvm && native != Some(draft.arch) {
        return Err(Error::ForeignKvm(draft.arch));
    }
    if draft.machine_type.arch() != draft.arch {
        return Err(Error::ForeignMachine(draft.machine_type, draft.arch));
    }
    if draft.machine_type.wants_tsc_rate(draft.accel) && draft.tsc_khz.is_none_or(|khz| khz == 0) {
        return Err(Error::NoTscRate(draft.machine_type));
    }
    check_path("kernel", &draft.boot.kernel)?;
    if let Some(initrd) = &draft.boot.initrd {
        check_path("initrd", initrd)?;
    }
    check_append(&draft.boot.append)?;
    if let Some(runner) = &draft.runner {
        check_path("runner", &runner.program)?;
        check_path("runner's temporary directory", &runner.temporary)?;
    }
    if let Some(disk) = &draft.disk {
        check_path("disk", &disk.path)?;
    }
    if let Some(share) = &draft.share {
        check_path("share", &share.source)?;
        check_tag(&share.tag)?;
    }
    check_forwards(&draft.forwards)?;
    check_channels(draft)?;
    if (draft.network == Network::NoHost) != draft.fence.is_some() {
        return Err(Error::Fence);
    }
    Ok(())
}

/// Why a draft is not a machine that can run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A name that cannot be a host name.
    #[error("`{0}` is not a machine name: letters, digits and inner hyphens, at most {NAME_MAX} characters")]
    Name(String),
    /// No CPU, or more than the machine type takes.
    #[error("{0} cpus: a machine can have 1 to {CPUS_MAX}")]
    Cpus(u32),
    /// Too little to boot in.
    #[error("{0} MiB of memory: a machine needs at least {MEMORY_MIN_MIB} MiB")]
    Memory(u32),
    /// KVM for another architecture.
    #[error("KVM cannot run {0} guests on this machine")]
    ForeignKvm(Arch),
    /// A machine type that the architecture does not have.
    #[error("`{0}` is a machine type of {arch}; a machine of {1} is `{usual}`", arch = .0.arch(), usual = MachineType::usual(*.1))]
    ForeignMachine(MachineType, Arch),
    /// A guest whose clock would not run, or at the wrong pace.
    #[error("a {0} machine under TCG has to be told the rate of the time stamp counter")]
    NoTscRate(MachineType),
    /// A path whose meaning would depend on where QEMU starts.
    #[error("path of the {what} is not absolute: `{path}`")]
    RelativePath {
        /// Whose path.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// A path that cannot stand on a command line.
    #[error("path of the {what} is not UTF-8 text: `{path}`")]
    PathText {
        /// Whose path.
        what: &'static str,
        /// The path, as far as it is text.
        path: String,
    },
    /// A parameter that would be read as several, or not at all.
    #[error("`{0}` is not a kernel parameter: each is one word, with blanks only inside double quotes")]
    Append(String),
    /// Not a mount tag of 9p.
    #[error(
        "`{0}` is not a mount tag: letters, digits, `-`, `_` and `.`, at most {MOUNT_TAG_MAX} characters"
    )]
    MountTag(String),
    /// Two forwards of one port.
    #[error("port {port} of the host is forwarded twice")]
    PortTwice {
        /// The port.
        port: u16,
    },
    /// A forward to guest port 0.
    #[error("port {0} of the host leads to guest port 0")]
    GuestPort(u16),
    /// A path too long for a socket.
    #[error("the path of a socket has {length} bytes, at most {SOCKET_PATH_MAX} are possible: `{path}`")]
    SocketPath {
        /// The path.
        path: String,
        /// Its length in bytes.
        length: usize,
    },
    /// Two character devices with the same other end.
    #[error("console, QMP, agent and the fence of the network cannot share a channel")]
    ChannelTwice,
    /// A fence that is missing, or one that keeps nothing off.
    #[error("a guest has a fence where its network is `no-host`, and only there")]
    Fence,
}

/// Whether a machine can have this name.
///
/// # Errors
/// It cannot.
pub fn check_name(name: &str) -> Result<(), Error> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if plain && !name.is_empty() && name.len() <= NAME_MAX && !name.starts_with('-') && !name.ends_with('-') {
        Ok(())
    } else {
        Err(Error::Name(name.to_owned()))
    }
}

fn check_path(what: &'static str, path: &Path) -> Result<(), Error> {
    let text = path.to_string_lossy().into_owned();
    if path.to_str().is_none_or(|p| p.contains('\0')) {
        return Err(Error::PathText { what, path: text });
    }
    if path.is_absolute() { Ok(()) } else { Err(Error::RelativePath { what, path: text }) }
}

fn check_append(append: &[String]) -> Result<(), Error> {
    for word in append {
        // The kernel keeps blanks only within double quotes and knows no escape.
        let mut quoted = false;
        let mut whole = !word.is_empty();
        for c in word.chars() {
            match c {
                '"' => quoted = !quoted,
                c if c.is_control() || (c.is_whitespace() && !quoted) => whole = false,
                _ => {}
            }
        }
        if !whole || quoted {
            return Err(Error::Append(word.clone()));
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), Error> {
    let plain = tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if plain && !tag.is_empty() && tag.len() <= MOUNT_TAG_MAX {
        Ok(())
    } else {
        Err(Error::MountTag(tag.to_owned()))
    }
}

fn check_forwards(forwards: &[Forward]) -> Result<(), Error> {
    for (index, forward) in forwards.iter().enumerate() {
        if forward.guest_port == 0 {
            return Err(Error::GuestPort(forward.host_port));
        }
        if forwards.iter().take(index).any(|earlier| earlier.clashes(forward)) {
            return Err(Error::PortTwice { port: forward.host_port });
        }
    }
    Ok(())
}

fn check_channels(draft: &Draft) -> Result<(), Error> {
    let fence = draft.fence.iter().flat_map(|fence| [&fence.out, &fence.back]);
    let console = std::iter::once(&draft.console.channel);
    let channels: Vec<&Channel> = console.chain(&draft.qmp).chain(&draft.agent).chain(fence).collect();
    for (index, channel) in channels.iter().enumerate() {
        if channels.iter().take(index).any(|earlier| earlier == channel) {
            return Err(Error::ChannelTwice);
        }
        if let Channel::Socket(path) = channel {
            check_path("socket", path)?;
            let length = path.as_os_str().len();
            if length > SOCKET_PATH_MAX {
                return Err(Error::SocketPath { path: path.to_string_lossy().into_owned(), length });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Error;
    use crate::vm::network::Network;
    use crate::vm::ports::Forward;
    use crate::vm::spec::{Accel, Arch, Channel, Draft, MachineType, Spec, sample};

    fn refused(change: impl FnOnce(&mut Draft)) -> Error {
        let mut draft = sample();
        change(&mut draft);
        Spec::new(draft, Some(Arch::X86_64)).unwrap_err()
    }

    #[test]
    fn a_sound_draft_becomes_a_machine() {
        assert!(Spec::new(sample(), Some(Arch::X86_64)).is_ok());
    }

    #[test]
    fn kvm_runs_only_the_architecture_of_the_machine_host() {
        let foreign = |d: &mut Draft| {
            (d.arch, d.machine_type) = (Arch::Aarch64, MachineType::Virt);
            d.accel = Accel::Kvm;
        };
        assert_eq!(refused(foreign), Error::ForeignKvm(Arch::Aarch64));
        let mut own = sample();
        own.accel = Accel::Kvm;
        assert!(Spec::new(own.clone(), Some(Arch::X86_64)).is_ok());
        assert!(Spec::new(own, None).is_err());
    }

    #[test]
    fn a_machine_type_belongs_to_its_architecture() {
        for machine_type in MachineType::ALL {
            for arch in [Arch::X86_64, Arch::Aarch64] {
                let mut draft = sample();
                (draft.arch, draft.machine_type, draft.tsc_khz) = (arch, machine_type, Some(2_600_000));
                assert_eq!(
                    Spec::new(draft, None).is_ok(),
                    machine_type.arch() == arch,
                    "{machine_type} {arch}"
                );
            }
        }
        let foreign = |d: &mut Draft| (d.arch, d.machine_type) = (Arch::Aarch64, MachineType::Microvm);
        let message = "`microvm` is a machine type of x86_64; a machine of aarch64 is `virt`";
        assert_eq!(refused(foreign).to_string(), message);
    }

    #[test]
    fn a_microvm_under_tcg_is_told_the_rate_of_the_counter() {
        let unknown = |d: &mut Draft| d.machine_type = MachineType::Microvm;
        assert_eq!(refused(unknown), Error::NoTscRate(MachineType::Microvm));
        let mut kvm = sample();
        (kvm.machine_type, kvm.accel) = (MachineType::Microvm, Accel::Kvm);
        assert!(Spec::new(kvm, Some(Arch::X86_64)).is_ok());
    }

    #[test]
    fn resources_have_bounds() {
        assert_eq!(refused(|d| d.cpus = 0), Error::Cpus(0));
        assert_eq!(refused(|d| d.cpus = 300), Error::Cpus(300));
        assert_eq!(refused(|d| d.memory_mib = 64), Error::Memory(64));
    }

    #[test]
    fn names_are_host_names() {
        for name in ["", "-a", "a-", "a b", "a,b", "a.b", &"a".repeat(64)] {
            assert_eq!(refused(|d| d.name = name.into()), Error::Name(name.into()));
        }
    }

    #[test]
    fn relative_paths_are_refused_with_their_part_named() {
        let error = refused(|d| d.boot.kernel = "vmlinux".into());
        assert_eq!(error.to_string(), "path of the kernel is not absolute: `vmlinux`");
    }

    #[test]
    fn a_kernel_parameter_cannot_smuggle_in_another() {
        assert_eq!(refused(|d| d.boot.append = vec!["a b".into()]), Error::Append("a b".into()));
        assert_eq!(refused(|d| d.boot.append = vec![String::new()]), Error::Append(String::new()));
        let mut quoted = sample();
        quoted.boot.append = vec!["dyndbg=\"file a +p\"".into()];
        assert!(Spec::new(quoted, None).is_ok());
    }

    #[test]
    fn one_port_of_the_host_leads_to_one_place() {
        let twice = |d: &mut Draft| d.forwards.push(Forward::loopback(2322, 80));
        assert_eq!(refused(twice), Error::PortTwice { port: 2322 });
        let mut auto = sample();
        auto.forwards = vec![Forward::loopback(0, 22), Forward::loopback(0, 80)];
        assert!(Spec::new(auto, None).is_ok());
    }

    #[test]
    fn sockets_fit_into_the_kernels_limit_and_are_not_shared() {
        let long = format!("/{}", "s".repeat(107));
        let error = refused(|d| d.console.channel = Channel::Socket(long.clone().into()));
        assert_eq!(error, Error::SocketPath { path: long, length: 108 });
        assert_eq!(refused(|d| d.agent = d.qmp.clone()), Error::ChannelTwice);
    }

    #[test]
    fn a_network_without_the_host_has_a_fence() {
        assert_eq!(refused(|d| d.fence = None), Error::Fence);
        assert_eq!(refused(|d| d.network = Network::Open), Error::Fence);
        assert_eq!(refused(|d| d.fence.as_mut().unwrap().back = Channel::Descriptor(5)), Error::ChannelTwice);
    }

    #[test]
    fn mount_tags_fit_into_9p() {
        let tag = "t".repeat(32);
        let error = refused(|d| {
            if let Some(share) = &mut d.share {
                share.tag.clone_from(&tag);
            }
        });
        assert_eq!(error, Error::MountTag(tag));
    }
}

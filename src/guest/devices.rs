//! Device nodes that udev would make or open up: there is none here.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::{Error, console};

/// Nodes whose drivers are loaded by the first who opens them (number of major 10, mode), as the
/// kernel's `modules.devname` and udev's rules have them.
const ON_DEMAND: [(&str, u64, u32); 5] = [
    ("/dev/fuse", 229, 0o666),
    ("/dev/net/tun", 200, 0o666),
    ("/dev/loop-control", 237, 0o660),
    ("/dev/vhost-net", 238, 0o666),
    ("/dev/vhost-vsock", 241, 0o666),
];
const MISC_MAJOR: u64 = 10;
const KVM: &str = "/dev/kvm";

/// Makes the nodes, and loads KVM where the processor has it.
pub(super) fn prepare() -> Result<(), Error> {
    for (path, minor, mode) in ON_DEMAND {
        make(Path::new(path), minor, mode)?;
    }
    let cpu = fs::read_to_string("/proc/cpuinfo").map_err(Error::io("read", "/proc/cpuinfo"))?;
    if let Some(module) = kvm_module(&cpu) {
        console::run("modprobe", &[module])?;
    }
    if Path::new(KVM).exists() {
        fs::set_permissions(KVM, Permissions::from_mode(0o666)).map_err(Error::io("open", KVM))?;
    }
    Ok(())
}

fn make(path: &Path, minor: u64, mode: u32) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    if !path.exists() {
        mknod(path, SFlag::S_IFCHR, Mode::empty(), makedev(MISC_MAJOR, minor))
            .map_err(Error::io("create", path))?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::io("open", path))
}

/// Whether the processor is emulated, as far as it says so.
pub(super) fn is_emulated() -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|cpuinfo| names_tcg(&cpuinfo))
}

fn names_tcg(cpuinfo: &str) -> bool {
    field(cpuinfo, "model name").is_some_and(|model| model.contains("TCG"))
}

/// What the first processor says of itself.
fn field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
    line.split_once(':').map(|(_, value)| value)
}

/// The module for guests in this guest; none where the processor is emulated, for what it then offers
/// is of no use.
fn kvm_module(cpuinfo: &str) -> Option<&'static str> {
    if names_tcg(cpuinfo) {
        return None;
    }
    let flags: Vec<&str> = field(cpuinfo, "flags")?.split_whitespace().collect();
    if flags.contains(&"vmx") {
        Some("kvm_intel")
    } else if flags.contains(&"svm") {
        Some("kvm_amd")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_is_for_real_processors() {
        let cpu =
            |model: &str, flags: &str| format!("processor\t: 0\nmodel name\t: {model}\nflags\t\t: {flags}\n");
        assert_eq!(kvm_module(&cpu("Some CPU", "fpu vmx sse")), Some("kvm_intel"));
        assert_eq!(kvm_module(&cpu("Some CPU", "fpu svm")), Some("kvm_amd"));
        assert_eq!(kvm_module(&cpu("Some CPU", "fpu svm_lock")), None);
        assert_eq!(kvm_module(&cpu("QEMU TCG CPU version 2.5+", "fpu svm")), None);
        assert_eq!(kvm_module(""), None);
    }
}

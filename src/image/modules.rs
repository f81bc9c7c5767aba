//! The kernel modules of an image: a part of the kernel's tree that guests need.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::Error;
use super::kernel::Kernel;
use super::module_index::{ModuleIndex, unpacked_name};
use super::run::{Job, Tool};

/// What PID 1 of the initrd loads before the root disk is mounted, in this order.
const EARLY: [&str; 12] = [
    // First the way to tell the host that the guest lives; where there is no PCI, ACPI names the devices.
    "virtio_pci",
    "virtio_mmio",
    "virtio_console",
    // And the way to tell it that the kernel panicked.
    "pvpanic_pci",
    "pvpanic_mmio",
    "crc32c_generic",
    "crc32c_intel",
    "virtio_blk",
    "ext4",
    "virtio_net",
    "virtio_rng",
    "9pnet_virtio",
];
/// The file system of the share; apart, since it needs its transport first.
const EARLY_LAST: &str = "9p";
/// Those of the early ones that some kernels or processors do without.
const OPTIONAL: [&str; 5] = ["virtio_mmio", "crc32c_generic", "crc32c_intel", "pvpanic_pci", "pvpanic_mmio"];
/// What guests may want later; a kernel without one of them is fine.
const LATE: &[&str] = &[
    // The power button, swap in memory, giving memory back.
    "button",
    "evdev",
    "zram",
    "zstd",
    "lzo_rle",
    "lz4",
    "virtio_balloon",
    "gpio_keys",
    // File systems and block devices of containers, builders and images.
    "overlay",
    "loop",
    "fuse",
    "virtiofs",
    "squashfs",
    "erofs",
    "isofs",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    "dm_mod",
    "dm_crypt",
    "dm_snapshot",
    "autofs4",
    "binfmt_misc",
    "configfs",
    "nbd",
    // Networks of containers and their packet filters.
    "tun",
    "veth",
    "bridge",
    "br_netfilter",
    "dummy",
    "macvlan",
    "vxlan",
    "wireguard",
    "vsock",
    "vmw_vsock_virtio_transport",
    "nf_tables",
    "nf_conntrack",
    "nf_nat",
    "nft_chain_nat",
    "nft_compat",
    "nft_ct",
    "nft_limit",
    "nft_log",
    "nft_masq",
    "nft_nat",
    "nft_redir",
    "nft_reject_inet",
    "nft_fib_inet",
    "ip_tables",
    "ip6_tables",
    "iptable_filter",
    "iptable_nat",
    "iptable_mangle",
    "iptable_raw",
    "ip6table_filter",
    "ip6table_nat",
    "ip6table_mangle",
    "ip6table_raw",
    "ipt_REJECT",
    "ip6t_REJECT",
    "xt_addrtype",
    "xt_comment",
    "xt_conntrack",
    "xt_mark",
    "xt_MASQUERADE",
    "xt_multiport",
    "xt_nat",
    "xt_tcpudp",
    "xt_CHECKSUM",
    "xt_LOG",
    "xt_limit",
    "xt_state",
    "xt_statistic",
    "xt_recent",
    "xt_set",
    "ip_set",
    "ip_set_hash_ip",
    "ip_set_hash_net",
    // Guests in the guest.
    "kvm_intel",
    "kvm_amd",
    "vhost_net",
    "vhost_vsock",
];

/// Puts the modules of an image below `to`: `modules/<release>/…` with their indexes for `modprobe`,
/// and the list of those that PID 1 loads. `work` is on the same file system.
///
/// # Errors
/// Where a module that every guest needs is missing from the kernel.
pub(super) fn collect(kernel: &Kernel, work: &Path, to: &Path, job: &Job) -> Result<Vec<String>, Error> {
    let step = "choosing kernel modules";
    let source = module_dir(&kernel.root, &kernel.release);
    if !kernel.root.join("lib/modules").is_dir() {
        // depmod looks below lib/modules only.
        let (link, target) = (kernel.root.join("lib"), "usr/lib");
        std::os::unix::fs::symlink(target, &link).map_err(Error::io("create", &link))?;
    }
    Tool::new(step, "depmod", job)?.arg("-b").arg(&kernel.root).arg(&kernel.release).run()?;
    let read = |name: &str| {
        let path = source.join(name);
        fs::read_to_string(&path).map_err(Error::io("read", &path))
    };
    let index = ModuleIndex::parse(&read("modules.dep")?, &read("modules.builtin")?);
    let early = early(&index).map_err(|name| Error::content(&source, format!("has no module {name}")))?;
    let mut wanted: BTreeSet<&str> = early.iter().map(String::as_str).collect();
    wanted.extend(LATE.iter().filter_map(|name| index.chain(name)).flatten().map(String::as_str));

    let tree = work.join("subset");
    let target = tree.join("lib/modules").join(&kernel.release);
    let mut packed: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
    for path in &wanted {
        let file = target.join(path);
        copy(&source.join(path), &file)?;
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => packed.entry("xz").or_default().push(file),
            Some("zst") => packed.entry("zstd").or_default().push(file),
            Some("gz") => packed.entry("gzip").or_default().push(file),
            _ => {}
        }
    }
    for (program, files) in packed {
        let keep_nothing: &[&str] = if program == "zstd" { &["--rm"] } else { &[] };
        Tool::new(step, program, job)?.args(["-d", "-q"]).args(keep_nothing).args(files).run()?;
    }
    for name in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        let _ = fs::copy(source.join(name), target.join(name));
    }
    Tool::new(step, "depmod", job)?.arg("-b").arg(&tree).arg(&kernel.release).run()?;
    let modules = to.join(super::layout::MODULES);
    let moved = tree.join("lib/modules");
    fs::rename(&moved, &modules).map_err(Error::io("create", &modules))?;
    Ok(early.iter().map(|path| format!("{}/{}", kernel.release, unpacked_name(path))).collect())
}

fn module_dir(root: &Path, release: &str) -> PathBuf {
    let dir = root.join("lib/modules").join(release);
    if dir.is_dir() { dir } else { root.join("usr/lib/modules").join(release) }
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    fs::copy(from, to).map(drop).map_err(Error::io("copy", from))
}

/// Paths of the early modules in the order of loading, or the name of one that is missing.
fn early(index: &ModuleIndex) -> Result<Vec<String>, &'static str> {
    let mut order: Vec<String> = Vec::new();
    for wanted in EARLY.into_iter().chain([EARLY_LAST]) {
        match index.chain(wanted) {
            Some(paths) => {
                for path in paths {
                    if !order.contains(path) {
                        order.push(path.clone());
                    }
                }
            }
            None if index.is_builtin(wanted) || OPTIONAL.contains(&wanted) => {}
            None => return Err(wanted),
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/d/virtio.ko:\n\
        kernel/d/virtio_ring.ko: kernel/d/virtio.ko\n\
        kernel/d/virtio_pci.ko: kernel/d/virtio_ring.ko kernel/d/virtio.ko\n\
        kernel/d/virtio_console.ko.xz: kernel/d/virtio_ring.ko kernel/d/virtio.ko\n\
        kernel/d/virtio_blk.ko: kernel/d/virtio_ring.ko kernel/d/virtio.ko\n\
        kernel/d/virtio_net.ko: kernel/d/virtio_ring.ko kernel/d/virtio.ko\n\
        kernel/d/virtio-rng.ko: kernel/d/virtio_ring.ko kernel/d/virtio.ko\n\
        kernel/n/9pnet_virtio.ko: kernel/n/9pnet.ko\n\
        kernel/n/9pnet.ko:\n\
        kernel/f/9p.ko: kernel/n/9pnet.ko\n";

    #[test]
    fn modules_come_after_what_they_need_and_once() {
        let order = early(&ModuleIndex::parse(DEP, "kernel/f/ext4.ko\n")).expect("complete");
        let at = |end: &str| order.iter().position(|path| path.ends_with(end)).expect("there");
        assert!(at("/virtio.ko") < at("virtio_ring.ko") && at("virtio_ring.ko") < at("virtio_pci.ko"));
        assert!(at("9pnet.ko") < at("9pnet_virtio.ko") && at("9pnet_virtio.ko") < at("9p.ko"));
        let set: BTreeSet<&String> = order.iter().collect();
        assert_eq!(set.len(), order.len());
    }

    #[test]
    fn a_kernel_without_the_root_file_system_is_refused() {
        assert_eq!(early(&ModuleIndex::parse(DEP, "")), Err("ext4"));
    }
}

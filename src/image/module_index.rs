//! The kernel's modules by name: what depmod has written of a kernel, read by who makes an image and in the guest.

use std::collections::{BTreeMap, BTreeSet};

/// Modules by name, with what they need.
#[derive(Debug, Default)]
pub struct ModuleIndex {
    /// Path of the module and of all it needs, those needed first.
    loadable: BTreeMap<String, Vec<String>>,
    builtin: BTreeSet<String>,
}

impl ModuleIndex {
    /// From `modules.dep` (`path: needed needed`, the one needed last loaded first) and `modules.builtin`.
    #[must_use]
    pub fn parse(dep: &str, builtin: &str) -> Self {
        let mut loadable = BTreeMap::new();
        for (path, needed) in dep.lines().filter_map(|line| line.split_once(':')) {
            let mut order: Vec<String> = needed.split_whitespace().rev().map(str::to_owned).collect();
            order.push(path.to_owned());
            loadable.insert(name(path), order);
        }
        Self { loadable, builtin: builtin.lines().map(name).collect() }
    }

    /// The paths that have to be loaded for a module, in that order, its own last; `None` where there is no such file.
    #[must_use]
    pub fn chain(&self, module: &str) -> Option<&[String]> {
        self.loadable.get(&name(module)).map(Vec::as_slice)
    }

    /// Whether the kernel has it without a file.
    #[must_use]
    pub fn is_builtin(&self, module: &str) -> bool {
        self.builtin.contains(module)
    }
}

/// `kernel/a/b.ko.xz` unpacked is `kernel/a/b.ko`.
#[must_use]
pub fn unpacked_name(path: &str) -> &str {
    [".xz", ".zst", ".gz"].iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path)
}

/// A module's name as the kernel says it.
fn name(path: &str) -> String {
    let file = unpacked_name(path.rsplit('/').next().unwrap_or(path));
    file.strip_suffix(".ko").unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(name("kernel/drivers/virtio-rng.ko.xz"), "virtio_rng");
        assert_eq!(unpacked_name("a/b.ko.zst"), "a/b.ko");
    }

    #[test]
    fn a_module_is_found_by_either_spelling_with_what_it_needs_first() {
        let index = ModuleIndex::parse("k/lzo-rle.ko: k/b.ko k/a.ko\n", "k/ext4.ko\n");
        assert_eq!(index.chain("lzo-rle"), index.chain("lzo_rle"));
        assert_eq!(index.chain("lzo_rle").expect("there"), ["k/a.ko", "k/b.ko", "k/lzo-rle.ko"]);
        assert!(index.chain("ext4").is_none() && index.is_builtin("ext4"));
    }
}

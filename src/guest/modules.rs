//! Kernel modules, loaded without a program for it, those of the early boot by two processors at once.
//!
//! Where the processor is emulated, a module's signature is left out: to check it takes longer than all else that
//! loading does, a quarter of the instructions of a boot, and it says nothing about modules that come with the kernel
//! itself. The kernel then says that it is tainted by unsigned modules (E). One that insists gets them signed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module, init_module};

use super::{Error, console, devices};
use crate::image::module_index::ModuleIndex;

/// What stands at the end of a signed module (linux/module_signature.h).
const SIGNED: &[u8] = b"~Module signature appended~\n";
/// Modules that are loaded at once. More of them would only wait for each other.
const AT_ONCE: usize = 2;

/// The modules of the kernel that runs.
pub(super) struct Modules {
    dir: PathBuf,
    index: ModuleIndex,
    /// Whether signatures are left out.
    bare: bool,
}

impl Modules {
    /// Reads the index; `base` has a directory for each kernel.
    pub(super) fn open(base: &Path) -> Result<Self, Error> {
        let release = "/proc/sys/kernel/osrelease";
        let release = fs::read_to_string(release).map_err(Error::io("read", release))?;
        let dir = base.join(release.trim());
        let path = dir.join("modules.dep");
        let dep = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        Ok(Self { dir, index: ModuleIndex::parse(&dep, ""), bare: devices::is_emulated() })
    }

    /// Loads a module by its name, and what it needs; one that there is no file of may be built in, and one for
    /// devices that are not there does no harm.
    pub(super) fn load(&self, name: &str) {
        for path in self.index.chain(name).unwrap_or_default() {
            self.insert(path);
        }
    }

    /// Loads modules by their paths, each after those that stand before it and that it needs; `loaded` hears of each.
    /// Then, by their names, those of `more` that there are.
    pub(super) fn load_all<'a>(&'a self, paths: &[&'a str], more: &[&str], loaded: impl Fn(&str) + Sync) {
        let mut order = paths.to_vec();
        for path in more.iter().filter_map(|name| self.index.chain(name)).flatten() {
            if !order.contains(&path.as_str()) {
                order.push(path);
            }
        }
        let next = AtomicUsize::new(0);
        let (done, changed) = (Mutex::new(BTreeSet::new()), Condvar::new());
        let work = || {
            while let Some((at, path)) = {
                let at = next.fetch_add(1, Ordering::Relaxed);
                order.get(at).map(|path| (at, *path))
            } {
                let needed: Vec<&str> = self.needed(path).filter(|path| order[..at].contains(path)).collect();
                let mut guard = done.lock().unwrap_or_else(PoisonError::into_inner);
                while !needed.iter().all(|path| guard.contains(path)) {
                    guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
                }
                drop(guard);
                self.insert(path);
                loaded(path);
                done.lock().unwrap_or_else(PoisonError::into_inner).insert(path);
                changed.notify_all();
            }
        };
        thread::scope(|scope| {
            (1..AT_ONCE).for_each(|_| drop(scope.spawn(work)));
            work();
        });
    }

    /// The paths that a module needs, but its own.
    fn needed(&self, path: &str) -> impl Iterator<Item = &str> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let chain = self.index.chain(name).unwrap_or_default();
        chain.iter().map(String::as_str).filter(move |needed| *needed != path)
    }

    fn insert(&self, path: &str) {
        let file = self.dir.join(path);
        let result = if self.bare { insert_bare(&file) } else { insert_signed(&file) };
        // A processor may lack what a driver is for (crc32c-intel): what is really needed is missed by name later.
        if let Err(error) = result
            && !matches!(error, Errno::EEXIST | Errno::ENODEV)
        {
            console::say(&format!("module {path}: {error}"));
        }
    }
}

fn insert_signed(path: &Path) -> Result<(), Errno> {
    finit_module(&File::open(path).map_err(errno)?, c"", ModuleInitFlags::empty())
}

fn insert_bare(path: &Path) -> Result<(), Errno> {
    let content = fs::read(path).map_err(errno)?;
    match content.strip_suffix(SIGNED).map(|bare| init_module(bare, c"")) {
        Some(Ok(())) => Ok(()),
        Some(Err(error @ (Errno::EEXIST | Errno::ENODEV))) => Err(error),
        // Not signed, or this kernel takes only those that are.
        None | Some(Err(_)) => insert_signed(path),
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_loaded_after_what_it_needs() {
        let dep = "k/c.ko: k/b.ko k/a.ko\nk/b.ko: k/a.ko\nk/a.ko:\nk/x.ko:\nk/z.ko: k/y.ko k/x.ko\nk/y.ko: k/x.ko\n";
        let dir = tempfile::tempdir().expect("tempdir");
        // No kernel takes these, as there are no such files.
        let modules =
            Modules { dir: dir.path().join("none"), index: ModuleIndex::parse(dep, ""), bare: false };
        for _ in 0..50 {
            let order = Mutex::new(Vec::new());
            let note = |path: &str| order.lock().expect("lock").push(path.to_owned());
            modules.load_all(&["k/x.ko", "k/a.ko", "k/b.ko", "k/c.ko"], &["z", "unknown"], note);
            let order = order.into_inner().expect("lock");
            let at = |name: &str| order.iter().position(|path| path == name).expect("loaded");
            assert_eq!(order.len(), 6);
            assert!(at("k/a.ko") < at("k/b.ko") && at("k/b.ko") < at("k/c.ko"), "{order:?}");
            assert!(at("k/x.ko") < at("k/y.ko") && at("k/y.ko") < at("k/z.ko"), "{order:?}");
        }
    }

    #[test]
    fn a_list_in_a_wrong_order_does_not_hang() {
        let index = ModuleIndex::parse("k/b.ko: k/a.ko\nk/a.ko:\n", "");
        let modules = Modules { dir: PathBuf::from("/nonexistent"), index, bare: true };
        modules.load_all(&["k/b.ko", "k/a.ko"], &[], |_| ());
    }
}

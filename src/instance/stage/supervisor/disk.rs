//! The disk's files, opened for QEMU.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::edge::lock::Lock;
use crate::instance::stage::user::Inherited;
use crate::vm::spec::{Disk, DiskFiles};

/// Longest name of a base in a qcow2 header (QEMU's docs/interop/qcow2.txt).
const BASE_NAME_MAX: u32 = 1023;

/// A disk, locked against every other instance; QEMU's own lock is of another kind and comes on top.
pub(super) struct Files {
    disk: File,
    base: Option<File>,
    lock: Lock,
}

impl Files {
    pub(super) fn open(disk: &Disk) -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot open disk {}: {error}", disk.path.display());
        let lock = Lock::try_exclusive(&disk.path).map_err(failed)?;
        let lock =
            lock.ok_or_else(|| format!("disk {} is in use by another instance", disk.path.display()))?;
        let mut file = OpenOptions::new().read(true).write(true).open(&disk.path).map_err(failed)?;
        // An ephemeral disk is one that civm made, over an image of its cache. Any other has no base.
        let base = if disk.ephemeral { base(&mut file).map_err(failed)? } else { None };
        let open = |path: PathBuf| {
            File::open(&path).map_err(|error| format!("cannot open image {}: {error}", path.display()))
        };
        Ok(Self { disk: file, base: base.map(open).transpose()?, lock })
    }

    /// The numbers under which QEMU has them.
    pub(super) fn inherit(&self, inherited: &mut Inherited) -> io::Result<DiskFiles> {
        let mut number = |file: &File| inherited.descriptor(file.try_clone()?);
        Ok(DiskFiles { disk: number(&self.disk)?, base: self.base.as_ref().map(&mut number).transpose()? })
    }

    /// What is held as long as the machine runs.
    pub(super) fn into_lock(self) -> Lock {
        self.lock
    }
}

/// The base that a qcow2 header names: its name's place at byte 8, the length at byte 16, big endian.
fn base(disk: &mut File) -> io::Result<Option<PathBuf>> {
    let mut header = [0; 20];
    disk.read_exact(&mut header)?;
    let (mut place, mut length) = ([0; 8], [0; 4]);
    place.copy_from_slice(&header[8..16]);
    length.copy_from_slice(&header[16..20]);
    let (place, length) = (u64::from_be_bytes(place), u32::from_be_bytes(length));
    if place == 0 || length == 0 || length > BASE_NAME_MAX {
        return Ok(None);
    }
    let mut name = String::new();
    disk.seek(SeekFrom::Start(place))?;
    disk.take(length.into()).read_to_string(&mut name)?;
    Ok(Some(PathBuf::from(name)))
}

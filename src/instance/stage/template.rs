//! A template's files, opened for the QEMU that makes it or is resumed from it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Whence, lseek64};

use crate::instance::plan::{RAM, STATE, Template};
use crate::instance::stage::user::{Inherited, QemuUser};
use crate::vm::spec::MemoryFile;

/// What QEMU is given of a template.
#[derive(Debug)]
pub(super) struct Files {
    /// The memory.
    pub(super) memory: MemoryFile,
    /// The descriptor that QEMU reads the machine's state from.
    pub(super) state: Option<RawFd>,
}

/// Opens or makes the files. `user` is who QEMU runs as, where that is not us.
pub(super) fn open(
    template: &Template,
    memory_mib: u32,
    user: Option<QemuUser>,
    inherited: &mut Inherited,
) -> Result<Files, String> {
    let (directory, resumed) = match template {
        Template::Make(directory) => (directory, false),
        Template::Resume { directory, .. } => (directory, true),
    };
    let failed = |error: io::Error| format!("cannot open the template {}: {error}", directory.display());
    let ram = directory.join(RAM);
    if !resumed {
        let path = make_memory(&ram, memory_mib, user, inherited).map_err(failed)?;
        return Ok(Files { memory: MemoryFile { path, private: false, resumed }, state: None });
    }
    let state = File::open(directory.join(STATE)).map_err(failed)?;
    let state = Some(inherited.descriptor(state).map_err(failed)?);
    let memory = match user {
        None => MemoryFile { path: ram, private: true, resumed },
        // QEMU opens memory for writing, even where it writes none of it. Whoever breaks out of the guest into that QEMU must
        // not have all other guests of the template in its hands: it gets a copy.
        Some(_) => {
            let path = copied(&ram, inherited).map_err(failed)?;
            MemoryFile { path, private: false, resumed }
        }
    };
    Ok(Files { memory, state })
}

/// Where a machine's state is written to.
pub(super) fn create_state(directory: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(directory.join(STATE))
}

fn make_memory(
    path: &Path,
    memory_mib: u32,
    user: Option<QemuUser>,
    inherited: &mut Inherited,
) -> io::Result<PathBuf> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    file.set_len(u64::from(memory_mib) << 20)?;
    let Some(user) = user else { return Ok(path.to_owned()) };
    user.own(path)?;
    Ok(descriptor_path(inherited.descriptor(file)?))
}

/// A copy in memory of a file with holes.
fn copied(path: &Path, inherited: &mut Inherited) -> io::Result<PathBuf> {
    let from = File::open(path)?;
    let length = from.metadata()?.len();
    let to = File::from(memfd_create(c"civm", MFdFlags::MFD_CLOEXEC)?);
    to.set_len(length)?;
    let seek = |at: i64, whence| match lseek64(&from, at, whence) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENXIO) => Ok(None),
        Err(error) => Err(io::Error::from(error)),
    };
    let mut at = 0;
    while let Some(begin) = seek(at, Whence::SeekData)? {
        at = seek(begin, Whence::SeekHole)?.unwrap_or(begin);
        copy_range(&from, &to, begin, at)?;
    }
    Ok(descriptor_path(inherited.descriptor(to)?))
}

fn copy_range(from: &File, to: &File, begin: i64, end: i64) -> io::Result<()> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let (mut from, mut to) = (from, to);
    let unsigned = |number: i64| u64::try_from(number).map_err(io::Error::other);
    from.seek(SeekFrom::Start(unsigned(begin)?))?;
    to.seek(SeekFrom::Start(unsigned(begin)?))?;
    io::copy(&mut from.take(unsigned(end - begin)?), &mut to).map(drop)
}

fn descriptor_path(number: RawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{number}"))
}

#[cfg(test)]
mod tests {
    use super::copied;
    use crate::instance::stage::user::Inherited;
    use std::fs::File;
    use std::io::{Seek as _, SeekFrom, Write as _};

    #[test]
    fn a_copy_has_what_the_file_has() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ram");
        let mut file = File::create(&path).unwrap();
        for at in [0, 1 << 20, (4 << 20) - 3] {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(b"abc").unwrap();
        }
        file.set_len(8 << 20).unwrap();
        let mut inherited = Inherited::default();
        let copy = copied(&path, &mut inherited).unwrap();
        assert_eq!(std::fs::read(copy).unwrap(), std::fs::read(path).unwrap());
    }
}

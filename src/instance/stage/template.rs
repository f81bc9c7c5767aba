//! A template's files, opened for the QEMU that makes it or is resumed from it.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Whence, geteuid, lseek64};

use crate::edge::lock::Lock;
use crate::edge::processes;
use crate::instance::plan::{RAM, STATE, Template};
use crate::instance::stage::user::{Inherited, QemuUser};
use crate::vm::spec::MemoryFile;

/// What QEMU is given of a template.
#[derive(Debug)]
pub(super) struct Files {
    /// The memory.
    pub(super) memory: MemoryFile,
    /// What a machine is resumed from.
    pub(super) resumed: Option<Resumed>,
}

/// What a machine is resumed from.
#[derive(Debug)]
pub(super) struct Resumed {
    /// The descriptor that QEMU reads the machine's state from.
    state: RawFd,
    /// The copy of the memory that is under way while QEMU starts.
    copying: Option<JoinHandle<io::Result<()>>>,
}

impl Resumed {
    /// The descriptor of the state, once the memory is there too.
    pub(super) fn state(self) -> Result<RawFd, String> {
        let copied = self.copying.map(JoinHandle::join).transpose();
        let copied = copied.map_err(|_| "it broke off".to_owned());
        copied
            .and_then(|copied| copied.transpose().map_err(|error| error.to_string()))
            .map_err(|reason| format!("cannot copy the template's memory: {reason}"))?;
        Ok(self.state)
    }
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
        return Ok(Files { memory: MemoryFile { path, private: false, resumed }, resumed: None });
    }
    let state = File::open(directory.join(STATE)).map_err(failed)?;
    let state = inherited.descriptor(state).map_err(failed)?;
    let (path, copying) = match user {
        None => (ram, None),
        // QEMU opens memory for writing, even where it writes none of it. Whoever breaks out of the guest into that QEMU must
        // not have all other guests of the template in its hands: it gets a copy that nobody can write to, the same for all.
        Some(_) => shared(&ram, inherited).map_err(failed)?,
    };
    let memory = MemoryFile { path, private: true, resumed };
    Ok(Files { memory, resumed: Some(Resumed { state, copying }) })
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

/// What a copy is sealed with: who has it open for writing cannot write to it either, and maps it privately.
fn seals() -> SealFlag {
    SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL
}

/// A sealed copy in memory of a template's memory: the one that a running machine has, or a new one, which is made
/// meanwhile. QEMU does not look into it before it is told to go on, and until then no guest has a hand in that QEMU.
fn shared(
    path: &Path,
    inherited: &mut Inherited,
) -> io::Result<(PathBuf, Option<JoinHandle<io::Result<()>>>)> {
    // Of several that start at once the first makes it.
    let lock = Lock::exclusive(path)?;
    let metadata = lock.file().metadata()?;
    // A template that was made again under its name is another file.
    let (device, inode, seconds) = (metadata.dev(), metadata.ino(), metadata.mtime());
    let name = format!("civm-{device}-{inode}-{seconds}.{}", metadata.mtime_nsec());
    let (copy, copying) = match held(&name) {
        Some(copy) => (copy, None),
        None => {
            let (from, to) = (File::open(path)?, empty(&CString::new(name)?, metadata.len())?);
            let copy = to.try_clone()?;
            let copying = thread::spawn(move || {
                let done = fill(&from, &to);
                // The next one looks for it.
                drop(lock);
                done
            });
            (copy, Some(copying))
        }
    };
    Ok((descriptor_path(inherited.descriptor(copy)?), copying))
}

/// The copy of this name that some machine of root's has open.
fn held(name: &str) -> Option<File> {
    let copy = PathBuf::from(format!("/memfd:{name} (deleted)"));
    let is_named =
        |file: &File| fs::read_link(descriptor_path(file.as_raw_fd())).is_ok_and(|target| target == copy);
    // A supervisor has it until its QEMU does. A QEMU that a guest has taken over may put another file in its place between
    // two looks, or a pipe.
    processes::links_to(&copy, &["qemu-system", "civm"]).find_map(|link| {
        let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(link).ok();
        file.filter(|file| is_named(file) && is_ours(file))
    })
}

/// Whether root made and sealed it. Any QEMU can make one of its name, but it is that QEMU's user's.
fn is_ours(copy: &File) -> bool {
    let sealed = fcntl(copy, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_truncate);
    sealed.is_ok_and(|sealed| sealed.contains(seals()))
        && copy.metadata().is_ok_and(|metadata| metadata.uid() == geteuid().as_raw())
}

/// A file in memory, of nothing but a hole.
fn empty(name: &CString, length: u64) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(name.as_c_str(), flags)?);
    file.set_len(length)?;
    Ok(file)
}

/// Copies a file with holes, and seals the copy.
fn fill(from: &File, to: &File) -> io::Result<()> {
    let seek = |at: i64, whence| match lseek64(from, at, whence) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENXIO) => Ok(None),
        Err(error) => Err(io::Error::from(error)),
    };
    let mut at = 0;
    while let Some(begin) = seek(at, Whence::SeekData)? {
        at = seek(begin, Whence::SeekHole)?.unwrap_or(begin);
        copy_range(from, to, begin, at)?;
    }
    fcntl(to, FcntlArg::F_ADD_SEALS(seals()))?;
    Ok(())
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
    use super::{Inherited, empty, fill, held, is_ours};
    use std::fs::{File, OpenOptions};
    use std::io::{Seek as _, SeekFrom, Write as _};
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_copy_is_one_for_all_and_nobody_writes_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ram");
        let mut file = File::create(&path).unwrap();
        for at in [0, 1 << 20, (4 << 20) - 3] {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(b"abc").unwrap();
        }
        file.set_len(8 << 20).unwrap();
        let mut inherited = Inherited::default();
        let mut shared = |path| {
            let (copy, copying) = super::shared(path, &mut inherited).unwrap();
            copying.into_iter().for_each(|copying| copying.join().unwrap().unwrap());
            copy
        };
        let copy = shared(&path);
        assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&path).unwrap());
        let same = shared(&path);
        assert_eq!(same.metadata().unwrap().ino(), copy.metadata().unwrap().ino());
        let mut opened = OpenOptions::new().read(true).write(true).open(&copy).unwrap();
        assert!(opened.write_all(b"x").is_err() && opened.set_len(0).is_err());

        // Another file of the same name is copied anew.
        std::fs::rename(&path, directory.path().join("old")).unwrap();
        std::fs::write(&path, "other").unwrap();
        let other = shared(&path);
        assert_eq!(std::fs::read(other).unwrap(), b"other");
    }

    #[test]
    fn a_copy_that_can_be_written_to_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ram");
        std::fs::write(&path, "abc").unwrap();
        let sealed = empty(&c"civm-test-sealed".to_owned(), 3).unwrap();
        fill(&File::open(&path).unwrap(), &sealed).unwrap();
        assert!(is_ours(&sealed) && held("civm-test-sealed").is_some());
        let flags = nix::sys::memfd::MFdFlags::MFD_ALLOW_SEALING;
        let open = File::from(nix::sys::memfd::memfd_create(c"civm-test-open", flags).unwrap());
        assert!(!is_ours(&open) && held("civm-test-open").is_none());
    }
}

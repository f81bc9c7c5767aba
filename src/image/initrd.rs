//! The initrd: civm's own binary as PID 1, and the kernel's modules. Not compressed, since unpacking
//! is slow where the processor is emulated.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cpio::newc::{Builder, ModeFileType, trailer};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::{Error, debian_name, layout};
use crate::edge::{atomic, hex};
use crate::host::spec::Arch;

/// Goes up with every change to the archive's layout.
const VERSION: &str = "civm initrd 1";
/// How long the initrd of another civm stays: one that starts an instance right now may need it.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes at the end of an archive that hold its last entry.
const END: u64 = 512;
/// ELF machine numbers.
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;
/// ELF program header type of the dynamic loader's path.
const PT_INTERP: u32 = 3;
/// Directories that PID 1 mounts something on.
const MOUNT_POINTS: [&str; 5] = ["dev", "proc", "run", "sys", "sysroot"];

/// A static binary that can be a guest's PID 1.
#[derive(Debug)]
pub(super) struct GuestBinary {
    content: Vec<u8>,
}

impl GuestBinary {
    /// Reads it and makes sure that it runs without a dynamic loader, on that architecture.
    ///
    /// # Errors
    /// [`Error::DynamicBinary`]; [`Error::Content`] where it is something else; [`Error::Io`].
    pub(super) fn load(path: Option<&Path>, arch: Arch) -> Result<Self, Error> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => std::env::current_exe().map_err(Error::io("find", "the running civm"))?,
        };
        let content = fs::read(&path).map_err(unreadable).map_err(Error::io("read", &path))?;
        let elf =
            Elf::parse(&content).ok_or_else(|| Error::content(&path, "is not a 64-bit Linux program"))?;
        let machine = match arch {
            Arch::X86_64 => EM_X86_64,
            Arch::Aarch64 => EM_AARCH64,
        };
        if elf.machine != machine {
            let reason = format!("is for another processor than the guest's ({})", debian_name(arch));
            return Err(Error::content(&path, reason));
        }
        if elf.dynamic { Err(Error::DynamicBinary(path)) } else { Ok(Self { content }) }
    }
}

/// A program can be run by who may not read it; then this is why it must be read.
fn unreadable(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let reason = format!("{error}; civm must be readable: it is the guest's PID 1 as well");
            io::Error::new(error.kind(), reason)
        }
        _ => error,
    }
}

/// The little of an ELF header that matters here.
#[derive(Debug, PartialEq, Eq)]
struct Elf {
    machine: u16,
    dynamic: bool,
}

impl Elf {
    /// Little-endian 64-bit files only.
    fn parse(bytes: &[u8]) -> Option<Self> {
        if !bytes.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let offset = usize::try_from(u64::from_le_bytes(bytes.get(32..40)?.try_into().ok()?)).ok()?;
        let (size, count) = (usize::from(u16_at(54)?), usize::from(u16_at(56)?));
        let mut dynamic = false;
        for index in 0..count {
            let at = offset.checked_add(index * size)?;
            let kind = u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?);
            dynamic |= kind == PT_INTERP;
        }
        Some(Self { machine: u16_at(18)?, dynamic })
    }
}

/// Where the initrd of an image and a binary lies.
pub(super) fn path(image: &Path, binary: &GuestBinary) -> PathBuf {
    let hash = Sha256::new().chain_update(VERSION).chain_update(&binary.content).finalize();
    image.join(format!("initrd-{}.cpio", hex::encode(&hash[..16])))
}

/// Makes an initrd where the image's directory lacks it.
///
/// # Errors
/// [`Error::Io`], [`Error::Write`].
pub(super) fn ensure(image: &Path, binary: &GuestBinary, path: &Path) -> Result<(), Error> {
    if is_complete(path) {
        return Ok(());
    }
    let mut out = Vec::new();
    write(&mut out, image, &binary.content)?;
    atomic::create(path, &out, 0o644, true).map_err(Error::Write)?;
    remove_old(image, path);
    Ok(())
}

/// Whether an archive has its end: one that a crash cut short has not.
fn is_complete(path: &Path) -> bool {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
        let mut end = Vec::new();
        file.take(END).read_to_end(&mut end)?;
        Ok(end)
    };
    let mut end = Vec::new();
    read().is_ok_and(|found| trailer(&mut end).is_ok() && found.ends_with(&end))
}

fn write(out: &mut impl Write, image: &Path, binary: &[u8]) -> Result<(), Error> {
    let mut archive = Archive { out, inode: 0 };
    let failed = || Error::io("write the initrd in", image);
    for dir in MOUNT_POINTS {
        archive.dir(dir).map_err(failed())?;
    }
    // PID 1's standard output where the kernel finds it before devtmpfs is mounted.
    archive.console().map_err(failed())?;
    archive.file("init", 0o755, binary).map_err(failed())?;
    let base = layout::INITRD_DIR.trim_start_matches('/');
    archive.dir(base).map_err(failed())?;
    for name in [layout::EARLY_MODULES, layout::MODULES] {
        for entry in WalkDir::new(image.join(name)).sort_by_file_name() {
            let entry = entry.map_err(|error| Error::io("read", image)(error.into()))?;
            let path = entry.path();
            let inside = path.strip_prefix(image).unwrap_or(path);
            let inside = format!("{base}/{}", inside.display());
            if entry.file_type().is_dir() {
                archive.dir(&inside).map_err(failed())?;
            } else {
                let content = fs::read(path).map_err(Error::io("read", path))?;
                archive.file(&inside, 0o644, &content).map_err(failed())?;
            }
        }
    }
    trailer(archive.out).map(drop).map_err(failed())
}

/// A newc archive whose entries belong to root and have no times: the same content, the same bytes.
struct Archive<W> {
    out: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    fn entry(&mut self, name: &str, mode: u32, kind: ModeFileType) -> Builder {
        self.inode += 1;
        Builder::new(name).ino(self.inode).nlink(1).mode(mode).set_mode_file_type(kind)
    }

    fn dir(&mut self, name: &str) -> io::Result<()> {
        let entry = self.entry(name, 0o755, ModeFileType::Directory);
        entry.write(&mut self.out, 0).finish().map(drop)
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let mut writer = self.entry(name, mode, ModeFileType::Regular).write(&mut self.out, size);
        writer.write_all(content)?;
        writer.finish().map(drop)
    }

    fn console(&mut self) -> io::Result<()> {
        let entry = self.entry("dev/console", 0o600, ModeFileType::Char);
        entry.rdev_major(5).rdev_minor(1).write(&mut self.out, 0).finish().map(drop)
    }
}

/// Removes initrds of other binaries that are old enough; a failure to do so harms nobody.
fn remove_old(image: &Path, current: &Path) {
    let Ok(entries) = fs::read_dir(image) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let age = path.metadata().and_then(|data| data.modified()).ok();
        let age = age.and_then(|time| SystemTime::now().duration_since(time).ok());
        let old = age.is_some_and(|age| age > KEPT);
        if path != current && name.starts_with("initrd-") && name.ends_with(".cpio") && old {
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn image(dir: &Path) {
        fs::create_dir_all(dir.join("modules/6.1/kernel")).expect("mkdir");
        fs::write(dir.join("modules/6.1/kernel/a.ko"), "module").expect("write");
        fs::write(dir.join(layout::EARLY_MODULES), "6.1/kernel/a.ko\n").expect("write");
    }

    fn names(archive: &Path) -> Vec<(String, u32, Vec<u8>)> {
        let mut input = File::open(archive).expect("open");
        let mut found = Vec::new();
        loop {
            let mut reader = cpio::newc::Reader::new(input).expect("entry");
            if reader.entry().is_trailer() {
                return found;
            }
            let mut content = Vec::new();
            io::Read::read_to_end(&mut reader, &mut content).expect("content");
            found.push((reader.entry().name().to_owned(), reader.entry().mode(), content));
            input = reader.finish().expect("finish");
        }
    }

    fn ensure(image: &Path, binary: &GuestBinary) -> Result<PathBuf, Error> {
        let path = path(image, binary);
        super::ensure(image, binary, &path).map(|()| path)
    }

    #[test]
    fn the_archive_holds_the_binary_as_init_and_the_modules_below_civm() {
        let dir = tempfile::tempdir().expect("tempdir");
        image(dir.path());
        let path = ensure(dir.path(), &GuestBinary { content: b"binary".to_vec() }).expect("initrd");
        let found = names(&path);
        let get = |name: &str| found.iter().find(|(n, ..)| n == name).expect(name);
        assert_eq!(get("init").1, 0o100_755);
        assert_eq!(get("init").2, b"binary");
        assert_eq!(get("dev/console").1, 0o020_600);
        assert_eq!(get("civm/modules/6.1/kernel/a.ko").2, b"module");
        assert_eq!(get("civm/early-modules").2, b"6.1/kernel/a.ko\n");
        // A directory stands before what lies in it: the kernel makes none by itself.
        let at = |name: &str| found.iter().position(|(n, ..)| n == name).expect(name);
        assert!(at("civm") < at("civm/modules") && at("civm/modules") < at("civm/modules/6.1"));
    }

    #[test]
    fn another_binary_gets_another_initrd_and_the_same_one_the_same() {
        let dir = tempfile::tempdir().expect("tempdir");
        image(dir.path());
        let one = ensure(dir.path(), &GuestBinary { content: b"one".to_vec() }).expect("initrd");
        let two = ensure(dir.path(), &GuestBinary { content: b"two".to_vec() }).expect("initrd");
        assert_ne!(one, two);
        let bytes = fs::read(&one).expect("read");
        fs::remove_file(&one).expect("remove");
        let again = ensure(dir.path(), &GuestBinary { content: b"one".to_vec() }).expect("initrd");
        assert_eq!((&again, fs::read(&again).expect("read")), (&one, bytes));
    }

    #[test]
    fn an_initrd_that_was_cut_short_is_made_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        image(dir.path());
        let binary = GuestBinary { content: b"binary".to_vec() };
        let path = ensure(dir.path(), &binary).expect("initrd");
        let whole = fs::read(&path).expect("read");
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).expect("cut");
            assert_eq!(fs::read(ensure(dir.path(), &binary).expect("initrd")).expect("read"), whole);
        }
        // What a crash leaves of a file whose blocks were not written.
        fs::write(&path, vec![0; whole.len()]).expect("zeros");
        assert_eq!(fs::read(ensure(dir.path(), &binary).expect("initrd")).expect("read"), whole);
        // A whole one is left as it is.
        let before = path.metadata().expect("there").ino();
        ensure(dir.path(), &binary).expect("initrd");
        assert_eq!(path.metadata().expect("there").ino(), before);
    }

    #[test]
    fn a_dynamically_linked_program_is_refused() {
        let arch = Arch::native().expect("known architecture");
        let error = GuestBinary::load(Some(Path::new("/bin/sh")), arch).expect_err("dynamic");
        assert!(matches!(error, Error::DynamicBinary(_)), "{error}");
        let text = GuestBinary::load(Some(Path::new("/etc/passwd")), arch).expect_err("no program");
        assert!(matches!(text, Error::Content { .. }), "{text}");
    }

    #[test]
    fn a_program_that_may_not_be_read_is_explained() {
        let denied = unreadable(io::Error::from_raw_os_error(nix::libc::EACCES));
        let message = Error::io("read", "/opt/civm")(denied).to_string();
        assert!(message.starts_with("cannot read /opt/civm: Permission denied"), "{message}");
        assert!(message.ends_with("; civm must be readable: it is the guest's PID 1 as well"), "{message}");
        let gone = unreadable(io::Error::from_raw_os_error(nix::libc::ENOENT));
        assert!(!gone.to_string().contains("readable"));
    }

    #[test]
    fn a_cut_elf_file_is_refused_not_believed() {
        let bytes = fs::read("/bin/sh").expect("read");
        for end in [0, 4, 20, 40, 57, 63] {
            assert_eq!(Elf::parse(&bytes[..end]), None, "cut at {end}");
        }
    }
}

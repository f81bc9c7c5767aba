//! The initrd: civm's own binary as PID 1, and the kernel's modules. Not compressed, since unpacking
//! is slow where the processor is emulated.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cpio::newc::{Builder, ModeFileType, trailer};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::guest_binary::GuestBinary;
use super::{Error, layout};
use crate::edge::{atomic, hex};

/// Goes up with every change to the archive's layout.
const VERSION: &str = "civm initrd 2";
/// How long the initrd of another civm stays: one that starts an instance right now may need it.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes at the end of an archive that hold its last entry.
const END: u64 = 512;
/// Directories that PID 1 mounts something on.
const MOUNT_POINTS: [&str; 5] = ["dev", "proc", "run", "sys", "sysroot"];

/// Where the initrd of an image and a binary lies.
pub(super) fn path(image: &Path, binary: &GuestBinary) -> PathBuf {
    let hash = Sha256::new().chain_update(VERSION).chain_update(&binary.stamp).finalize();
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
    write(&mut out, image, &binary.content()?)?;
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

    fn binary(dir: &Path, content: &str) -> GuestBinary {
        let path = dir.join(content);
        if !path.exists() {
            fs::write(&path, content).expect("write");
        }
        GuestBinary::open(path).expect("open")
    }

    fn ensure(image: &Path, binary: &GuestBinary) -> Result<PathBuf, Error> {
        let path = path(image, binary);
        super::ensure(image, binary, &path).map(|()| path)
    }

    #[test]
    fn the_archive_holds_the_binary_as_init_and_the_modules_below_civm() {
        let dir = tempfile::tempdir().expect("tempdir");
        image(dir.path());
        let path = ensure(dir.path(), &binary(dir.path(), "binary")).expect("initrd");
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
        let one = ensure(dir.path(), &binary(dir.path(), "one")).expect("initrd");
        let two = ensure(dir.path(), &binary(dir.path(), "two")).expect("initrd");
        assert_ne!(one, two);
        let bytes = fs::read(&one).expect("read");
        fs::remove_file(&one).expect("remove");
        let again = ensure(dir.path(), &binary(dir.path(), "one")).expect("initrd");
        assert_eq!((&again, fs::read(&again).expect("read")), (&one, bytes));
    }

    #[test]
    fn an_initrd_that_was_cut_short_is_made_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        image(dir.path());
        let binary = binary(dir.path(), "binary");
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
}

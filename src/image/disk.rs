//! Disks of instances, made from an image's base disk.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Error, Image, tools};

/// A growing disk of its own: a copy of the base that needs nothing of the cache afterwards.
///
/// `size` is the virtual size in bytes; the guest grows its file system to it. The disk appears at
/// `path` complete or not at all; an existing file there is an error.
///
/// # Errors
/// [`Error::Content`] where `path` exists or `size` is smaller than the base; [`Error::Io`];
/// [`Error::Tool`] where `qemu-img` fails.
pub fn create(image: &Image, path: &Path, size: u64) -> Result<(), Error> {
    if path.symlink_metadata().is_ok() {
        return Err(Error::content(path, "already exists"));
    }
    check_size(image, path, size)?;
    let partial = partial_name(path);
    // What a machine keeps on its disk is its owner's alone.
    let made = fs::copy(&image.disk, &partial)
        .and_then(|_| fs::set_permissions(&partial, fs::Permissions::from_mode(0o600)))
        .map_err(Error::io("create", &partial))
        .and_then(|()| resize(&partial, size))
        .and_then(|()| publish(&partial, path));
    if made.is_err() {
        let _ = fs::remove_file(&partial);
    }
    made
}

/// A disk cannot be smaller than the file system that is on it.
fn check_size(image: &Image, path: &Path, size: u64) -> Result<(), Error> {
    let least = virtual_size(&image.disk)?;
    if size >= least {
        return Ok(());
    }
    let gib = |bytes: u64| bytes.div_ceil(1 << 30);
    Err(Error::content(
        path,
        format!("a disk of {}G is too small: this image needs {}G", gib(size), gib(least)),
    ))
}

/// A disk that holds only what differs from the base, for an instance that is thrown away: it needs
/// the image in the cache as long as it lives.
///
/// # Errors
/// As [`create`].
pub fn overlay(image: &Image, path: &Path, size: u64) -> Result<(), Error> {
    check_size(image, path, size)?;
    let mut command = Command::new(program("qemu-img")?);
    command.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
    command.arg(escape(&image.disk)).arg(path).arg(size.to_string());
    qemu_img(command, path)
}

/// Gives an existing disk more room; a smaller `size` than it has is an error of `qemu-img`.
///
/// # Errors
/// [`Error::Content`] with `qemu-img`'s words.
pub fn resize(path: &Path, size: u64) -> Result<(), Error> {
    let mut command = Command::new(program("qemu-img")?);
    command.args(["resize", "-q", "-f", "qcow2"]).arg(path).arg(size.to_string());
    qemu_img(command, path)
}

/// The virtual size of a qcow2 disk in bytes, from its header (offset 24, big endian).
///
/// # Errors
/// [`Error::Io`]; [`Error::Content`] where the file is no qcow2.
pub fn virtual_size(path: &Path) -> Result<u64, Error> {
    use std::io::Read;
    let mut header = [0_u8; 32];
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    file.read_exact(&mut header).map_err(Error::io("read", path))?;
    match header {
        [b'Q', b'F', b'I', 0xfb, ..] => {
            let mut size = [0_u8; 8];
            size.copy_from_slice(&header[24..32]);
            Ok(u64::from_be_bytes(size))
        }
        _ => Err(Error::content(path, "is no qcow2 disk")),
    }
}

fn publish(partial: &Path, path: &Path) -> Result<(), Error> {
    File::open(partial).and_then(|file| file.sync_all()).map_err(Error::io("sync", partial))?;
    // A link, not a rename: a disk that somebody else made meanwhile is never replaced.
    fs::hard_link(partial, path).map_err(Error::io("create", path))?;
    fs::remove_file(partial).map_err(Error::io("remove", partial))
}

fn partial_name(path: &Path) -> PathBuf {
    let mut name = OsStr::new(".").to_owned();
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.partial", std::process::id()));
    path.with_file_name(name)
}

/// `qemu-img` reads `a:b` as a protocol unless the path is absolute or says so.
fn escape(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn program(name: &'static str) -> Result<PathBuf, Error> {
    tools::find(name).ok_or_else(|| {
        Error::MissingTools(vec![super::error::Missing { program: name, package: "qemu-utils" }])
    })
}

fn qemu_img(mut command: Command, path: &Path) -> Result<(), Error> {
    let output = command.output().map_err(Error::io("run qemu-img for", path))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Error::content(path, words.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(dir: &Path) -> Image {
        let disk = dir.join("base.qcow2");
        let made =
            Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("8M").status();
        assert!(made.expect("qemu-img").success());
        Image {
            id: "0".repeat(32),
            arch: crate::host::spec::Arch::X86_64,
            kernel: PathBuf::new(),
            initrd: PathBuf::new(),
            disk,
            append: Vec::new(),
        }
    }

    #[test]
    fn a_disk_survives_the_loss_of_its_image_and_has_the_wanted_size() {
        let dir = tempfile::tempdir().expect("tempdir");
        let image = image(dir.path());
        let disk = dir.path().join("a:b c.qcow2");
        create(&image, &disk, 64 << 20).expect("create");
        fs::remove_file(&image.disk).expect("remove");
        assert_eq!(virtual_size(&disk).expect("size"), 64 << 20);
        let checked = Command::new("qemu-img").args(["check", "-q"]).arg(&disk).status();
        assert!(checked.expect("qemu-img").success());
        assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 1);
    }

    #[test]
    fn an_existing_disk_is_never_replaced() {
        let dir = tempfile::tempdir().expect("tempdir");
        let image = image(dir.path());
        let disk = dir.path().join("x.qcow2");
        fs::write(&disk, "mine").expect("write");
        assert!(create(&image, &disk, 64 << 20).is_err());
        assert_eq!(fs::read(&disk).expect("read"), b"mine");
    }

    #[test]
    fn a_size_below_the_base_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let image = image(dir.path());
        assert!(create(&image, &dir.path().join("x.qcow2"), 1 << 20).is_err());
        assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 1);
    }

    #[test]
    fn an_overlay_names_its_base() {
        let dir = tempfile::tempdir().expect("tempdir");
        let image = image(dir.path());
        let disk = dir.path().join("o.qcow2");
        overlay(&image, &disk, 32 << 20).expect("overlay");
        assert_eq!(virtual_size(&disk).expect("size"), 32 << 20);
        let info = Command::new("qemu-img").arg("info").arg(&disk).output().expect("qemu-img");
        assert!(String::from_utf8_lossy(&info.stdout).contains("backing file"));
    }
}

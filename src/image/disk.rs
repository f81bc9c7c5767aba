//! Disks of instances: made from an image's base disk, and looked at before a machine gets them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{Error, Image, run, tools};
use crate::edge::environment::Environment;
use crate::edge::{atomic, hex};

mod header;
mod partial;

use header::Header;
use partial::Partial;

/// A growing disk of its own: a copy of the base that needs nothing of the cache afterwards.
///
/// `size` is the virtual size in bytes; the guest grows its file system to it. The disk appears at
/// `path` complete or not at all; an existing file there is an error.
///
/// # Errors
/// [`Error::Content`] where `path` exists or `size` is smaller than the base; [`Error::Io`].
pub fn create(image: &Image, path: &Path, size: u64, environment: &Environment) -> Result<(), Error> {
    if path.symlink_metadata().is_ok() {
        return Err(Error::content(path, "already exists"));
    }
    check_size(image, path, size)?;
    if let Some(dir) = path.parent() {
        partial::sweep(dir);
    }
    // What a machine keeps on its disk is its owner's alone.
    let mut partial = Partial::new(path).map_err(Error::io("create", path))?;
    let mut base = File::open(&image.disk).map_err(Error::io("open", &image.disk))?;
    io::copy(&mut base, partial.file()).map_err(Error::io("create", path))?;
    // A template's has its size already.
    if base_size(image)? != size {
        resize(partial.path(), size, environment)?;
    }
    partial.publish(path).map_err(Error::io("create", path))
}

/// Removes the unfinished disks of a directory that nobody makes any more: a killed `up` left them.
pub fn sweep(dir: &Path) {
    partial::sweep(dir);
}

/// The unfinished disks that [`sweep`] would remove.
#[must_use]
pub fn unfinished(dir: &Path) -> Vec<PathBuf> {
    partial::dead(dir).map(|(path, _)| path).collect()
}

/// A disk cannot be smaller than the file system that is on it.
///
/// # Errors
/// [`Error::Content`] where `size`, in bytes, is smaller than the base.
pub fn check_size(image: &Image, path: &Path, size: u64) -> Result<(), Error> {
    let least = base_size(image)?;
    if size >= least {
        return Ok(());
    }
    let gib = |bytes: u64| bytes.div_ceil(1 << 30);
    Err(Error::content(
        path,
        format!("a disk of {}G is too small: this image needs {}G", gib(size), gib(least)),
    ))
}

/// The virtual size of an image's base disk, in bytes.
fn base_size(image: &Image) -> Result<u64, Error> {
    match inspect(&image.disk)? {
        Some(found) => Ok(found.virtual_size),
        None => Err(Error::content(&image.disk, "is gone")),
    }
}

/// A disk that holds only what differs from the base, for an instance that is thrown away: it needs
/// the image in the cache as long as it lives.
///
/// To run `qemu-img` takes as long as the rest of a start. All overlays of a size are the same as long as they are
/// empty, so that one is kept beside the image, and copied.
///
/// # Errors
/// As [`create`].
pub fn overlay(image: &Image, path: &Path, size: u64, environment: &Environment) -> Result<(), Error> {
    check_size(image, path, size)?;
    let kept = empty_overlay(image, size);
    match fs::read(&kept) {
        Ok(empty) => {
            let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            new.and_then(|mut file| file.write_all(&empty)).map_err(Error::io("create", path))
        }
        Err(_) => {
            qemu_img(path, environment, |command| {
                command.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
                command.arg(&image.disk).arg(path).arg(size.to_string());
            })?;
            // Where the cache may not be written to, the next start runs it again.
            let _ = fs::read(path).map(|empty| atomic::create(&kept, &empty, 0o600, true));
            Ok(())
        }
    }
}

/// Where an image's empty overlay of a size is kept. It names the image's disk by its path.
fn empty_overlay(image: &Image, size: u64) -> PathBuf {
    let base = image.disk.as_os_str().as_encoded_bytes();
    let hash = Sha256::new().chain_update(size.to_be_bytes()).chain_update(base).finalize();
    image.disk.with_file_name(format!("overlay-{}.qcow2", hex::encode(&hash[..16])))
}

/// Gives an existing disk more room; a smaller `size` than it has is an error of `qemu-img`.
///
/// # Errors
/// [`Error::Content`] with `qemu-img`'s words.
pub fn resize(path: &Path, size: u64, environment: &Environment) -> Result<(), Error> {
    qemu_img(path, environment, |command| {
        command.args(["resize", "-q", "-f", "qcow2"]).arg(path).arg(size.to_string());
    })
}

/// A disk that a machine can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The size that a guest sees, in bytes.
    pub virtual_size: u64,
    /// Where the file is, if a link leads to it.
    pub link_to: Option<PathBuf>,
}

/// Looks at a disk without opening it as QEMU would, so that it can be refused before anything is started; `None`
/// where there is none yet.
///
/// # Errors
/// What is there is not a disk of its own: a pipe, a directory, an empty or foreign file, a link that leads nowhere or
/// to somebody else's file, or a disk that refers to other files.
pub fn inspect(path: &Path) -> Result<Option<Disk>, Error> {
    look(path, Header::refusal)
}

/// The same for a disk that the runner of a NixOS machine makes, which may be based on a file of its store: who wrote
/// the runner has no need to hide what it opens in a disk.
///
/// # Errors
/// As [`inspect`], but for the base.
pub fn inspect_of_runner(path: &Path) -> Result<Option<Disk>, Error> {
    look(path, |header| Header { has_backing_file: false, ..*header }.refusal())
}

fn look(path: &Path, refusal: impl Fn(&Header) -> Option<&'static str>) -> Result<Option<Disk>, Error> {
    let link = match path.symlink_metadata() {
        Ok(found) if found.is_symlink() => Some(found),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let link_to = match &link {
        Some(_) => Some(fs::canonicalize(path).map_err(|error| broken_link(path, error))?),
        None => None,
    };
    // Asked before it is opened: to open a pipe would wait for its other end.
    let found = fs::metadata(path).map_err(Error::io("read", path))?;
    if !found.is_file() {
        return Err(Error::content(path, format!("is {}, not a disk", kind(&found))));
    }
    if let (Some(link), Some(target)) = (&link, &link_to) {
        let own = nix::unistd::geteuid().as_raw();
        if found.uid() != own || ![own, 0].contains(&link.uid()) {
            let reason =
                format!("is a link to {}: the link and the disk must both be yours", target.display());
            return Err(Error::content(path, reason));
        }
    }
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(Error::io("open", path))?;
    let mut bytes = Vec::with_capacity(header::LENGTH);
    (&mut file).take(header::LENGTH as u64).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.is_empty() {
        return Err(Error::content(path, "is empty: remove it, and the next `civm up` makes a new disk"));
    }
    let header = Header::parse(&bytes).ok_or_else(|| {
        let advice = "`qemu-img convert -f FORMAT -O qcow2` converts a disk of another format";
        Error::content(path, format!("is not a qcow2 disk; {advice}"))
    })?;
    match refusal(&header) {
        Some(reason) => Err(Error::content(path, format!("{reason}; {}", header.advice()))),
        None => Ok(Some(Disk { virtual_size: header.virtual_size, link_to })),
    }
}

fn broken_link(path: &Path, error: io::Error) -> Error {
    let target = fs::read_link(path).unwrap_or_default();
    match error.kind() {
        io::ErrorKind::NotFound => Error::content(
            path,
            format!(
                "is a link to {}, which does not exist: mount what holds it, or remove the link",
                target.display()
            ),
        ),
        _ => Error::io("follow the link", path)(error),
    }
}

fn kind(found: &fs::Metadata) -> &'static str {
    let kind = found.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

fn qemu_img(
    path: &Path,
    environment: &Environment,
    arguments: impl FnOnce(&mut std::process::Command),
) -> Result<(), Error> {
    // A path with a colon is read as a protocol unless it is absolute.
    debug_assert!(path.is_absolute(), "{}", path.display());
    let environment = environment.for_tools().with_system_dirs();
    let mut command = run::plain(&tools::find("qemu-img", &environment)?, &environment);
    arguments(&mut command);
    let output = command.output().map_err(Error::io("run qemu-img for", path))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Error::content(path, words.trim().to_owned()))
}

#[cfg(test)]
mod tests;

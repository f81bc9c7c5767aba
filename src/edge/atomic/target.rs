//! What a path leads to: a file to be replaced, or something to be written into.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;
use zeroize::Zeroizing;

use super::WriteError;
use super::staging::sweep;
use crate::edge::lock::Lock;

/// Links followed before a chain counts as a loop; the kernel's own limit.
const LINKS_FOLLOWED: usize = 40;

/// A file that is there, which this user may write and no other civm writes while this lives.
pub(super) struct Existing {
    lock: Lock,
    metadata: Metadata,
}

impl Existing {
    /// Opens and locks what is at a path. Waits for who writes it, and takes what that left there.
    pub(super) fn open(path: &Path, target: &Path) -> Result<Option<Self>, WriteError> {
        let failed = |source| WriteError::Io { path: path.to_owned(), source };
        loop {
            let opened = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(target);
            let file = match opened {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                    return Err(WriteError::NotAFile(path.to_owned()));
                }
                opened => opened.map_err(failed)?,
            };
            if !file.metadata().map_err(failed)?.is_file() {
                return Err(WriteError::NotAFile(path.to_owned()));
            }
            let lock = Lock::wait(file).map_err(failed)?;
            // Now, and not before: who had the lock may have changed it.
            let metadata = lock.file().metadata().map_err(failed)?;
            match fs::symlink_metadata(target) {
                Ok(named) if is_same(&named, &metadata) => return Ok(Some(Self { lock, metadata })),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
    }

    /// The file, open for writing.
    pub(super) fn file(&self) -> &File {
        self.lock.file()
    }

    pub(super) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// How many names it has.
    pub(super) fn links(&self) -> u64 {
        self.metadata.nlink()
    }

    /// Whether it is still what the path names, and holds this.
    pub(super) fn is_still(&self, target: &Path, content: &[u8]) -> io::Result<bool> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(target);
        let file = match opened {
            // Another has put a link there, or removed it.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENOENT)) => {
                return Ok(false);
            }
            opened => opened?,
        };
        if !is_same(&file.metadata()?, &self.metadata) {
            return Ok(false);
        }
        // To the end, and not as much as the system says there is: some file systems do not know.
        let most = content.len() + 1;
        let mut now = Zeroizing::new(Vec::with_capacity(most));
        file.take(most as u64).read_to_end(&mut now)?;
        Ok(*now == content)
    }
}

/// Whether two descriptions are of one file.
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Reads a file that [`swap`](super::swap) is to replace, and waits for a civm that writes it now. Where there are no
/// locks it is read as it is.
///
/// # Errors
///
/// The system refuses.
pub fn read_locked(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return read_to_end(&file);
    }
    match Lock::share(file) {
        Ok(lock) => read_to_end(lock.file()),
        Err(_) => fs::read(path),
    }
}

fn read_to_end(mut file: &File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// Cleans up what a killed civm left beside a file; see [`sweep`].
pub fn sweep_beside(path: &Path) {
    if let Ok((directory, _)) = follow_links(path).and_then(|target| split(&target)) {
        sweep(&directory);
    }
}

/// What a path leads to.
pub(super) enum Leads {
    /// A file, which need not exist, under a name that is not a link.
    ToFile(PathBuf),
    /// What is not a file that could be replaced: a pipe, a device, an open file.
    ToStream(File),
}

/// What a path leads to.
pub(super) fn leads_to(path: &Path) -> io::Result<Leads> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => return Ok(Leads::ToFile(path.to_owned())),
        _ => {}
    }
    match open_stream(path)? {
        Some(stream) => Ok(Leads::ToStream(stream)),
        None => follow_links(path).map(Leads::ToFile),
    }
}

fn open_stream(path: &Path) -> io::Result<Option<File>> {
    if let Some(number) = descriptor(path) {
        // A second descriptor of the same open file goes on where the others are, and works for sockets.
        return match number.as_str() {
            "1" => io::stdout().as_fd().try_clone_to_owned().map(|own| Some(own.into())),
            "2" => io::stderr().as_fd().try_clone_to_owned().map(|own| Some(own.into())),
            _ => OpenOptions::new().append(true).open(path).map(Some),
        };
    }
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => {
            OpenOptions::new().write(true).open(path).map(Some)
        }
        _ => Ok(None),
    }
}

/// The number of the open file of this process that a path names, as `/dev/stdout` and `/dev/fd/3` do. Such a
/// link looks like one to a path but leads to the open file itself.
fn descriptor(path: &Path) -> Option<String> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_FOLLOWED {
        // Most paths are not links, and what follows takes a dozen system calls.
        let link = fs::read_link(&path).ok()?;
        let (directory, name) = split(&path).ok()?;
        let open_files = fs::canonicalize("/proc/self/fd").ok()?;
        if fs::canonicalize(&directory).is_ok_and(|directory| directory == open_files) {
            return name.into_string().ok();
        }
        path = directory.join(link);
    }
    None
}

/// The file at the end of a chain of symbolic links; it need not exist.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_FOLLOWED {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => {
                let link = fs::read_link(&path)?;
                path = path.parent().unwrap_or(Path::new("")).join(link);
            }
            _ => return Ok(path),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

pub(super) fn split(path: &Path) -> io::Result<(PathBuf, OsString)> {
    let name = path.file_name().ok_or_else(|| io::Error::other("the path ends in no file name"))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((directory, name.to_owned()))
}

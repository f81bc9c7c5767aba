//! The private directory in which a file's new content is made.
//!
//! It lies beside the file, so that a rename is enough; nobody else can enter it, a `.gitignore` in it keeps git
//! away, and its name tells every civm what it is. One that a kill left is unlocked, and the next civm to work in
//! that place removes it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::libc;
use tempfile::TempPath;
use zeroize::Zeroizing;

use super::WriteError;
use super::directory_sync::sync_directory;
use crate::edge::cleanup::{HoldSignals, ShareHeldSignals};
use crate::edge::held_dir::{self, GITIGNORE, HeldDir, is_named};
use crate::edge::lock::Lock;
use crate::edge::stream::read_wiping;

/// What the names of these directories begin with.
const PREFIX: &str = ".civm-tmp-";
/// What a new content is called while nothing depends on it, before its number.
const PART: &str = "part";
/// The directory in it for a content that is whole and belongs into the file of its name.
const WHOLE: &str = "whole";

/// The place for a file's new content, in the private directory beside it. Threads that write files of one directory
/// share that.
pub(super) struct Staging {
    dir: Arc<HeldDir>,
    part: PathBuf,
    /// Whether the content has another name.
    gone: bool,
}

/// The directories of this process, by what they are in.
static SHARED: Mutex<BTreeMap<PathBuf, Weak<HeldDir>>> = Mutex::new(BTreeMap::new());
/// Numbers the contents.
static PARTS: AtomicU64 = AtomicU64::new(0);

/// Whether a name is that of such a directory.
#[must_use]
pub fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// Removes what killed processes left in a directory, and finishes the files that they were writing. Each directory
/// is looked at once in a run.
pub fn sweep(directory: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    // Held to the end: other threads find the files finished.
    let mut swept = SWEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if !swept.contains(directory) && swept.insert(directory.to_path_buf()) {
        held_dir::sweep(directory, PREFIX, |left| is_private(left) && finish(left, directory));
    }
}

impl Staging {
    pub(super) fn make(directory: &Path) -> io::Result<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shared.get(directory).and_then(Weak::upgrade);
        let dir = match known {
            Some(dir) => dir,
            None => {
                let made = Arc::new(Self::directory(directory)?);
                shared.insert(directory.to_path_buf(), Arc::downgrade(&made));
                made
            }
        };
        let part = dir.path().join(format!("{PART}{}", PARTS.fetch_add(1, Ordering::Relaxed)));
        Ok(Self { dir, part, gone: false })
    }

    fn directory(directory: &Path) -> io::Result<HeldDir> {
        let dir = HeldDir::make(directory, PREFIX, held_dir::remove)?;
        // Nothing is made in a directory that a signal is just removing.
        let signals = HoldSignals::begin();
        // Under a name that git never takes until it says what it has to.
        let unfinished = dir.path().join(".git");
        fs::write(&unfinished, "*\n")?;
        fs::rename(unfinished, dir.path().join(GITIGNORE))?;
        drop(signals);
        Ok(dir)
    }

    /// The file for the new content.
    pub(super) fn file(&self, mode: u32) -> io::Result<File> {
        let _signals = ShareHeldSignals::begin();
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&self.part)
    }

    /// Gives the content the file's name.
    pub(super) fn rename(mut self, target: &Path) -> io::Result<()> {
        // Who removes what a signal left must not find the file under its old name and wipe it under the new one.
        let _signals = ShareHeldSignals::begin();
        fs::rename(&self.part, target)?;
        self.gone = true;
        Ok(())
    }

    /// Gives the content a name that nothing has yet; false where something has it.
    pub(super) fn link(self, target: &Path) -> io::Result<bool> {
        let _signals = ShareHeldSignals::begin();
        match TempPath::try_from_path(&self.part)?.persist_noclobber(target) {
            Ok(()) => Ok(true),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error.error),
        }
    }

    /// Writes the content into a file that is to stay what it is. Until that is done no signal ends the process; if
    /// it is killed, the next sweep does it.
    pub(super) fn write_through(
        self,
        name: &OsStr,
        file: &File,
        content: &[u8],
        path: &Path,
        directory: &Path,
    ) -> Result<(), WriteError> {
        let failed = |source| WriteError::Io { path: path.to_owned(), source };
        let signals = HoldSignals::begin();
        let whole = self.dir.path().join(WHOLE);
        fs::create_dir_all(&whole).map_err(failed)?;
        let copy = whole.join(name);
        fs::rename(&self.part, &copy).map_err(failed)?;
        [&whole, self.dir.path(), directory].into_iter().try_for_each(sync_directory).map_err(failed)?;
        let written = overwrite(file, content);
        if written.is_ok() {
            held_dir::remove_file(&copy);
        }
        drop(signals);
        written.map_err(|source| {
            self.dir.leave();
            WriteError::BrokenOff { path: path.to_owned(), copy, source }
        })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.gone {
            held_dir::remove_file(&self.part);
        }
    }
}

/// Emptied first, as sops does it: what is broken off is the beginning of the content, and nothing else.
fn overwrite(file: &File, content: &[u8]) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all_at(content, 0)?;
    file.sync_all()
}

/// Whether a directory has the mode of those that are made here. Any other came with a project that somebody else wrote,
/// and says nothing of what civm was doing.
fn is_private(left: &Path) -> bool {
    fs::symlink_metadata(left).is_ok_and(|metadata| metadata.mode() & 0o7777 == 0o700)
}

/// Writes a file that a kill broke off, and says whether nothing is left to do. One that holds anything but the
/// beginning of the copy is not touched: somebody else has written it since.
fn finish(left: &Path, directory: &Path) -> bool {
    let whole = left.join(WHOLE);
    let is_directory = fs::symlink_metadata(&whole).is_ok_and(|metadata| metadata.is_dir());
    let Some(entries) = is_directory.then(|| fs::read_dir(&whole).ok()).flatten() else { return true };
    let mut copies = entries.flatten().map(|entry| (entry.path(), directory.join(entry.file_name())));
    copies.all(|(copy, target)| match finish_file(&copy, &target) {
        Err(error) => error.kind() == io::ErrorKind::NotFound,
        Ok(()) => true,
    })
}

fn finish_file(copy: &Path, target: &Path) -> io::Result<()> {
    let no_link = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let copy = OpenOptions::new().read(true).custom_flags(no_link).open(copy)?;
    if !copy.metadata()?.is_file() {
        return Ok(());
    }
    let content = read_wiping(copy)?;
    let file = OpenOptions::new().write(true).custom_flags(no_link).open(target)?;
    let lock = Lock::wait(file)?;
    let now = Zeroizing::new(fs::read(target)?);
    if is_named(lock.file(), target)? && now.len() < content.len() && content.starts_with(&now) {
        overwrite(lock.file(), &content)?;
    }
    Ok(())
}

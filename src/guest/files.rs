//! Files of the layer, laid over the image; those that a layer no longer has go again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use nix::unistd::syncfs;

use super::Error;
use super::notes::Notes;
use super::state::State;
use crate::host::rootfs::{Entry, Kind};
use crate::vm::agent::answer::How;

/// Mode of directories that a layer needs without describing them.
const DIR_MODE: u32 = 0o755;
/// Below the state's directory: what the image had where the layer has a file now, and copies of that which may not be
/// whole.
const ORIGINALS: &str = "originals";
const INCOMPLETE: &str = "originals.new";

/// Lays files over the root.
pub(super) struct Overlay<'a> {
    root: &'a Path,
    memory: &'a Path,
    originals: PathBuf,
    state: &'a mut State,
    placed: BTreeSet<PathBuf>,
    /// Directories that the layer itself describes.
    described: BTreeSet<PathBuf>,
}

impl<'a> Overlay<'a> {
    /// `state_dir` is where what the layer covers is kept.
    pub(super) fn new(root: &'a Path, state_dir: &'a Path, state: &'a mut State) -> Self {
        Self {
            root,
            memory: state_dir,
            originals: state_dir.join(ORIGINALS),
            state,
            placed: BTreeSet::new(),
            described: BTreeSet::new(),
        }
    }

    /// Notes what differs from what is there.
    pub(super) fn compare(&self, entries: &[Entry], notes: &mut Notes) -> Result<(), Error> {
        let mut wanted: BTreeMap<PathBuf, &Entry> = BTreeMap::new();
        for entry in entries {
            wanted.insert(inside(&entry.path)?, entry);
        }
        for (path, entry) in &wanted {
            let target = self.root.join(path);
            let Ok(found) = target.symlink_metadata() else {
                notes.file(How::Added, path);
                continue;
            };
            let same = match &entry.kind {
                // One of the image keeps the mode that the image gave it.
                Kind::Directory => {
                    target.is_dir() && (!self.state.dirs.contains(path) || mode_of(&found) == entry.mode)
                }
                Kind::File(content) => is_as_wanted(&target, content, entry.mode),
                Kind::Link(to) => fs::read_link(&target).is_ok_and(|old| old == *to),
            };
            if !same {
                notes.file(How::Changed, path);
            }
        }
        for path in self.state.files.iter().filter(|path| !wanted.contains_key(*path)) {
            notes.file(How::Removed, path);
        }
        Ok(())
    }

    /// Copies what the entries will cover, and remembers all of them before the first is written: whenever this is cut
    /// off, a layer that has not got them any more removes them and gives back what was there.
    pub(super) fn prepare(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let incomplete = self.memory.join(INCOMPLETE);
        remove_tree(&incomplete)?;
        let mut copied = Vec::new();
        for entry in entries.iter().filter(|entry| entry.kind != Kind::Directory) {
            let path = inside(&entry.path)?;
            // A directory in the way is looked at when the file is laid.
            if !self.root.join(&path).symlink_metadata().is_ok_and(|found| found.is_dir()) {
                if self.needs_original(&path) {
                    let copy_of = incomplete.join(&path);
                    make_private(copy_of.parent())?;
                    copy(&self.root.join(&path), &copy_of)?;
                    copied.push(path.clone());
                }
                self.state.files.insert(path);
            }
        }
        if !copied.is_empty() {
            sync(&incomplete)?;
            for path in copied {
                let original = self.originals.join(&path);
                make_private(original.parent())?;
                fs::rename(incomplete.join(&path), &original).map_err(Error::io("create", &original))?;
            }
            remove_tree(&incomplete)?;
        }
        self.state.save(self.memory)
    }

    /// Lays one entry over the root, below which `path` is.
    pub(super) fn place(&mut self, entry: &Entry) -> Result<(), Error> {
        let path = inside(&entry.path)?;
        let target = self.root.join(&path);
        if matches!(entry.kind, Kind::Directory) {
            self.make_dir(&path, entry.mode)?;
            // One of the image keeps the mode that the image gave it.
            if self.state.dirs.contains(&path) {
                set_dir_mode(&target, entry.mode)?;
            }
            self.described.insert(path);
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make_dir(parent, DIR_MODE)?;
        }
        if target.symlink_metadata().is_ok_and(|data| data.is_dir()) {
            self.take_back(&path)?;
        }
        if target.symlink_metadata().is_ok_and(|data| data.is_dir()) {
            return Err(Error::content(&target, "is a directory where the layer has a file"));
        }
        self.state.files.insert(path.clone());
        self.placed.insert(path);
        match &entry.kind {
            Kind::File(content) => write(&target, content, entry.mode),
            Kind::Link(to) => link(&target, to),
            Kind::Directory => Ok(()),
        }
    }

    /// Removes what earlier layers brought and this one has not, giving back what the image had.
    pub(super) fn finish(self) -> Result<(), Error> {
        let gone: Vec<PathBuf> = self.state.files.difference(&self.placed).cloned().collect();
        let mut given_back = Vec::new();
        for path in &gone {
            let (target, original) = (self.root.join(path), self.originals.join(path));
            remove(&target)?;
            if original.symlink_metadata().is_ok() {
                copy(&original, &target)?;
                given_back.push(original);
            }
        }
        self.state.files.retain(|path| self.placed.contains(path));
        if !given_back.is_empty() {
            // Whenever this is cut off, the next layer finds either an original or what it has become.
            sync(self.root)?;
            self.state.save(self.memory)?;
            given_back.iter().try_for_each(|original| remove(original))?;
        }
        // The deepest first; one that is still in use stays and is asked about again.
        let dirs: Vec<PathBuf> = self.state.dirs.iter().rev().cloned().collect();
        for path in dirs {
            let used = self.placed.iter().chain(&self.described).any(|kept| kept.starts_with(&path));
            if !used && fs::remove_dir(self.root.join(&path)).is_ok() {
                self.state.dirs.remove(&path);
            }
        }
        Ok(())
    }

    /// A directory with its parents; one that is there stays as it is, here.
    fn make_dir(&mut self, path: &Path, mode: u32) -> Result<(), Error> {
        let target = self.root.join(path);
        if path.as_os_str().is_empty() || target.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make_dir(parent, DIR_MODE)?;
        }
        self.take_back(path)?;
        DirBuilder::new().mode(mode).create(&target).map_err(Error::io("create", &target))?;
        fs::set_permissions(&target, Permissions::from_mode(mode)).map_err(Error::io("create", &target))?;
        self.state.dirs.insert(path.to_owned());
        Ok(())
    }

    /// Removes what an earlier layer brought at a path that is to be something else now, and below it.
    fn take_back(&mut self, path: &Path) -> Result<(), Error> {
        let below = |known: &BTreeSet<PathBuf>| -> Vec<PathBuf> {
            known.iter().rev().filter(|one| one.starts_with(path)).cloned().collect()
        };
        for file in below(&self.state.files) {
            remove(&self.root.join(&file))?;
            self.state.files.remove(&file);
        }
        for dir in below(&self.state.dirs) {
            // One that holds something of the guest's own stays.
            if fs::remove_dir(self.root.join(&dir)).is_ok() {
                self.state.dirs.remove(&dir);
            }
        }
        Ok(())
    }

    /// Whether a file of the image is about to be covered for the first time. A copy that is there already is of a boot that
    /// was cut off, and whole.
    fn needs_original(&self, path: &Path) -> bool {
        let is_there = |path: PathBuf| path.symlink_metadata().is_ok();
        !self.state.files.contains(path)
            && is_there(self.root.join(path))
            && !is_there(self.originals.join(path))
    }
}

/// Makes a directory, and those above it, that only root looks into.
fn make_private(dir: Option<&Path>) -> Result<(), Error> {
    let Some(dir) = dir else { return Ok(()) };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::io("create", dir))
}

fn remove_tree(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", dir)(error)),
        _ => Ok(()),
    }
}

/// Has all that was written to a directory's file system on its disk.
fn sync(dir: &Path) -> Result<(), Error> {
    let failed = || Error::io("write", dir);
    let dir = File::open(dir).map_err(failed())?;
    syncfs(&dir).map_err(io::Error::from).map_err(failed())
}

/// The path without a leading `/`; one that leads out is not a path of a layer.
fn inside(path: &Path) -> Result<PathBuf, Error> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => clean.push(name),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::content(path, "leads out of the root"));
            }
        }
    }
    if clean.as_os_str().is_empty() {
        Err(Error::content(path, "is not a path of a file"))
    } else {
        Ok(clean)
    }
}

/// Replaces a file at once: whoever has it open keeps the old one.
pub(super) fn write(target: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let failed = || Error::io("write", target);
    if is_as_wanted(target, content, mode) {
        return Ok(());
    }
    let dir = target.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".civm-").tempfile_in(dir).map_err(failed())?;
    file.write_all(content).map_err(failed())?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).map_err(failed())?;
    file.persist(target).map(drop).map_err(|error| failed()(error.error))
}

fn mode_of(found: &fs::Metadata) -> u32 {
    found.permissions().mode() & 0o7777
}

fn is_as_wanted(target: &Path, content: &[u8], mode: u32) -> bool {
    let same_mode = target.symlink_metadata().is_ok_and(|found| found.is_file() && mode_of(&found) == mode);
    same_mode && fs::read(target).is_ok_and(|old| old == content)
}

fn link(target: &Path, to: &Path) -> Result<(), Error> {
    if fs::read_link(target).is_ok_and(|old| old == to) {
        return Ok(());
    }
    remove(target)?;
    symlink(to, target).map_err(Error::io("create", target))
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let done = match fs::read_link(from) {
        Ok(link) => symlink(link, to),
        Err(_) => copy_file(from, to),
    };
    done.map_err(Error::io("copy", from))
}

/// Copies a file with its owner, its group and its mode. A change of the owner takes bits from the mode, so that it comes last.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let found = from.metadata()?;
    fs::copy(from, to)?;
    chown(to, Some(found.uid()), Some(found.gid()))?;
    fs::set_permissions(to, found.permissions())
}

fn set_dir_mode(dir: &Path, mode: u32) -> Result<(), Error> {
    let failed = || Error::io("change", dir);
    let data = dir.symlink_metadata().map_err(failed())?;
    if !data.is_dir() || mode_of(&data) == mode {
        return Ok(());
    }
    fs::set_permissions(dir, Permissions::from_mode(mode)).map_err(failed())
}

/// Removes a file or link; one that is not there is fine as well.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    let gone = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    match fs::remove_file(path) {
        Err(error) if !gone.contains(&error.kind()) => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;

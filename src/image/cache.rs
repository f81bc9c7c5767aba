//! The cache of images: one directory an image, built aside and renamed when it is complete, one builder at a time.
//!
//! Every try builds in directories of its own, so that what a killed one left, and the processes of it that are
//! still about to end, hinder nobody. The lock of an image is held by who builds it: whoever gets it knows that
//! all unfinished builds of the image are dead.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use walkdir::WalkDir;

use super::run::{self, Job};
use super::{Error, Event, Progress};
use crate::edge::atomic;
use crate::edge::environment::Environment;
use crate::edge::lock::{Lock, open_file};

pub mod sent;
pub mod stored;
pub mod templates;

/// Folder of the images in a cache directory.
const IMAGES: &str = "images";
/// Prefix of the directories of unfinished builds; `<prefix><id>-<random>`.
const BUILDING: &str = ".building-";
/// Prefix of temporary directories outside the cache, with the same random part.
const SCRATCH: &str = "civm-image-";
/// In an unfinished build: where its temporary directory outside the cache is.
const SCRATCH_NOTE: &str = "scratch-path";
/// In a finished image: its files and their sizes. Without it, or where it is not true, the image is not complete.
const CONTENTS: &str = "contents.json";

/// The images of a cache directory.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    images: PathBuf,
    environment: Environment,
}

/// The right to build one image, and the place to do it.
#[derive(Debug)]
pub(super) struct Build {
    cache: Cache,
    id: String,
    /// Held as long as this lives.
    _lock: Lock,
    /// What becomes the image's directory.
    pub(super) dir: PathBuf,
    /// A directory that other users of a namespace can reach, for the tools' temporary files.
    pub(super) scratch: PathBuf,
}

impl Cache {
    /// `environment`: the variables of the tools that are run, and where temporary directories lie.
    pub(super) fn open(dir: &Path, environment: &Environment) -> Result<Self, Error> {
        let cache = Self::at(dir, environment)?;
        fs::create_dir_all(&cache.images).map_err(Error::io("create", &cache.images))?;
        Ok(cache)
    }

    /// The same, made or not.
    pub(super) fn at(dir: &Path, environment: &Environment) -> Result<Self, Error> {
        Self::of(IMAGES, dir, environment)
    }

    /// Another folder of a cache directory that is kept in the same way.
    fn of(folder: &str, dir: &Path, environment: &Environment) -> Result<Self, Error> {
        let images = std::path::absolute(dir).map_err(Error::io("find", dir))?.join(folder);
        Ok(Self { images, environment: environment.clone() })
    }

    /// The directory of a complete image.
    pub(super) fn find(&self, id: &str) -> Option<PathBuf> {
        Some(self.dir(id)).filter(|dir| is_complete(dir))
    }

    /// Where an image lies, or would.
    pub(super) fn dir(&self, id: &str) -> PathBuf {
        self.images.join(id)
    }

    /// What the programs of a build share; their output goes to the log of that name.
    pub(super) fn job(&self, build: &Build, name: &str) -> Result<Job, Error> {
        Job::new(self.images.join(format!("{name}.log")), &self.environment, &build.remains())
    }

    /// Waits for other builders of the image; `None` where one of them has finished it.
    pub(super) fn begin(&self, id: &str, progress: Progress<'_>) -> Result<Option<Build>, Error> {
        let path = self.lock_path(id);
        let open = || open_file(&path).map_err(Error::io("open", &path));
        let lock = match Lock::try_open(open()?) {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                progress(Event::Waiting);
                Lock::wait(open()?).map_err(Error::io("lock", &path))?
            }
            Err(error) => return Err(Error::io("lock", &path)(error)),
        };
        if self.find(id).is_some() {
            return Ok(None);
        }
        self.sweep();
        self.remove_builds(id);
        let damaged = self.dir(id);
        remove_tree(&damaged, &self.environment).map_err(Error::io("remove", &damaged))?;
        let dir = tempfile::Builder::new()
            .prefix(&format!("{BUILDING}{id}-"))
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(&self.images)
            .map_err(Error::io("create a directory in", &self.images))?
            .keep();
        let scratch = self.make_scratch(&dir)?;
        Ok(Some(Build { cache: self.clone(), id: id.to_owned(), _lock: lock, dir, scratch }))
    }

    /// Removes what builds left that were killed; one that still runs holds its lock. What cannot be removed now,
    /// because its last processes are about to end, stays for the next time.
    pub(super) fn sweep(&self) {
        let names = fs::read_dir(&self.images).into_iter().flatten().flatten().map(|entry| entry.file_name());
        for name in names {
            let Some(id) = name.to_str().and_then(image_of) else {
                // An initrd that was being written into a complete image.
                atomic::sweep(&self.images.join(name));
                continue;
            };
            // Held until the remains are gone: nobody begins to build in them meanwhile.
            if let Ok(Some(_lock)) = open_file(&self.lock_path(id)).and_then(Lock::try_open) {
                self.remove_builds(id);
            }
        }
    }

    /// Removes all unfinished builds of an image whose lock is held.
    fn remove_builds(&self, id: &str) {
        for entry in fs::read_dir(&self.images).into_iter().flatten().flatten() {
            if entry.file_name().to_str().and_then(image_of) == Some(id) {
                let scratch = noted_scratch(&entry.path());
                // The note is lost with the directory: the one outside goes first.
                let gone = scratch.is_none_or(|scratch| remove_tree(&scratch, &self.environment).is_ok());
                let _ = gone && remove_tree(&entry.path(), &self.environment).is_ok();
            }
        }
    }

    /// A directory below the system's temporary one that the mapped users of a namespace can enter.
    fn make_scratch(&self, build: &Path) -> Result<PathBuf, Error> {
        let name = build.file_name().unwrap_or_default().to_string_lossy();
        let random = name.rsplit('-').next().unwrap_or_default();
        let scratch = self.environment.temp_dir().join(format!("{SCRATCH}{random}"));
        // Noted before it is made, so that nothing is ever there that no note leads to.
        let note = build.join(SCRATCH_NOTE);
        atomic::create(&note, scratch.as_os_str().as_bytes(), 0o600, false).map_err(Error::Write)?;
        DirBuilder::new().mode(0o711).create(&scratch).map_err(Error::io("create", &scratch))?;
        // The mode of a new directory is cut by the umask.
        let open = fs::set_permissions(&scratch, fs::Permissions::from_mode(0o711));
        open.map_err(Error::io("open", &scratch))?;
        Ok(scratch)
    }

    fn lock_path(&self, id: &str) -> PathBuf {
        self.images.join(format!("{id}.lock"))
    }
}

/// The image that a directory is an unfinished build of.
fn image_of(name: &str) -> Option<&str> {
    let name = name.strip_prefix(BUILDING)?;
    Some(name.split_once('-').map_or(name, |(id, _)| id))
}

/// The directory outside the cache of an unfinished build: only what `make_scratch` could have made, and what
/// belongs to this user, is ever removed there.
fn noted_scratch(build: &Path) -> Option<PathBuf> {
    let note = fs::read(build.join(SCRATCH_NOTE)).ok()?;
    let scratch = PathBuf::from(std::ffi::OsStr::from_bytes(&note));
    let named =
        scratch.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(SCRATCH));
    let found = scratch.symlink_metadata().ok()?;
    (named && found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw()).then_some(scratch)
}

impl Build {
    /// What is to be removed if this process dies.
    pub(super) fn remains(&self) -> [PathBuf; 2] {
        [self.scratch.clone(), self.dir.clone()]
    }

    /// Makes the built directory the image's, once all of it is on the disk.
    pub(super) fn finish(self) -> Result<PathBuf, Error> {
        let note = self.dir.join(SCRATCH_NOTE);
        remove_tree(&self.scratch, &self.cache.environment).map_err(Error::io("remove", &self.scratch))?;
        fs::remove_file(&note).map_err(Error::io("remove", &note))?;
        let contents = contents(&self.dir, &sync)?;
        let text =
            serde_json::to_vec(&contents).map_err(|error| Error::content(&self.dir, error.to_string()))?;
        atomic::create(&self.dir.join(CONTENTS), &text, 0o644, false).map_err(Error::Write)?;
        let dir = self.cache.dir(&self.id);
        fs::rename(&self.dir, &dir).map_err(Error::io("create", &dir))?;
        sync(&self.cache.images)?;
        Ok(dir)
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        // Nothing is left to remove after `finish`; after a failure the next build tries again.
        for dir in self.remains() {
            let _ = remove_tree(&dir, &self.cache.environment);
        }
    }
}

/// Whether all files of an image are there, with the sizes that they had when it was finished.
fn is_complete(dir: &Path) -> bool {
    let text = fs::read(dir.join(CONTENTS)).unwrap_or_default();
    let contents: BTreeMap<PathBuf, u64> = serde_json::from_slice(&text).unwrap_or_default();
    let as_noted = |(path, size): (&PathBuf, &u64)| {
        fs::symlink_metadata(dir.join(path)).is_ok_and(|found| found.is_file() && found.len() == *size)
    };
    !contents.is_empty() && contents.iter().all(as_noted)
}

/// The files of a tree and their sizes; `visit` is called for each of them and for each directory.
fn contents(dir: &Path, visit: &dyn Fn(&Path) -> Result<(), Error>) -> Result<BTreeMap<PathBuf, u64>, Error> {
    let mut files = BTreeMap::new();
    for entry in WalkDir::new(dir).contents_first(true) {
        let entry = entry.map_err(|error| Error::io("read", dir)(error.into()))?;
        if entry.file_type().is_symlink() {
            continue;
        }
        visit(entry.path())?;
        if entry.file_type().is_file() {
            let size = entry.metadata().map_err(|error| Error::io("read", entry.path())(error.into()))?.len();
            let inside = entry.path().strip_prefix(dir).unwrap_or(entry.path());
            files.insert(inside.to_owned(), size);
        }
    }
    Ok(files)
}

fn sync(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))
}

/// Removes a tree; files of mapped users (of a rootless mmdebstrap that was killed) as their root.
fn remove_tree(dir: &Path, environment: &Environment) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            if nix::unistd::geteuid().is_root() {
                return Err(error);
            }
            let mut last = error;
            for helper in MAPPED_ROOT {
                remove_inside(dir, helper, environment);
                match fs::remove_dir_all(dir) {
                    Ok(()) => return Ok(()),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

/// What runs a program as root of a namespace whose ids are a user's subordinate ones, as in mmdebstrap's builds; and
/// with the user's own as root's, as in builds for another architecture.
const MAPPED_ROOT: [(&str, &[&str]); 2] =
    [("mmdebstrap", &["--unshare-helper"]), ("unshare", &["--map-root-user", "--map-auto"])];

/// Removes what lies in `dir` as a mapped root; the directory itself is ours.
fn remove_inside(dir: &Path, (program, args): (&str, &[&str]), environment: &Environment) {
    let Some(program) = environment.find_program(program) else { return };
    let mut command = run::plain(&program, environment);
    // It may still be written to: then there is nothing to say, and it is tried again by the next sweep.
    command.args(args).arg("find").stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(entries) = fs::read_dir(dir) else { return };
    let entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    // Without a path `find` would delete what is below its working directory, which is `/`.
    if !entries.is_empty() {
        let _ = command.args(entries).arg("-delete").status();
    }
}

#[cfg(test)]
mod tests;

//! The images that are in a cache: what they are, who uses them, and how they are removed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::{BUILDING, Cache, Error, Lock, image_of, is_complete, noted_scratch, open_file, remove_tree};
use crate::edge::environment::Environment;
use crate::edge::processes;

/// In an image: what it was built from.
pub(in crate::image) const DESCRIPTION: &str = "image.json";
/// Digits of an image's name.
const ID_LENGTH: usize = 32;
/// Logs of an image's build, beside it.
const LOGS: [&str; 2] = [".log", "-kernel.log"];

/// What an image was built from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The suite (`bookworm`).
    pub suite: String,
    /// The architecture, by Debian's name.
    pub arch: String,
    /// All packages that were asked for, the base set included, sorted.
    pub packages: Vec<String>,
}

/// An image in a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name: 32 hex digits.
    pub id: String,
    /// Its directory.
    pub dir: PathBuf,
    /// What it was built from; earlier versions of civm did not write it down.
    pub description: Option<Description>,
    /// Whether all of it is there; `up` builds one anew that is not complete.
    pub complete: bool,
    /// What it takes on the disk, in bytes.
    pub size: u64,
    /// When a machine last started from it, or when it was built.
    pub last_used: SystemTime,
}

/// What a build left that was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Its directory.
    pub path: PathBuf,
    /// What it takes on the disk, in bytes.
    pub size: u64,
}

/// The images of a cache, by name. Nothing is made or changed.
///
/// # Errors
/// The cache cannot be read.
pub fn list(cache_dir: &Path, environment: &Environment) -> Result<Vec<Stored>, Error> {
    let cache = Cache::at(cache_dir, environment)?;
    let mut images = Vec::new();
    for name in cache.names()? {
        let dir = cache.dir(&name);
        if !is_id(&name) || !dir.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            continue;
        }
        images.push(Stored {
            description: describe(&dir),
            complete: is_complete(&dir),
            size: size(&dir),
            last_used: cache.last_used(&name),
            id: name,
            dir,
        });
    }
    images.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(images)
}

/// The unfinished builds of a cache that nobody works on.
///
/// # Errors
/// The cache cannot be read.
pub fn unfinished(cache_dir: &Path, environment: &Environment) -> Result<Vec<Unfinished>, Error> {
    let cache = Cache::at(cache_dir, environment)?;
    let mut found = Vec::new();
    for name in cache.names()? {
        let Some(id) = image_of(&name) else { continue };
        if cache.try_lock(id).is_some() {
            let path = cache.dir(&name);
            let scratch = noted_scratch(&path).map_or(0, |scratch| size(&scratch));
            found.push(Unfinished { size: size(&path) + scratch, path });
        }
    }
    Ok(found)
}

impl Stored {
    /// The processes that have a file of it open or were started with one, in words.
    #[must_use]
    pub fn users(&self) -> Vec<String> {
        processes::using(&self.dir)
    }
}

/// Removes an image and the logs of its build, and says how many bytes that gave back.
///
/// # Errors
/// [`Error::InUse`] where a process uses it or builds it; [`Error::Io`].
pub fn remove(image: &Stored, cache_dir: &Path, environment: &Environment) -> Result<u64, Error> {
    let cache = Cache::at(cache_dir, &environment.for_package_tools())?;
    cache.remove(&image.id)?;
    for log in LOGS {
        let _ = fs::remove_file(cache.dir(&format!("{}{log}", image.id)));
    }
    Ok(image.size)
}

/// What an image says that it was built from.
fn describe(dir: &Path) -> Option<Description> {
    serde_json::from_slice(&fs::read(dir.join(DESCRIPTION)).ok()?).ok()
}

impl Cache {
    /// What a complete image was built from.
    pub(in crate::image) fn description(&self, id: &str) -> Option<Description> {
        if is_id(id) { describe(&self.find(id)?) } else { None }
    }

    /// Notes that a machine is about to start from an image. A cache that cannot be written stays as it is.
    pub(in crate::image) fn note_use(&self, id: &str) {
        let _ = open_file(&self.lock_path(id)).and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Removes what is complete, unless a process uses it or builds it.
    pub(super) fn remove(&self, id: &str) -> Result<(), Error> {
        let in_use = |users: String| Err(Error::InUse { id: id.to_owned(), users });
        // Held until it is gone, so that nobody builds it meanwhile.
        let Some(_lock) = self.try_lock(id) else {
            return in_use("a civm that builds it".to_owned());
        };
        let dir = self.dir(id);
        let users = processes::using(&dir);
        if !users.is_empty() {
            return in_use(users.join(", "));
        }
        // Under the name of an unfinished build, so that a kill in between leaves nothing that looks complete.
        let gone = self.dir(&format!("{BUILDING}{id}-removed"));
        fs::rename(&dir, &gone).map_err(Error::io("remove", &dir))?;
        remove_tree(&gone, &self.environment).map_err(Error::io("remove", &gone))
    }

    pub(super) fn last_used(&self, id: &str) -> SystemTime {
        let modified = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
        let noted = modified(&self.lock_path(id));
        noted.max(modified(&self.dir(id))).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// The lock of an image, if nobody has it.
    fn try_lock(&self, id: &str) -> Option<Lock> {
        // Looked at as it is: a lock's file that is made now would count as a use.
        match Lock::try_exclusive(&self.lock_path(id)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                open_file(&self.lock_path(id)).and_then(Lock::try_open).ok().flatten()
            }
            lock => lock.ok().flatten(),
        }
    }

    /// The names of all that lies in the cache.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let entries = match fs::read_dir(&self.images) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io("read", &self.images))?,
        };
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }
}

pub(super) fn is_id(name: &str) -> bool {
    name.len() == ID_LENGTH && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What a tree takes on the disk.
pub(super) fn size(dir: &Path) -> u64 {
    let entries = WalkDir::new(dir).into_iter().flatten().filter_map(|entry| entry.metadata().ok());
    entries.map(|found| found.blocks() * 512).sum()
}

//! The templates of a cache: machines that were frozen at their guest's one point (docs/warm-start.md), kept as images
//! are. What is in one, and what it is good for, is the business of who makes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::stored::{is_id, size};
use super::{Build, Cache, Error, Progress, atomic, is_complete};
use crate::edge::environment::Environment;
use crate::edge::processes;
use crate::image::Image;

/// Folder of the templates in a cache directory.
const TEMPLATES: &str = "templates";
/// In a template: the disk of its machine as it was when it was frozen.
const DISK: &str = "disk.qcow2";
/// In a template: what it is.
const DESCRIPTION: &str = "template.json";

/// What a template is, for people and for who removes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The image that its machine booted.
    pub image: String,
    /// Its processors.
    pub cpus: u32,
    /// Its memory, in MiB.
    pub memory_mib: u32,
    /// The size of its disk, in MiB.
    pub disk_mib: u64,
    /// What executed it.
    pub accel: String,
}

/// A template in a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its name: 32 hex digits.
    pub id: String,
    /// Its directory.
    pub dir: PathBuf,
    /// What it is.
    pub description: Description,
    /// What it takes on the disk, in bytes.
    pub size: u64,
    /// When a machine was last resumed from it, or when it was made.
    pub last_used: SystemTime,
}

/// A template that is being made. Nothing is left of one that is dropped before it is finished.
#[derive(Debug)]
pub struct Making(Build);

impl Making {
    /// Begins it; `None` where there is such a template, made by another civm that was waited for.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn begin(
        id: &str,
        cache_dir: &Path,
        environment: &Environment,
        progress: Progress<'_>,
    ) -> Result<Option<Self>, Error> {
        let cache = Cache::of(TEMPLATES, cache_dir, environment)?;
        fs::create_dir_all(&cache.images).map_err(Error::io("create", &cache.images))?;
        Ok(cache.begin(id, progress)?.map(Self))
    }

    /// What becomes the template's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// A directory for what is needed meanwhile.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.0.scratch
    }

    /// Where the disk of its machine is to be.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.dir().join(DISK)
    }

    /// Makes it a template, once all of it is on the disk.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self, description: &Description) -> Result<PathBuf, Error> {
        let path = self.dir().join(DESCRIPTION);
        let text =
            serde_json::to_vec(description).map_err(|error| Error::content(&path, error.to_string()))?;
        atomic::create(&path, &text, 0o600, false).map_err(Error::Write)?;
        self.0.finish()
    }
}

/// The directory of a template, noted as used, and its image with the disk that the template was frozen with; `None`
/// where there is none.
#[must_use]
pub fn find(
    id: &str,
    image: &Image,
    cache_dir: &Path,
    environment: &Environment,
) -> Option<(PathBuf, Image)> {
    let cache = Cache::of(TEMPLATES, cache_dir, environment).ok()?;
    let dir = cache.find(id)?;
    cache.note_use(id);
    let image = Image { disk: dir.join(DISK), ..image.clone() };
    Some((dir, image))
}

/// The templates of a cache, by name. Nothing is made or changed.
///
/// # Errors
/// The cache cannot be read.
pub fn list(cache_dir: &Path, environment: &Environment) -> Result<Vec<Template>, Error> {
    let cache = Cache::of(TEMPLATES, cache_dir, environment)?;
    let mut templates = Vec::new();
    for name in cache.names()?.into_iter().filter(|name| is_id(name)) {
        let dir = cache.dir(&name);
        let text = fs::read(dir.join(DESCRIPTION)).unwrap_or_default();
        let Ok(description) = serde_json::from_slice(&text) else { continue };
        if is_complete(&dir) {
            let (size, last_used) = (size(&dir), cache.last_used(&name));
            templates.push(Template { id: name, dir, description, size, last_used });
        }
    }
    templates.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(templates)
}

impl Template {
    /// The processes that have a file of it open, in words.
    #[must_use]
    pub fn users(&self) -> Vec<String> {
        processes::using(&self.dir)
    }
}

/// Removes a template, and says how many bytes that gave back.
///
/// # Errors
/// [`Error::InUse`] where a process uses it or makes it; [`Error::Io`].
pub fn remove(template: &Template, cache_dir: &Path, environment: &Environment) -> Result<u64, Error> {
    let cache = Cache::of(TEMPLATES, cache_dir, environment)?;
    cache.remove(&template.id)?;
    Ok(template.size)
}

/// Removes what killed makers left.
pub fn sweep(cache_dir: &Path, environment: &Environment) {
    if let Ok(cache) = Cache::of(TEMPLATES, cache_dir, environment) {
        cache.sweep();
    }
}

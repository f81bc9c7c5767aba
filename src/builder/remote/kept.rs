//! What outlives builders: images, templates of warm starts, and the civms that keepers have pushed.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::builder::wire::FromRemote;
use crate::edge::environment::Environment;
use crate::edge::lock::Lock;
use crate::edge::processes;
use crate::image::stored::{self, Stored};
use crate::image::templates::{self, Template};
use crate::lifecycle;

/// Where pushed binaries are, below civm's cache; each is named after its SHA-256.
const BINARIES: &str = "bin";
/// Digits of such a name.
const NAME_LENGTH: usize = 64;
/// Nobody pushes for so long.
const PUSH_MAX: Duration = Duration::from_secs(60 * 60);

/// Something that is kept.
pub(super) struct Kept {
    path: PathBuf,
    pub(super) bytes: u64,
    kind: Kind,
}

enum Kind {
    Image(Stored),
    Template(Template),
    Binary,
}

impl Kept {
    /// Where it is.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Who uses it, in words.
    fn users(&self) -> Vec<String> {
        match &self.kind {
            Kind::Image(image) => image.users(),
            Kind::Template(template) => template.users(),
            // Whoever purges may do so with the very civm that goes.
            Kind::Binary => {
                let mut users = processes::running(&self.path);
                if users.is_empty() && matches!(Lock::try_exclusive(&self.path), Ok(None)) {
                    users.push("a builder".to_owned());
                }
                users
            }
        }
    }

    fn remove(&self, environment: &Environment) -> Result<(), String> {
        let failed = |reason: String| format!("{} stays: {reason}", self.name());
        let cache = lifecycle::image_cache(environment).unwrap_or_default();
        let removed = match &self.kind {
            Kind::Image(image) => stored::remove(image, &cache, environment),
            Kind::Template(template) => templates::remove(template, &cache, environment),
            Kind::Binary => {
                return fs::remove_file(&self.path).map_err(|error| failed(error.to_string()));
            }
        };
        removed.map(drop).map_err(|error| failed(error.to_string()))
    }
}

/// Removes what came of a push that was cut off by force: `.SHA256.PID`, as the script of a push has it. One that is
/// under way is left alone.
pub(super) fn sweep(environment: &Environment) {
    let Some(cache) = lifecycle::image_cache(environment) else { return };
    for entry in fs::read_dir(cache.join(BINARIES)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(pushed_by) else { continue };
        let is_old = entry
            .metadata()
            .and_then(|found| found.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|ago| ago > PUSH_MAX));
        if is_old || !Path::new("/proc").join(pid.to_string()).exists() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The process that pushes into a file of this name.
fn pushed_by(name: &str) -> Option<u32> {
    let (hash, pid) = name.strip_prefix('.')?.split_once('.')?;
    is_hash(hash).then(|| pid.parse().ok()).flatten()
}

fn is_hash(name: &str) -> bool {
    name.len() == NAME_LENGTH && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Keeps the running civm from being purged. An ordinary user cannot see who runs it: a process without core dumps
/// does not tell.
pub(super) fn in_use() -> Option<Lock> {
    File::open("/proc/self/exe").and_then(Lock::share).ok()
}

/// All of it. What else is in those directories is not ours.
pub(super) fn list(environment: &Environment) -> Vec<Kept> {
    let Some(cache) = lifecycle::image_cache(environment) else { return Vec::new() };
    let images = stored::list(&cache, environment).unwrap_or_default().into_iter();
    let images =
        images.map(|image| Kept { path: image.dir.clone(), bytes: image.size, kind: Kind::Image(image) });
    let templates = templates::list(&cache, environment).unwrap_or_default().into_iter().map(|template| {
        Kept { path: template.dir.clone(), bytes: template.size, kind: Kind::Template(template) }
    });
    let entries = fs::read_dir(cache.join(BINARIES)).into_iter().flatten().flatten();
    let binary = |entry: fs::DirEntry| {
        let found = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        let name = entry.file_name().into_string().ok()?;
        is_hash(&name).then(|| Kept { path: entry.path(), bytes: found.blocks() * 512, kind: Kind::Binary })
    };
    let mut kept: Vec<Kept> = images.chain(templates).chain(entries.filter_map(binary)).collect();
    kept.sort_by(|a, b| a.path.cmp(&b.path));
    kept
}

/// Removes what nobody uses, or says what that would be. What stays is told.
pub(super) fn purge(dry_run: bool, environment: &Environment, tell: &mut dyn FnMut(FromRemote)) {
    let (mut paths, mut bytes) = (Vec::new(), 0);
    for kept in list(environment) {
        let unused = match kept.users() {
            users if users.is_empty() => Ok(()),
            users => Err(format!("{} stays: it is in use by {}", kept.name(), users.join(", "))),
        };
        match unused.and_then(|()| if dry_run { Ok(()) } else { kept.remove(environment) }) {
            Ok(()) => {
                bytes += kept.bytes;
                paths.push(kept.name());
            }
            Err(message) => tell(FromRemote::Warning { message }),
        }
    }
    tell(FromRemote::Purged { paths, bytes });
}

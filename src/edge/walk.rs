//! The files of a project's tree, without what git ignores.
//!
//! What is skipped depends only on the tree, not on who walks it: the `.gitignore` files from the
//! repository's root downwards and its `info/exclude` count, those above it and the user's own git
//! configuration do not. A file that git tracks is never skipped, whatever ignores it.

use std::ffi::OsStr;
use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

use super::atomic;
use super::environment::Environment;
use scope::Scope;

mod excluded;
mod scope;

pub use excluded::Excluded;

/// The ending of disk images, which are not part of a project's files.
const DISK: &str = "qcow2";
/// What the kernel shows as files, some of which have no end: no part of a tree that begins at `/`.
const OF_KERNEL: [&str; 3] = ["/dev", "/proc", "/sys"];

/// The kind of an entry. What git cannot store (sockets, devices, pipes) is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory; its entries follow.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link; it is not followed.
    Link,
}

/// Something below the root of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root.
    pub inside: PathBuf,
    /// The root as it was named, joined with the relative path.
    pub path: PathBuf,
    /// Its kind.
    pub kind: Kind,
}

/// Something that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{}`: {source}", path.display())]
pub struct WalkError {
    /// Where.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Everything below a directory, sorted by name, a directory before its entries. `.git`, ignored files and
/// disk images are left out unless git tracks them. What cannot be read is reported in its place, and the walk
/// goes on.
///
/// git itself is asked once for each repository. Where it fails, that is told as what cannot be read; where it is not
/// installed nothing is known to be tracked.
#[must_use]
pub fn walk(root: &Path, environment: &Environment) -> Vec<Result<Entry, WalkError>> {
    let real = match fs::canonicalize(root) {
        Ok(real) => real,
        Err(source) => return vec![Err(WalkError { path: root.to_path_buf(), source })],
    };
    let mut walker = Walker { root, real: &real, environment, found: Vec::new() };
    let (mut scope, errors) = Scope::around(&real, environment);
    walker.found.extend(errors.into_iter().map(Err));
    walker.directory(Path::new(""), &mut scope, false);
    walker.found
}

struct Walker<'a> {
    root: &'a Path,
    real: &'a Path,
    environment: &'a Environment,
    found: Vec<Result<Entry, WalkError>>,
}

impl Walker<'_> {
    /// Adds the entries of a directory: in an ignored one only what git tracks, else also what is not ignored.
    fn directory(&mut self, inside: &Path, scope: &mut Scope, ignored: bool) {
        let real = below(self.real, inside);
        let mut entries = Vec::new();
        let listed = fs::read_dir(&real).and_then(|list| {
            for entry in list {
                let entry = entry?;
                entries.push((entry.file_name(), entry.file_type()?));
            }
            Ok(())
        });
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        let entered = scope.enter(&real);
        if let Err(error) = listed {
            self.failed(inside, error);
        } else if let Err(error) = entered {
            self.failed(&inside.join(scope::IGNORE_FILE), error);
        }
        // What a killed civm left is not part of the tree, and goes.
        if entries.iter().any(|(name, _)| atomic::is_temporary(name)) {
            atomic::sweep(&real);
            entries.retain(|(name, _)| !atomic::is_temporary(name));
        }
        for (name, kind) in entries {
            let Some(kind) = kind_of(kind).filter(|_| name != scope::GIT) else { continue };
            let real = real.join(&name);
            let is_dir = kind == Kind::Directory;
            let is_disk = !is_dir && Path::new(&name).extension() == Some(OsStr::new(DISK));
            if is_dir && OF_KERNEL.iter().any(|dir| real == Path::new(dir)) {
                continue;
            }
            let ignored = ignored || is_disk || scope.ignores(&real, is_dir);
            if ignored && !scope.tracks(&real, is_dir) {
                continue;
            }
            let inside = inside.join(&name);
            self.found.push(Ok(Entry { path: below(self.root, &inside), inside: inside.clone(), kind }));
            if is_dir && scope::is_repository(&real) {
                let (mut scope, error) = Scope::of_repository(&real, self.environment);
                self.found.extend(error.map(Err));
                self.directory(&inside, &mut scope, false);
            } else if is_dir {
                self.directory(&inside, scope, ignored);
            }
        }
        scope.leave();
    }

    /// Adds an error, unless the entry has vanished since its directory was listed.
    fn failed(&mut self, inside: &Path, source: io::Error) {
        if source.kind() != io::ErrorKind::NotFound {
            self.found.push(Err(WalkError { path: below(self.root, inside), source }));
        }
    }
}

fn kind_of(kind: FileType) -> Option<Kind> {
    if kind.is_dir() {
        Some(Kind::Directory)
    } else if kind.is_symlink() {
        Some(Kind::Link)
    } else {
        kind.is_file().then_some(Kind::File)
    }
}

/// `join`, but without a slash at the end if nothing is joined.
fn below(root: &Path, inside: &Path) -> PathBuf {
    if inside.as_os_str().is_empty() { root.to_path_buf() } else { root.join(inside) }
}

#[cfg(test)]
mod tests;

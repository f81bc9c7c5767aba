//! The files that a host lays over its image: `hosts/<name>/rootfs/`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::error::Error;

/// The most bytes of a tree: it is held in memory while it is staged, and as long as the machine runs.
const TOTAL_MAX: u64 = 1 << 30;

/// A file, directory or link to lay over an image. It belongs to root there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the root.
    pub path: PathBuf,
    /// Permission bits; those of a link mean nothing.
    pub mode: u32,
    /// What it is.
    pub kind: Kind,
}

/// What an [`Entry`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file with its content.
    File(Vec<u8>),
    /// A link with its target, as it is written.
    Link(PathBuf),
}

/// Reads a tree: parents before children, each directory sorted by name. A tree that is not there is empty.
///
/// # Errors
/// Something that cannot be read, or is not a file, directory or link.
pub fn read(dir: &Path) -> Result<Vec<Entry>, Error> {
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(Error::NotADirectory { path: dir.into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !dir.is_symlink() => return Ok(Vec::new()),
        Err(source) => return Err(Error::Read { path: dir.into(), source }),
    }
    let mut entries = Vec::new();
    let mut total: u64 = 0;
    for found in WalkDir::new(dir).min_depth(1).sort_by_file_name() {
        let found = found.map_err(|error| {
            let path = error.path().unwrap_or(dir).to_owned();
            Error::Read { path, source: error.into() }
        })?;
        // Once each: a guest asks its host.
        let failed = |error: walkdir::Error| Error::Read { path: found.path().into(), source: error.into() };
        let metadata = found.metadata().map_err(failed)?;
        total = total.saturating_add(metadata.len());
        if total > TOTAL_MAX {
            return Err(Error::TooLarge { path: dir.into(), most: TOTAL_MAX });
        }
        entries.push(entry(dir, &found, &metadata)?);
    }
    Ok(entries)
}

/// Lays one tree over another: parents before children, sorted by path.
#[must_use]
pub fn overlay(base: Vec<Entry>, over: Vec<Entry>) -> Vec<Entry> {
    let mut out: BTreeMap<PathBuf, Entry> =
        base.into_iter().map(|entry| (entry.path.clone(), entry)).collect();
    for entry in over {
        if entry.kind != Kind::Directory {
            out.retain(|path, _| !path.starts_with(&entry.path));
        }
        out.insert(entry.path.clone(), entry);
    }
    out.into_values().collect()
}

fn entry(dir: &Path, found: &walkdir::DirEntry, metadata: &fs::Metadata) -> Result<Entry, Error> {
    let path = found.path();
    let failed = |source| Error::Read { path: path.into(), source };
    let kind = found.file_type();
    let kind = if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        Kind::Link(fs::read_link(path).map_err(failed)?)
    } else if kind.is_file() {
        Kind::File(fs::read(path).map_err(failed)?)
    } else {
        return Err(Error::NotForAnImage { path: path.into(), what: "a device, pipe or socket" });
    };
    let mode = metadata.permissions().mode() & 0o7777;
    Ok(Entry { path: path.strip_prefix(dir).unwrap_or(path).to_owned(), mode, kind })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_tree_is_listed_parents_first() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let root = dir.path();
        fs::create_dir_all(root.join("etc/app")).expect("folders");
        fs::write(root.join("etc/app/conf"), "x = 1\n").expect("a file");
        fs::write(root.join("etc/run"), "#!\n").expect("a file");
        fs::set_permissions(root.join("etc/run"), Permissions::from_mode(0o750)).expect("a mode");
        symlink("/nowhere", root.join("a")).expect("a link");
        let entries = read(root).expect("a tree");
        let paths: Vec<_> = entries.iter().map(|entry| entry.path.to_str().expect("text")).collect();
        assert_eq!(paths, ["a", "etc", "etc/app", "etc/app/conf", "etc/run"]);
        assert_eq!(entries[0].kind, Kind::Link("/nowhere".into()));
        assert_eq!(entries[1].kind, Kind::Directory);
        assert_eq!(entries[3].kind, Kind::File(b"x = 1\n".to_vec()));
        assert_eq!(entries[4].mode, 0o750);
    }

    #[test]
    fn a_file_takes_the_place_of_a_directory() {
        let entry = |path: &str, kind| Entry { path: path.into(), mode: 0o755, kind };
        let base = vec![
            entry("a", Kind::Directory),
            entry("a/b", Kind::File(vec![1])),
            entry("a-c", Kind::Directory),
        ];
        let laid = overlay(base.clone(), vec![entry("a", Kind::Link("x".into()))]);
        assert_eq!(laid, [entry("a", Kind::Link("x".into())), entry("a-c", Kind::Directory)]);
        assert_eq!(overlay(Vec::new(), base.clone()).len(), 3);
    }

    #[test]
    fn a_tree_that_is_not_there_is_empty() {
        assert_eq!(read(Path::new("/nowhere/at/all")).expect("nothing"), []);
    }

    #[test]
    fn what_is_no_tree_is_not_taken_for_an_empty_one() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "").expect("a file");
        symlink("file", path("to-file")).expect("a link");
        symlink("gone", path("dangling")).expect("a link");
        for name in ["file", "to-file", "dangling"] {
            assert!(read(&path(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn a_tree_has_a_limit_and_is_not_read_beyond_it() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let huge = fs::File::create(dir.path().join("huge")).expect("a file");
        huge.set_len(TOTAL_MAX + 1).expect("sparse");
        assert!(matches!(read(dir.path()), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn a_socket_cannot_be_laid_over_an_image() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let _listener = UnixListener::bind(dir.path().join("s")).expect("a socket");
        assert!(matches!(read(dir.path()), Err(Error::NotForAnImage { .. })));
    }
}

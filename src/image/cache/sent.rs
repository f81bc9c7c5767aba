//! Images that come from another machine: file by file, each with its hash, into the place of a build. The list of the
//! image's files comes first, so that it is known when all of it is there.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::stored::is_id;
use super::{Build, CONTENTS, Cache, Error};
use crate::edge::environment::Environment;
use crate::edge::hex;
use crate::image::Progress;

/// The longest list of files, in bytes.
const LIST_MAX: u64 = 4 << 20;
/// Bytes taken at once.
const CHUNK: usize = 128 << 10;

/// The files of an image of the cache, as they are sent: the list of them first.
///
/// # Errors
/// [`Error::Content`] where the image is not there, or does not say what it was made of.
pub fn files(id: &str, cache_dir: &Path, environment: &Environment) -> Result<Vec<(String, PathBuf)>, Error> {
    let cache = Cache::at(cache_dir, environment)?;
    let dir = cache.dir(id);
    if cache.description(id).is_none() {
        let reason = "is not a complete image, or an older civm built it: remove it, and build it again";
        return Err(Error::content(&dir, reason));
    }
    let list = dir.join(CONTENTS);
    let text = fs::read(&list).map_err(Error::io("read", &list))?;
    let contents: BTreeMap<PathBuf, u64> =
        serde_json::from_slice(&text).map_err(|error| Error::content(&list, error.to_string()))?;
    let named = contents.into_keys().map(|path| (path.to_string_lossy().into_owned(), dir.join(path)));
    Ok([(CONTENTS.to_owned(), list)].into_iter().chain(named).collect())
}

/// An image on its way into the cache.
#[derive(Debug)]
pub struct Incoming {
    build: Build,
    /// The files that are still to come, with their sizes, once the list is there.
    awaited: Option<BTreeMap<PathBuf, u64>>,
    total: u64,
    done: u64,
}

impl Incoming {
    /// Begins to take an image; `None` where it is there already, or another process has finished it meanwhile.
    ///
    /// # Errors
    /// [`Error::Invalid`] where that is not the name of an image; [`Error::Io`].
    pub fn begin(
        id: &str,
        cache_dir: &Path,
        environment: &Environment,
        progress: Progress<'_>,
    ) -> Result<Option<Self>, Error> {
        if !is_id(id) {
            return Err(Error::Invalid { value: id.to_owned(), what: "the name of an image" });
        }
        let cache = Cache::open(cache_dir, &environment.for_package_tools())?;
        let build = cache.begin(id, progress)?;
        Ok(build.map(|build| Self { build, awaited: None, total: 0, done: 0 }))
    }

    /// Takes a file of `size` bytes, which `from` has next.
    ///
    /// # Errors
    /// [`Error::Content`] where it is not a file of this image, or not this one; [`Error::Io`].
    pub fn take(&mut self, name: &str, size: u64, sha256: &str, from: &mut impl Read) -> Result<(), Error> {
        let wrong = |reason: String| Error::content(Path::new(name), reason);
        let Some(awaited) = &mut self.awaited else {
            if name != CONTENTS || size > LIST_MAX {
                return Err(wrong(format!("the list of an image's files comes first, as {CONTENTS}")));
            }
            let mut text = Vec::new();
            copy(from, &mut text, size, sha256).map_err(|error| wrong(error.to_string()))?;
            let list: BTreeMap<PathBuf, u64> =
                serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
            if let Some(path) = list.keys().find(|path| !is_inner(path)) {
                return Err(wrong(format!("`{}` is not a path in an image", path.display())));
            }
            self.total = list.values().fold(0, |sum: u64, size| sum.saturating_add(*size));
            self.awaited = Some(list);
            return Ok(());
        };
        if awaited.remove(Path::new(name)) != Some(size) {
            return Err(wrong("is not a file of this image, or not of this size".to_owned()));
        }
        let path = self.build.dir.join(name);
        let parent = path.parent().unwrap_or(&path);
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        copy(from, &mut file, size, sha256).map_err(Error::io("receive", &path))?;
        self.done += size;
        Ok(())
    }

    /// Bytes that have come, and of how many.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.done, self.total)
    }

    /// Whether all of it is there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.awaited.as_ref().is_some_and(BTreeMap::is_empty)
    }

    /// Makes it an image of the cache, once all of it is on the disk.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Write`].
    pub fn finish(self) -> Result<(), Error> {
        self.build.finish().map(drop)
    }
}

fn is_inner(path: &Path) -> bool {
    path.components().next().is_some()
        && path.components().all(|component| matches!(component, Component::Normal(_)))
}

/// Copies so many bytes, which must have that hash.
fn copy(from: &mut impl Read, to: &mut impl io::Write, size: u64, sha256: &str) -> io::Result<()> {
    let (mut hash, mut left) = (Sha256::new(), size);
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let piece = chunk.get_mut(..wanted).unwrap_or_default();
        let count = from.read(piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let piece = piece.get(..count).unwrap_or_default();
        hash.update(piece);
        to.write_all(piece)?;
        left -= count as u64;
    }
    if hex::encode(&hash.finalize()) == sha256 {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "its SHA-256 is not the one that was announced"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn hash(bytes: &[u8]) -> String {
        hex::encode(&Sha256::digest(bytes))
    }

    fn begin(cache: &Path) -> Option<Incoming> {
        let environment = Environment::empty().with("TMPDIR", cache);
        Incoming::begin(ID, cache, &environment, &mut |_| {}).unwrap()
    }

    fn take(incoming: &mut Incoming, name: &str, bytes: &[u8]) -> Result<(), Error> {
        incoming.take(name, bytes.len() as u64, &hash(bytes), &mut &*bytes)
    }

    #[test]
    fn an_image_is_there_once_all_of_it_has_come_and_can_be_sent_on() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, environment) = (dir.path(), Environment::empty());
        let mut incoming = begin(cache).unwrap();
        take(&mut incoming, CONTENTS, br#"{"image.json": 45, "kernel": 3, "modules/a.ko": 2}"#).unwrap();
        take(&mut incoming, "image.json", br#"{"suite":"s","arch":"amd64","packages":["p"]}"#).unwrap();
        take(&mut incoming, "modules/a.ko", b"ab").unwrap();
        assert!(!incoming.is_whole() && incoming.progress() == (47, 50));
        assert!(files(ID, cache, &environment).is_err());
        take(&mut incoming, "kernel", b"abc").unwrap();
        assert!(incoming.is_whole());
        incoming.finish().unwrap();
        let sent = files(ID, cache, &environment).unwrap();
        let names: Vec<&str> = sent.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [CONTENTS, "image.json", "kernel", "modules/a.ko"]);
        assert_eq!(fs::read(&sent[3].1).unwrap(), b"ab");
        assert!(begin(cache).is_none(), "it need not be sent again");
    }

    #[test]
    fn what_is_not_the_image_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |list: &str, name: &str, size: u64, sha256: &str| {
            let mut incoming = begin(dir.path()).unwrap();
            let taken = take(&mut incoming, CONTENTS, list.as_bytes());
            let taken = taken.and_then(|()| incoming.take(name, size, sha256, &mut b"abc".as_slice()));
            taken.unwrap_err().to_string()
        };
        let list = r#"{"kernel": 3}"#;
        assert!(refused(list, "kernel", 3, &hash(b"abd")).contains("SHA-256"));
        assert!(refused(list, "other", 3, &hash(b"abc")).contains("not a file of this image"));
        assert!(refused(list, "kernel", 2, &hash(b"ab")).contains("not of this size"));
        assert!(refused(r#"{"kernel": 4}"#, "kernel", 4, &hash(b"abc")).contains("end of file"));
        assert!(refused(r#"{"../kernel": 3}"#, "../kernel", 3, "").contains("not a path"));
        assert!(refused(r#"{"/kernel": 3}"#, "/kernel", 3, "").contains("not a path"));
        let mut incoming = begin(dir.path()).unwrap();
        assert!(take(&mut incoming, "kernel", b"abc").unwrap_err().to_string().contains("comes first"));
        drop(incoming);
        let left: Vec<_> = fs::read_dir(dir.path().join("images")).unwrap().flatten().collect();
        assert!(
            left.iter().all(|entry| entry.path().extension().is_some_and(|end| end == "lock")),
            "{left:?}"
        );
        let environment = Environment::empty();
        assert!(Incoming::begin("../x", dir.path(), &environment, &mut |_| {}).is_err());
    }
}

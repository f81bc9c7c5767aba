//! Files on their way into the share: taken piece by piece as they come, so that nobody has to wait for a slow sender.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::edge::frame::OBJECT_MAX;
use crate::instance::plan::{Entry, Kind, is_inner};

/// Directory of the share whose files the guest takes and we take back.
pub(super) const SECRETS: &str = "secrets";
/// Longest secret, in bytes: keys, which have some hundred.
const SECRET_MAX: usize = 1 << 20;
/// Bytes taken at once.
const CHUNK: usize = 64 << 10;

/// A secret that the guest takes at each boot. It is kept in the memory of this process, which nobody else can read
/// and which dumps no core. In the share any process of the same user could read it through /proc/QEMU/root.
pub(super) struct Secret {
    pub(super) entry: Entry,
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

/// What comes next.
enum Next {
    /// The four bytes of an object's length.
    Length(Vec<u8>),
    /// An entry of so many bytes.
    Entry { text: Vec<u8>, length: usize },
    /// The bytes of a file.
    File { entry: Entry, file: File, left: u64 },
    /// The bytes of a secret.
    Secret { entry: Entry, bytes: Zeroizing<Vec<u8>>, length: usize },
    /// Nothing.
    Done,
}

/// A directory in which files arrive. Secrets stay in memory. What is not taken over is removed.
pub(super) struct Incoming {
    path: PathBuf,
    next: Next,
    pub(super) secrets: Vec<Secret>,
    pub(super) count: usize,
    /// Whether they are to be there for a while only.
    pub(super) trial: bool,
}

impl Incoming {
    /// Makes the directory.
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => DirBuilder::new().mode(0o700).create(&path)?,
        }
        Ok(Self { path, next: Next::Length(Vec::new()), secrets: Vec::new(), count: 0, trial: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes can be taken now; none once everything is there.
    pub(super) fn wants(&self) -> usize {
        match &self.next {
            Next::Length(bytes) => 4 - bytes.len(),
            Next::Entry { text, length } => length - text.len(),
            Next::File { left, .. } => usize::try_from(*left).unwrap_or(usize::MAX),
            Next::Secret { bytes, length, .. } => length - bytes.len(),
            Next::Done => 0,
        }
    }

    /// Takes bytes, as many as it wants at most.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.next {
            Next::Length(length) => length.extend_from_slice(bytes),
            Next::Entry { text, .. } => text.extend_from_slice(bytes),
            Next::File { entry, file, left } => {
                file.write_all(bytes).map_err(|error| failed(&entry.path, &error))?;
                *left = left.saturating_sub(bytes.len() as u64);
            }
            Next::Secret { bytes: secret, .. } => secret.extend_from_slice(bytes),
            Next::Done => {}
        }
        while self.wants() == 0 && !matches!(self.next, Next::Done) {
            self.step()?;
        }
        Ok(())
    }

    /// Takes everything from a reader, which has to wait.
    pub(super) fn read(&mut self, from: &mut impl Read) -> io::Result<()> {
        let mut chunk = Zeroizing::new(vec![0; CHUNK]);
        loop {
            let wanted = self.wants().min(CHUNK);
            if wanted == 0 {
                return Ok(());
            }
            let piece = chunk.get_mut(..wanted).unwrap_or_default();
            match from.read(piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.take(piece.get(..count).unwrap_or_default())?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A part is whole: what follows.
    fn step(&mut self) -> io::Result<()> {
        let begin = || Next::Length(Vec::with_capacity(4));
        self.next = match std::mem::replace(&mut self.next, Next::Done) {
            Next::Length(bytes) => {
                let length = bytes.try_into().map_or(0, u32::from_be_bytes);
                match length {
                    0 => Next::Done,
                    length if length > OBJECT_MAX => return Err(io::Error::other("an entry is too long")),
                    length => Next::Entry { text: Vec::new(), length: length as usize },
                }
            }
            Next::Entry { text, .. } => {
                let entry: Entry = serde_json::from_slice(&text)?;
                self.count += 1;
                match entry.kind {
                    Kind::File { length } if Path::new(&entry.path).starts_with(SECRETS) => {
                        if !is_inner(&entry.path) {
                            return Err(failed(&entry.path, &io::Error::other("not a path in the share")));
                        }
                        let length = usize::try_from(length).map_err(io::Error::other)?;
                        // At once, so that no copy of it is left behind.
                        let bytes = Zeroizing::new(Vec::with_capacity(length.min(SECRET_MAX)));
                        if length > SECRET_MAX {
                            return Err(failed(&entry.path, &io::Error::other("too large for a secret")));
                        }
                        Next::Secret { entry, bytes, length }
                    }
                    Kind::File { length } => {
                        let file = place(&self.path, &entry).map_err(|error| failed(&entry.path, &error))?;
                        match file {
                            Some(file) => Next::File { entry, file, left: length },
                            None => begin(),
                        }
                    }
                    Kind::Directory if Path::new(&entry.path) == Path::new(SECRETS) => begin(),
                    Kind::Link { .. } | Kind::Directory if Path::new(&entry.path).starts_with(SECRETS) => {
                        return Err(failed(&entry.path, &io::Error::other("a secret is a file")));
                    }
                    Kind::Link { .. } | Kind::Directory => {
                        place(&self.path, &entry).map_err(|error| failed(&entry.path, &error))?;
                        begin()
                    }
                }
            }
            Next::File { entry, file, .. } => {
                finish(&file, &entry).map_err(|error| failed(&entry.path, &error))?;
                begin()
            }
            Next::Secret { entry, bytes, .. } => {
                self.secrets.push(Secret { entry, bytes });
                begin()
            }
            Next::Done => Next::Done,
        };
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn failed(path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot stage `{path}`: {error}"))
}

/// Makes what an entry describes; a file is open, empty and ours alone until [`finish`].
fn place(base: &Path, entry: &Entry) -> io::Result<Option<File>> {
    if !is_inner(&entry.path) {
        return Err(io::Error::other("not a path in the share"));
    }
    let path = base.join(&entry.path);
    make_parents(base, Path::new(&entry.path))?;
    match &entry.kind {
        Kind::Link { target } => return symlink(target, &path).map(|()| None),
        Kind::Directory if path.is_dir() => {}
        Kind::Directory => DirBuilder::new().mode(0o700).create(&path)?,
        Kind::File { .. } => {
            return OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map(Some);
        }
    }
    fs::set_permissions(&path, mode(entry)).map(|()| None)
}

/// Puts a whole file there.
pub(super) fn place_file(base: &Path, entry: &Entry, bytes: &[u8]) -> io::Result<()> {
    let Some(mut file) = place(base, entry)? else { return Ok(()) };
    file.write_all(bytes)?;
    finish(&file, entry)
}

/// A file has what it is to have.
fn finish(file: &File, entry: &Entry) -> io::Result<()> {
    file.set_permissions(mode(entry))
}

/// What the caller gave has its own bits only; the umask keeps the rest away meanwhile. What is at the top of the share
/// is for root alone: everybody in the guest may pass through the share.
fn mode(entry: &Entry) -> Permissions {
    let bits = if Path::new(&entry.path).components().count() == 1 { 0o700 } else { 0o7777 };
    Permissions::from_mode(entry.mode & bits)
}

/// Parents that nobody described: those at the top for root alone, the rest as directories of an image are.
fn make_parents(base: &Path, inner: &Path) -> io::Result<()> {
    let mut directory = base.to_owned();
    let parents = inner.parent().into_iter().flat_map(Path::components);
    for (depth, component) in parents.enumerate() {
        directory.push(component);
        if directory.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            continue;
        }
        DirBuilder::new().mode(0o700).create(&directory)?;
        let mode = if depth == 0 { 0o700 } else { 0o755 };
        fs::set_permissions(&directory, Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Incoming, place_file};
    use crate::instance::plan::{Entry, Kind};

    /// Entries as they are sent, whatever they say.
    pub(in crate::instance::stage) fn wire(entries: &[(Entry, &[u8])]) -> Vec<u8> {
        let mut wire = Vec::new();
        for (entry, bytes) in entries {
            let text = serde_json::to_vec(entry).unwrap();
            wire.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            wire.extend(text);
            wire.extend(*bytes);
        }
        wire.extend([0; 4]);
        wire
    }

    fn file(path: &str, length: u64) -> Entry {
        Entry { path: path.into(), mode: 0o644, kind: Kind::File { length } }
    }

    #[test]
    fn files_may_come_in_pieces_of_any_size_and_no_byte_more_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let target = |target: &str| Kind::Link { target: target.to_owned() };
        let entries: [(Entry, &[u8]); 5] = [
            (file("secrets/key", 3), b"abc"),
            (file("host/empty", 0), b""),
            (file("host/a/b", 5), b"12345"),
            (Entry { path: "host/link".into(), mode: 0, kind: target("a/b") }, b""),
            (Entry { path: "host/dir".into(), mode: 0o755, kind: Kind::Directory }, b""),
        ];
        let wire = wire(&entries);
        for size in [1, 2, 7, 10_000] {
            let path = directory.path().join("in");
            let mut incoming = Incoming::create(path.clone()).unwrap();
            let mut rest = wire.as_slice();
            while incoming.wants() > 0 {
                let (piece, after) = rest.split_at(incoming.wants().min(size));
                incoming.take(piece).unwrap();
                rest = after;
            }
            assert_eq!((rest.len(), incoming.count), (0, 5));
            assert_eq!(std::fs::read(path.join("host/link")).unwrap(), b"12345");
            assert!(path.join("host/empty").exists() && path.join("host/dir").is_dir());
            assert!(!path.join("secrets").exists(), "secrets stay in memory");
            assert_eq!(incoming.secrets[0].bytes.as_slice(), b"abc");
            drop(incoming);
            assert!(!path.exists(), "what nobody takes over is removed");
        }
    }

    #[test]
    fn what_is_cut_short_or_endless_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let read = |bytes: &[u8]| {
            let mut incoming = Incoming::create(directory.path().join("in")).unwrap();
            incoming.read(&mut &*bytes).map_err(|error| error.to_string())
        };
        let whole = wire(&[(file("f", 5), b"12345"), (file("secrets/g", 5), b"12345")]);
        assert!(read(&whole).is_ok());
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{end}");
        }
        assert!(read(&[0xff; 8]).is_err());
        let large = wire(&[(file("secrets/g", 1 << 40), b"")]);
        assert!(read(&large).unwrap_err().contains("too large"));
        for path in ["../escaped", "secrets/../../escaped", "/escaped"] {
            assert!(read(&wire(&[(file(path, 1), b"x")])).unwrap_err().contains("not a path"), "{path}");
        }
        assert!(!directory.path().join("escaped").exists());
    }

    #[test]
    fn a_link_leads_no_file_out_of_the_share() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("share");
        std::fs::create_dir(&base).unwrap();
        let target = directory.path().to_str().unwrap().to_owned();
        let link = Entry { path: "host/out".into(), mode: 0, kind: Kind::Link { target } };
        place_file(&base, &link, b"").unwrap();
        assert!(place_file(&base, &file("host/out/escaped", 1), b"x").is_err());
        assert!(!directory.path().join("escaped").exists());
    }
}

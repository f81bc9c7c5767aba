//! The staged files themselves.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::instance::plan::{Entry, Kind, is_inner, receive_object};

/// Directory of the share whose files the guest takes and we take back.
const SECRETS: &str = "secrets";
/// Bytes copied at once.
const CHUNK: usize = 64 << 10;

/// The directory that the guest mounts.
#[derive(Debug)]
pub(super) struct Share {
    path: PathBuf,
}

impl Share {
    /// Makes the directory; a tmpfs may be mounted on it afterwards.
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Receives files until the list ends; says how many there were.
    pub(super) fn receive(&self, from: &mut impl Read) -> io::Result<usize> {
        let mut count = 0;
        while let Some(entry) = receive_object::<Entry>(from)? {
            self.place(&entry, from).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot stage `{}`: {error}", entry.path))
            })?;
            count += 1;
        }
        Ok(count)
    }

    fn place(&self, entry: &Entry, from: &mut impl Read) -> io::Result<()> {
        if !is_inner(&entry.path) {
            return Err(io::Error::other("not a path in the share"));
        }
        let path = self.path.join(&entry.path);
        self.make_parents(Path::new(&entry.path))?;
        // What the caller gave has its own bits only; the umask keeps the rest away meanwhile.
        let mode = Permissions::from_mode(entry.mode & 0o7777);
        match &entry.kind {
            Kind::Link { target } => return symlink(target, &path),
            Kind::Directory if path.is_dir() => {}
            Kind::Directory => DirBuilder::new().mode(0o700).create(&path)?,
            Kind::File { length } => {
                let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
                copy(from, &mut file, *length)?;
            }
        }
        fs::set_permissions(&path, mode)
    }

    /// Parents that nobody described: secrets for root alone, the rest as directories of an image are.
    fn make_parents(&self, inner: &Path) -> io::Result<()> {
        let mut directory = self.path.clone();
        let parents = inner.parent().into_iter().flat_map(Path::components);
        for (depth, component) in parents.enumerate() {
            directory.push(component);
            if directory.symlink_metadata().is_ok_and(|m| m.is_dir()) {
                continue;
            }
            DirBuilder::new().mode(0o700).create(&directory)?;
            let secret = depth == 0 && component.as_os_str() == SECRETS;
            let mode = if secret { 0o700 } else { 0o755 };
            fs::set_permissions(&directory, Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// Overwrites and removes the secrets; says whether there were any.
    pub(super) fn remove_secrets(&self) -> io::Result<bool> {
        let directory = self.path.join(SECRETS);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut any = false;
        for entry in entries {
            let path = entry?.path();
            any = true;
            wipe(&path);
            fs::remove_file(&path)?;
        }
        Ok(any)
    }

    /// Removes everything, as far as it goes: the directory's file system ends with this process or its
    /// keeper anyway.
    pub(super) fn remove(&self) {
        let _ = self.remove_secrets();
        if let Ok(entries) = fs::read_dir(&self.path) {
            for entry in entries.flatten() {
                let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
            }
        }
    }
}

/// Zeros over a file's content. What cannot be overwritten is unlinked all the same.
fn wipe(path: &Path) {
    let _ = fs::set_permissions(path, Permissions::from_mode(0o600));
    if let Ok(mut file) = OpenOptions::new().write(true).custom_flags(nix::libc::O_NOFOLLOW).open(path) {
        let length = file.metadata().map_or(0, |m| m.len());
        let _ = io::copy(&mut io::repeat(0).take(length), &mut file);
    }
}

fn copy(from: &mut impl Read, to: &mut impl Write, mut length: u64) -> io::Result<()> {
    let mut chunk = Zeroizing::new(vec![0; CHUNK]);
    while length > 0 {
        let want = usize::try_from(length).map_or(CHUNK, |l| l.min(CHUNK));
        let part = chunk.get_mut(..want).unwrap_or_default();
        from.read_exact(part)?;
        to.write_all(part)?;
        length -= want as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Share;
    use crate::instance::plan::{Entry, Kind};
    use std::os::unix::fs::PermissionsExt;

    fn share(directory: &std::path::Path) -> Share {
        Share::create(directory.join("share")).unwrap()
    }

    fn file(path: &str, mode: u32, length: u64) -> Entry {
        Entry { path: path.into(), mode, kind: Kind::File { length } }
    }

    #[test]
    fn a_key_is_staged_for_root_alone_and_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let share = share(directory.path());
        share.place(&file("secrets/key", 0o400, 3), &mut b"abc".as_slice()).unwrap();
        share.place(&file("host/layer.json", 0o644, 2), &mut b"{}".as_slice()).unwrap();
        let mode = |path: &str| share.path().join(path).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(""), mode("secrets"), mode("secrets/key")), (0o700, 0o700, 0o400));
        assert_eq!((mode("host"), mode("host/layer.json")), (0o755, 0o644));
        assert!(share.remove_secrets().unwrap());
        assert!(!share.path().join("secrets/key").exists());
        assert!(share.path().join("host/layer.json").exists());
        assert!(!share.remove_secrets().unwrap());
    }

    #[test]
    fn a_link_in_the_share_leads_no_file_out_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let share = share(directory.path());
        let target = directory.path().to_str().unwrap().to_owned();
        let link = Entry { path: "host/out".into(), mode: 0, kind: Kind::Link { target } };
        share.place(&link, &mut b"".as_slice()).unwrap();
        assert!(share.place(&file("host/out/escaped", 0o600, 1), &mut b"x".as_slice()).is_err());
        assert!(!directory.path().join("escaped").exists());
        assert!(share.place(&file("../escaped", 0o600, 1), &mut b"x".as_slice()).is_err());
    }

    #[test]
    fn a_file_cut_short_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let share = share(directory.path());
        assert!(share.place(&file("f", 0o600, 5), &mut b"abc".as_slice()).is_err());
    }
}

//! The staged files themselves.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::instance::plan::{Entry, Kind, is_inner, receive_object};
use crate::instance::stage::user::QemuUser;

/// Directory of the share whose files the guest takes and we take back.
const SECRETS: &str = "secrets";
/// Bytes copied at once.
const CHUNK: usize = 64 << 10;

/// A secret that the guest takes at each boot. It is kept in the memory of this process, which nobody else can read
/// and which dumps no core. In the share any process of the same user could read it through /proc/QEMU/root.
struct Secret {
    entry: Entry,
    bytes: Zeroizing<Vec<u8>>,
}

/// The directory that the guest mounts.
pub(super) struct Share {
    path: PathBuf,
    owner: Option<QemuUser>,
    secrets: Vec<Secret>,
}

impl Share {
    /// Makes the directory; a tmpfs may be mounted on it afterwards.
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path, owner: None, secrets: Vec::new() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Receives files until the list ends; says how many there were. Where QEMU has a user of its own, they are that
    /// user's. The directories in which we go on to remove and make files stay ours: a QEMU that has been taken over
    /// could otherwise put a link there, and root would follow it.
    pub(super) fn receive(&mut self, from: &mut impl Read, owner: Option<QemuUser>) -> io::Result<usize> {
        let mut count = 0;
        while let Some(entry) = receive_object::<Entry>(from)? {
            let failed = |error: io::Error| {
                io::Error::new(error.kind(), format!("cannot stage `{}`: {error}", entry.path))
            };
            match entry.kind {
                Kind::File { length } if Path::new(&entry.path).starts_with(SECRETS) => {
                    let mut bytes =
                        Zeroizing::new(vec![0; usize::try_from(length).map_err(io::Error::other)?]);
                    from.read_exact(&mut bytes).map_err(failed)?;
                    self.place(&entry, &mut bytes.as_slice()).map_err(failed)?;
                    self.secrets.push(Secret { entry, bytes });
                }
                _ => self.place(&entry, from).map_err(failed)?,
            }
            count += 1;
        }
        self.owner = owner;
        if let Some(owner) = owner {
            let ours = [self.path.clone(), self.path.join(SECRETS)];
            for entry in walkdir::WalkDir::new(&self.path) {
                let path = entry?.into_path();
                if ours.contains(&path) { owner.may_read(&path) } else { owner.own(&path) }?;
            }
        }
        Ok(count)
    }

    /// Puts the secrets there again, for a guest that boots again.
    pub(super) fn restage(&self) -> io::Result<()> {
        // A guest that reset before it took them has them still.
        self.remove_secrets()?;
        for secret in &self.secrets {
            self.place(&secret.entry, &mut secret.bytes.as_slice())?;
            if let Some(owner) = self.owner {
                owner.own(&self.path.join(&secret.entry.path))?;
            }
        }
        Ok(())
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
    pub(super) fn remove(&mut self) {
        self.secrets.clear();
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
    use super::{QemuUser, Share};
    use crate::edge::environment::Environment;
    use crate::instance::plan::{Entry, Kind};
    use std::fs::Permissions;
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
    fn a_secret_that_was_taken_back_is_staged_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut share = share(directory.path());
        let mut wire = Vec::new();
        for entry in [file("secrets/key", 0o400, 3), file("host/layer.json", 0o644, 2)] {
            let text = serde_json::to_vec(&entry).unwrap();
            wire.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            wire.extend(text);
            wire.extend(if entry.mode == 0o400 { b"abc".as_slice() } else { b"{}" });
        }
        wire.extend([0; 4]);
        assert_eq!(share.receive(&mut wire.as_slice(), None).unwrap(), 2);
        let key = share.path().join("secrets/key");
        assert!(share.remove_secrets().unwrap() && !key.exists());
        for _ in 0..2 {
            share.restage().unwrap();
            assert_eq!(std::fs::read(&key).unwrap(), b"abc");
            assert_eq!(key.metadata().unwrap().permissions().mode() & 0o7777, 0o400);
        }
        share.remove();
        share.restage().unwrap();
        assert!(!key.exists(), "nothing is kept after the end");
    }

    #[test]
    fn a_qemu_with_a_user_of_its_own_reads_all_and_changes_nothing_that_root_touches_again() {
        let environment = Environment::of_process();
        let Some(user) = QemuUser::choose("/state/a".as_ref(), &environment) else {
            return eprintln!("skipped: this process is not root, or root only of itself");
        };
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let mut share = share(directory.path());
        let mut wire = Vec::new();
        for entry in [file("secrets/key", 0o400, 3), file("host/rootfs/a", 0o600, 3)] {
            let text = serde_json::to_vec(&entry).unwrap();
            wire.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            wire.extend(text);
            wire.extend(b"abc");
        }
        wire.extend([0; 4]);
        share.receive(&mut wire.as_slice(), Some(user)).unwrap();
        let qemu = |script: &str| {
            let mut command = std::process::Command::new("/bin/sh");
            command.args(["-c", script]).env_clear().env("PATH", "/usr/bin:/bin").current_dir(share.path());
            user.run(&mut command);
            command.stderr(std::process::Stdio::null()).status().unwrap().success()
        };
        for _ in 0..2 {
            assert!(qemu("ls . secrets && cat secrets/key host/rootfs/a"));
            for attack in ["mv secrets x", "rm -f secrets/key", "ln -s /etc secrets/x", "mkdir x"] {
                assert!(!qemu(attack), "{attack}");
            }
            share.restage().unwrap();
        }
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

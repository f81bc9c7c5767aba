//! The staged files themselves.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::instance::stage::incoming::{Incoming, SECRETS, Secret, place_file};
use crate::instance::stage::user::QemuUser;

/// Where files arrive, and where those that they replace go on their way out.
const INCOMING: &str = ".incoming";
const OUTGOING: &str = ".outgoing";
/// Where those wait that others stand in for.
const BEFORE: &str = ".before";

/// The directory that the guest mounts.
pub(super) struct Share {
    path: PathBuf,
    owner: Option<QemuUser>,
    secrets: Vec<Secret>,
    /// What is at the top of the share for a while only.
    tried: Vec<OsString>,
}

impl Share {
    /// Makes the directory; a tmpfs may be mounted on it afterwards.
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path, owner: None, secrets: Vec::new(), tried: Vec::new() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Receives files until the list ends; says how many there were. Where QEMU has a user of its own, they are that
    /// user's. The directories in which we go on to remove and make files stay ours: a QEMU that has been taken over
    /// could otherwise put a link there, and root would follow it.
    pub(super) fn receive(&mut self, from: &mut impl Read, owner: Option<QemuUser>) -> io::Result<usize> {
        self.owner = owner;
        let mut incoming = self.begin()?;
        incoming.read(from)?;
        self.adopt(incoming)
    }

    /// Makes room for files that replace others.
    pub(super) fn begin(&self) -> io::Result<Incoming> {
        Incoming::create(self.path.join(INCOMING))
    }

    /// Takes files over: what they have at the top of the share replaces what was there, the rest stays. From now on
    /// a guest that boots again is given their secrets.
    pub(super) fn adopt(&mut self, mut incoming: Incoming) -> io::Result<usize> {
        self.roll_back()?;
        self.hand_over(&incoming)?;
        for entry in fs::read_dir(incoming.path())? {
            let entry = entry?;
            self.replace(&entry.path(), &self.path.join(entry.file_name()))?;
        }
        self.remove_secrets()?;
        self.secrets = std::mem::take(&mut incoming.secrets);
        self.restage()?;
        Ok(incoming.count)
    }

    /// Puts files where [`Share::adopt`] would put them, until they are rolled back. Of their secrets nothing is kept.
    pub(super) fn try_out(&mut self, incoming: &Incoming) -> io::Result<usize> {
        self.roll_back()?;
        self.hand_over(incoming)?;
        let swapped = self.swap(incoming);
        if swapped.is_err() {
            self.roll_back()?;
        }
        swapped.map(|()| incoming.count)
    }

    fn swap(&mut self, incoming: &Incoming) -> io::Result<()> {
        let before = self.path.join(BEFORE);
        DirBuilder::new().mode(0o700).create(&before)?;
        for entry in fs::read_dir(incoming.path())? {
            let entry = entry?;
            let (name, place) = (entry.file_name(), self.path.join(entry.file_name()));
            if place.symlink_metadata().is_ok() {
                fs::rename(&place, before.join(&name))?;
            }
            self.tried.push(name);
            fs::rename(entry.path(), place)?;
        }
        Ok(())
    }

    /// Puts back what was there before files were tried out.
    pub(super) fn roll_back(&mut self) -> io::Result<()> {
        let before = self.path.join(BEFORE);
        // A name is forgotten when its file is back: what fails here is tried again before anything else.
        while let Some(name) = self.tried.last() {
            let place = self.path.join(name);
            remove(&place)?;
            match fs::rename(before.join(name), place) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.tried.pop();
        }
        remove(&before)
    }

    /// Lets QEMU, where it has a user of its own, read files that have come. The guest's users may pass through the
    /// share, to the link that leads to the source: they can neither list it nor open anything else in it.
    fn hand_over(&self, incoming: &Incoming) -> io::Result<()> {
        let Some(owner) = self.owner else {
            return fs::set_permissions(&self.path, Permissions::from_mode(0o711));
        };
        owner.may_read(&self.path)?;
        fs::set_permissions(&self.path, Permissions::from_mode(0o751))?;
        for entry in walkdir::WalkDir::new(incoming.path()).min_depth(1) {
            owner.own(&entry?.into_path())?;
        }
        Ok(())
    }

    fn replace(&self, new: &Path, old: &Path) -> io::Result<()> {
        let outgoing = self.path.join(OUTGOING);
        let was_there = old.symlink_metadata().is_ok();
        if was_there {
            remove(&outgoing)?;
            fs::rename(old, &outgoing)?;
        }
        if let Err(error) = fs::rename(new, old) {
            if was_there {
                let _ = fs::rename(&outgoing, old);
            }
            return Err(error);
        }
        remove(&outgoing)
    }

    /// Puts the secrets there again, for a guest that boots again.
    pub(super) fn restage(&self) -> io::Result<()> {
        // A guest that reset before it took them has them still.
        self.remove_secrets()?;
        for secret in &self.secrets {
            place_file(&self.path, &secret.entry, &secret.bytes)?;
            if let Some(owner) = self.owner {
                owner.may_read(&self.path.join(SECRETS))?;
                owner.own(&self.path.join(&secret.entry.path))?;
            }
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

/// Removes whatever is there, a link itself.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::{QemuUser, Share};
    use crate::edge::environment::Environment;
    use crate::instance::plan::{Entry, Kind};
    use crate::instance::stage::incoming::place_file;
    use crate::instance::stage::incoming::tests::wire;
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
        place_file(share.path(), &file("secrets/key", 0o400, 3), b"abc").unwrap();
        place_file(share.path(), &file("host/layer.json", 0o644, 2), b"{}").unwrap();
        let mode = |path: &str| share.path().join(path).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(""), mode("secrets"), mode("secrets/key")), (0o700, 0o700, 0o400));
        assert_eq!((mode("host"), mode("host/layer.json")), (0o700, 0o644));
        assert!(share.remove_secrets().unwrap());
        assert!(!share.path().join("secrets/key").exists());
        assert!(share.path().join("host/layer.json").exists());
        assert!(!share.remove_secrets().unwrap());
    }

    #[test]
    fn the_guests_users_pass_through_the_share_and_enter_nothing_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut share = share(directory.path());
        let entry = |path: &str, kind| Entry { path: path.into(), mode: 0o755, kind };
        let target = "/run/source/project".to_owned();
        let wire = wire(&[
            (file("secrets/key", 0o444, 3), b"abc"),
            (file("host/a/b", 0o644, 1), b"1"),
            (file("top", 0o755, 1), b"1"),
            (entry("project", Kind::Directory), b""),
            (entry("project/tree", Kind::Directory), b""),
            (entry("source", Kind::Link { target }), b""),
        ]);
        for _ in 0..2 {
            share.receive(&mut wire.as_slice(), None).unwrap();
            let mode = |path: &str| share.path().join(path).metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode(""), 0o711);
            for path in ["secrets", "host", "project", "top"] {
                assert_eq!(mode(path), 0o700, "{path}");
            }
            assert_eq!(mode("project/tree"), 0o755, "it is mounted elsewhere");
            assert!(share.path().join("source").is_symlink());
        }
    }

    #[test]
    fn a_secret_that_was_taken_back_is_staged_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut share = share(directory.path());
        let wire =
            wire(&[(file("secrets/key", 0o400, 3), b"abc"), (file("host/layer.json", 0o644, 2), b"{}")]);
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
        let wire =
            wire(&[(file("secrets/key", 0o400, 3), b"abc"), (file("host/rootfs/a", 0o600, 3), b"abc")]);
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
    fn files_that_replace_others_leave_nothing_of_them_and_are_what_the_next_boot_finds() {
        let directory = tempfile::tempdir().unwrap();
        let mut share = share(directory.path());
        let first = wire(&[
            (file("secrets/key", 0o400, 3), b"one"),
            (file("host/old", 0o644, 1), b"1"),
            (file("source/a", 0o644, 1), b"1"),
        ]);
        share.receive(&mut first.as_slice(), None).unwrap();
        share.remove_secrets().unwrap();
        let second = wire(&[(file("secrets/key", 0o400, 3), b"two"), (file("host/new", 0o644, 1), b"2")]);
        let mut incoming = share.begin().unwrap();
        incoming.read(&mut second.as_slice()).unwrap();
        assert_eq!(share.adopt(incoming).unwrap(), 2);
        let top = share.path().to_owned();
        let read = |path: &str| std::fs::read_to_string(top.join(path)).ok();
        assert_eq!((read("host/new").as_deref(), read("host/old")), (Some("2"), None));
        assert_eq!(read("source/a").as_deref(), Some("1"), "what nobody replaced stays");
        assert_eq!(read("secrets/key").as_deref(), Some("two"));
        assert!(share.remove_secrets().unwrap());
        share.restage().unwrap();
        assert_eq!(read("secrets/key").as_deref(), Some("two"));
        let mut names: Vec<_> =
            std::fs::read_dir(share.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["host", "secrets", "source"]);
        // What is tried takes the place of the rest for a while, without its key.
        let third = wire(&[
            (file("secrets/key", 0o400, 3), b"new"),
            (file("host/tried", 0o644, 1), b"3"),
            (file("more/a", 0o644, 1), b"3"),
        ]);
        for _ in 0..2 {
            let mut incoming = share.begin().unwrap();
            incoming.read(&mut third.as_slice()).unwrap();
            assert_eq!(share.try_out(&incoming).unwrap(), 3);
            assert_eq!((read("host/tried").as_deref(), read("host/new")), (Some("3"), None));
            assert_eq!((read("more/a").as_deref(), read("secrets/key").as_deref()), (Some("3"), Some("two")));
        }
        share.roll_back().unwrap();
        assert_eq!((read("host/new").as_deref(), read("host/tried")), (Some("2"), None));
        assert_eq!((read("more/a"), read("secrets/key").as_deref()), (None, Some("two")));
        assert!(!share.path().join(".before").exists() && !share.path().join("more").exists());
        // Those of a sender who broke off change nothing.
        let mut incoming = share.begin().unwrap();
        assert!(incoming.read(&mut &first[..first.len() - 5]).is_err());
        drop(incoming);
        assert_eq!((read("host/new").as_deref(), read("host/old")), (Some("2"), None));
    }
}

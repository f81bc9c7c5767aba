//! The user that QEMU runs as where civm is root: one of its own for each machine, who owns nothing.
//!
//! It gets what it needs open or in its hands: kernel, initrd, disk and share as descriptors, the sockets as pairs.
//! So it needs no right to any path of root's, and the files keep their owners.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use crate::edge::account::user_name;
use crate::edge::environment::Environment;

/// User numbers that systemd's `DynamicUser=` is for; no account has one (systemd's UIDS-GIDS.md).
const NUMBERS: RangeInclusive<u32> = 61184..=65519;
/// Where systemd notes those that it has given out.
const TAKEN_BY_SYSTEMD: &str = "/run/systemd/dynamic-uid";
/// What QEMU has to open for KVM.
const KVM: &str = "/dev/kvm";

/// A user without an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QemuUser {
    uid: u32,
    gid: u32,
}

impl QemuUser {
    /// The user for the machine with this state directory; `None` where this process is not root, or root only of
    /// itself.
    pub(crate) fn choose(state: &Path, environment: &Environment) -> Option<Self> {
        if !Uid::effective().is_root() || !["uid_map", "gid_map"].iter().all(|map| has_numbers(map)) {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        let count = NUMBERS.end() - NUMBERS.start() + 1;
        let first = u32::try_from(hasher.finish() % u64::from(count)).unwrap_or_default();
        let running = running_users();
        let uid = (0..count).map(|n| NUMBERS.start() + (first + n) % count).find(|uid| {
            !running.contains(uid)
                && !Path::new(TAKEN_BY_SYSTEMD).join(uid.to_string()).exists()
                && user_name(Uid::from_raw(*uid), environment).is_none()
        })?;
        Some(Self { uid, gid: kvm_group().unwrap_or(uid) })
    }

    /// Whether this user may use KVM, as far as the device's mode says.
    pub(crate) fn may_use_kvm(self) -> bool {
        fs::metadata(KVM).is_ok_and(|device| {
            let mode = device.mode();
            mode & 0o006 == 0o006 || (mode & 0o060 == 0o060 && device.gid() == self.gid)
        })
    }

    /// Makes a command run as this user, in no other group.
    pub(crate) fn run(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives a file or directory to this user.
    pub(super) fn own(self, path: &Path) -> io::Result<()> {
        let found = fs::symlink_metadata(path)?;
        lchown(path, Some(self.uid), Some(self.gid))?;
        // A change of the owner takes these bits, which the guest is to see.
        if !found.is_symlink() && found.mode() & 0o6000 != 0 {
            fs::set_permissions(path, found.permissions())?;
        }
        Ok(())
    }

    /// Lets this user read a directory that stays ours: what is in it can be changed by us alone.
    pub(super) fn may_read(self, directory: &Path) -> io::Result<()> {
        lchown(directory, None, Some(self.gid))?;
        fs::set_permissions(directory, Permissions::from_mode(0o750))
    }
}

/// The group that may use KVM, where there is one.
fn kvm_group() -> Option<u32> {
    let device = fs::metadata(KVM).ok()?;
    (device.mode() & 0o060 == 0o060 && device.gid() != 0).then(|| device.gid())
}

/// Whether this process's user namespace has the numbers: root of a namespace of its own may have no user but itself.
fn has_numbers(map: &str) -> bool {
    let map = fs::read_to_string(Path::new("/proc/self").join(map)).unwrap_or_default();
    map.lines().any(|line| {
        let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let [inside, _, count] = fields[..] else { return false };
        inside <= u64::from(*NUMBERS.start()) && u64::from(*NUMBERS.end()) < inside + count
    })
}

/// The users of all processes.
fn running_users() -> BTreeSet<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return BTreeSet::new() };
    processes.flatten().filter_map(|process| Some(process.metadata().ok()?.uid())).collect()
}

/// Files that a child inherits open, until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    files: Vec<File>,
}

impl Inherited {
    /// The number under which a child has this file.
    pub(crate) fn descriptor(&mut self, file: File) -> io::Result<RawFd> {
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let number = file.as_raw_fd();
        self.files.push(file);
        Ok(number)
    }

    /// A path by which a child opens a file or directory without any right to the directories above it. A file that
    /// only its owner may read is given as a copy in memory.
    pub(crate) fn path(&mut self, path: &Path) -> io::Result<PathBuf> {
        let failed = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot open {}: {error}", path.display()))
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let file = if metadata.is_file() && metadata.mode() & 0o004 == 0 {
            copy_in_memory(file).map_err(failed)?
        } else {
            file
        };
        Ok(PathBuf::from(format!("/proc/self/fd/{}", self.descriptor(file)?)))
    }
}

fn copy_in_memory(mut file: File) -> io::Result<File> {
    let mut copy = File::from(memfd_create(c"civm", MFdFlags::MFD_CLOEXEC)?);
    io::copy(&mut file, &mut copy)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::{Inherited, NUMBERS, QemuUser};
    use crate::edge::environment::Environment;
    use nix::unistd::Uid;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;
    use std::process::Command;

    #[test]
    fn a_child_of_root_is_nobody_and_reads_only_what_it_is_given() {
        let environment = Environment::of_process();
        let user = QemuUser::choose(Path::new("/state/a"), &environment);
        if !Uid::effective().is_root() {
            assert_eq!(user, None, "who is not root runs QEMU as who it is");
            return;
        }
        let Some(user) = user else {
            eprintln!("skipped: this root has no other users");
            return;
        };
        assert!(NUMBERS.contains(&user.uid));
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "content").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut inherited = Inherited::default();
        let given = inherited.path(&path).unwrap();
        let run = |argument: &Path| {
            let mut command = Command::new("sh");
            command
                .args(["-c", "cat \"$0\"; id -u; id -G"])
                .arg(argument)
                .env_clear()
                .env("PATH", "/usr/bin:/bin");
            user.run(&mut command);
            let output = command.output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let ids = format!("{}\n{}\n", user.uid, user.gid);
        assert_eq!(run(&given), format!("content{ids}"));
        assert_eq!(run(&path), ids, "the way to it is root's alone");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(run(&inherited.path(&path).unwrap()), format!("content{ids}"), "by a copy");
        user.own(&path).unwrap();
        assert_eq!(path.metadata().unwrap().uid(), user.uid);
    }
}

//! Namespaces of the stage's own, entered by simply trying.

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{get_dumpable, set_dumpable};
use nix::unistd::{Uid, getegid, geteuid};

/// Enters a PID namespace (for the next child), and a user namespace where the user is not root or root
/// may not do it alone.
pub(super) fn enter(uid: Uid) -> io::Result<()> {
    if uid.is_root() && unshare(CloneFlags::CLONE_NEWPID).is_ok() {
        return Ok(());
    }
    // Read before: afterwards every unmapped user is nobody.
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID).map_err(refused)?;
    // The files of a process without core dumps belong to root. The keeper holds no secret.
    let dumpable = get_dumpable().unwrap_or(true);
    let _ = set_dumpable(true);
    // Without `deny` the kernel lets nobody but root map a group.
    let mapped = fs::write("/proc/self/setgroups", "deny")
        .map_err(|e| named("setgroups", e))
        .and_then(|()| fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(|e| named("uid_map", e)))
        .and_then(|()| {
            fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(|e| named("gid_map", e))
        });
    let _ = set_dumpable(dumpable);
    mapped
}

/// Enters a mount namespace and mounts a tmpfs on a directory; nobody outside sees it.
pub(super) fn mount_private(directory: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(refused)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|e| named("making mounts private", e.into()))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let tmpfs = |options| mount(Some("civm"), directory, Some("tmpfs"), flags, Some(options));
    // Kernels before 6.4 know no `noswap`, and later ones do not give it to a user namespace.
    tmpfs("mode=0700,noswap").or_else(|_| tmpfs("mode=0700")).map_err(|e| named("mounting a tmpfs", e.into()))
}

/// Shows a directory a second time.
pub(super) fn bind(directory: &Path, at: &Path) -> io::Result<()> {
    let none = None::<&str>;
    mount(Some(directory), at, none, MsFlags::MS_BIND, none)
        .map_err(|e| named(&format!("binding {}", directory.display()), e.into()))
}

/// The same where nobody can write to it.
pub(super) fn bind_read_only(directory: &Path, at: &Path) -> io::Result<()> {
    bind(directory, at)?;
    let none = None::<&str>;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags;
    mount(none, at, none, again, none).map_err(|e| named("making the share read-only", e.into()))
}

/// What an `unshare` that failed means (unshare(2), user_namespaces(7)).
fn refused(errno: Errno) -> io::Error {
    io::Error::other(match errno {
        Errno::ENOSPC => "the limit user.max_user_namespaces, or one like it, is reached",
        Errno::EPERM | Errno::EACCES => "this system does not let ordinary users make them",
        other => other.desc(),
    })
}

fn named(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

//! The programs of this machine that a build needs.

use std::path::{Path, PathBuf};

use super::Error;
use super::error::Missing;

/// Programs and the apt packages that have them.
const TOOLS: [Missing; 8] = [
    Missing { program: "mmdebstrap", package: "mmdebstrap" },
    Missing { program: "apt-get", package: "apt" },
    Missing { program: "dpkg-deb", package: "dpkg" },
    Missing { program: "tar", package: "tar" },
    Missing { program: "mke2fs", package: "e2fsprogs" },
    Missing { program: "qemu-img", package: "qemu-utils" },
    Missing { program: "depmod", package: "kmod" },
    Missing { program: "xz", package: "xz-utils" },
];
/// What an ordinary user's build needs besides.
const ROOTLESS: [Missing; 2] = [
    Missing { program: "fakeroot", package: "fakeroot" },
    Missing { program: "newuidmap", package: "uidmap" },
];
/// Where administrators' programs lie that an ordinary user's `PATH` often lacks.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Every needed program is there, or all missing ones are named at once.
///
/// # Errors
/// [`Error::MissingTools`].
pub(super) fn check(root: bool) -> Result<(), Error> {
    let more: &[Missing] = if root { &[] } else { &ROOTLESS };
    let missing: Vec<Missing> =
        TOOLS.iter().chain(more).filter(|tool| find(tool.program).is_none()).cloned().collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::MissingTools(missing)) }
}

/// Where a program is, looking in `PATH` and in the administrators' directories.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_DIRS.iter().map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| is_executable(file))
}

/// `PATH` with the administrators' directories, for the tools' own children.
pub(super) fn search_path() -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for dir in ["/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
        if !dirs.iter().any(|known| known == Path::new(dir)) {
            dirs.push(dir.into());
        }
    }
    std::env::join_paths(dirs).unwrap_or(path)
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_programs_outside_an_ordinary_users_path() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-here"), None);
    }
}

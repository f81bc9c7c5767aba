//! The programs of this machine that a build needs.

use std::path::PathBuf;

use super::Error;
use super::error::Missing;
use crate::edge::environment::Environment;

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
/// What the build of an image of the other architecture needs besides, by that architecture.
pub(super) const EMULATED_AARCH64: [Missing; 2] = [
    Missing { program: "qemu-aarch64-static", package: "qemu-user-static" },
    Missing { program: "unshare", package: "util-linux" },
];
pub(super) const EMULATED_X86_64: [Missing; 2] = [
    Missing { program: "qemu-x86_64-static", package: "qemu-user-static" },
    Missing { program: "unshare", package: "util-linux" },
];

/// Every needed program is there, those of `emulation` among them, or all missing ones are named at once.
///
/// # Errors
/// [`Error::MissingTools`].
pub(super) fn check(root: bool, emulation: &[Missing], environment: &Environment) -> Result<(), Error> {
    let more: &[Missing] = if root { &[] } else { &ROOTLESS };
    let is_missing = |tool: &&Missing| environment.find_program(tool.program).is_none();
    let missing: Vec<Missing> =
        TOOLS.iter().chain(more).chain(emulation).filter(is_missing).cloned().collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::MissingTools(missing)) }
}

/// Where a program is.
///
/// # Errors
/// [`Error::MissingTools`].
pub(super) fn find(program: &'static str, environment: &Environment) -> Result<PathBuf, Error> {
    environment.find_program(program).ok_or_else(|| {
        let mut all = TOOLS.iter().chain(&ROOTLESS).chain(&EMULATED_AARCH64).chain(&EMULATED_X86_64);
        let known = all.find(|tool| tool.program == program).cloned();
        Error::MissingTools(vec![known.unwrap_or(Missing { program, package: program })])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_outside_an_ordinary_users_path() {
        let environment = Environment::empty().for_package_tools();
        assert!(find("sh", &environment).is_ok());
        let error = find("qemu-img", &Environment::empty()).expect_err("no PATH").to_string();
        assert_eq!(error, "missing on this machine: qemu-img (apt package qemu-utils)");
    }
}

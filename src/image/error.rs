//! What can go wrong with an image.

use std::io;
use std::path::{Path, PathBuf};

use crate::edge::atomic::WriteError;
use crate::host::spec::Arch;

/// What can go wrong with an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Programs that the build needs are not installed.
    #[error("missing on this machine: {}", names(.0))]
    MissingTools(Vec<Missing>),
    /// A NixOS configuration, and no Nix.
    #[error("nix is not installed: NixOS machines are built with the user's own Nix, 2.8 or newer")]
    NoNix,
    /// Nix cannot do what it was asked.
    #[error("nix: {what}: {reason}")]
    Nix {
        /// What it was asked about.
        what: String,
        /// Its words.
        reason: String,
    },
    /// An ordinary user without subordinate ids cannot unpack packages.
    #[error(
        "user `{user}` has no line in {file}: a rootless build needs one (`usermod --add-subuids \
         100000-165535 --add-subgids 100000-165535 {user}`)"
    )]
    NoSubordinateIds {
        /// The user.
        user: String,
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
    },
    /// The running binary cannot be the guest's PID 1.
    #[error(
        "{} is dynamically linked and cannot run inside a guest: build civm statically \
         (`cargo build --release` in its repository does)", .0.display()
    )]
    DynamicBinary(PathBuf),
    /// A guest of the other architecture, and no civm for it.
    #[error(
        "there is no civm for {arch} guests: {} does not exist. `devshell/setup --{arch}` in civm's repository \
         builds it, and {variable} can name it", list(.places)
    )]
    NoGuestBinary {
        /// The guest's architecture.
        arch: Arch,
        /// Where it was looked for.
        places: Vec<PathBuf>,
        /// The variable that can name it.
        variable: &'static str,
    },
    /// Programs of another architecture cannot run while its image is built.
    #[error(
        "this machine does not run {arch} programs, which the build of such an image needs ({reason}): Linux 6.7 \
         and newer let civm register the emulator for the build alone; `sudo apt-get install {package} \
         binfmt-support` registers it for the whole machine"
    )]
    NoEmulation {
        /// The image's architecture.
        arch: Arch,
        /// What went wrong, in the words of the tool that was tried.
        reason: String,
        /// The apt package of the emulator.
        package: &'static str,
    },
    /// No apt source of this machine has the suite, and there is no keyring for the default mirror.
    #[error("no apt sources for Debian `{suite}`: {reason}")]
    NoSources {
        /// The suite.
        suite: String,
        /// Why.
        reason: String,
    },
    /// apt gets nothing from an archive.
    #[error("the packages cannot be fetched: {0}")]
    Unreachable(String),
    /// Packages that the release does not have.
    #[error("Debian `{suite}` has no package {}", packages(.missing))]
    NoPackages {
        /// The release.
        suite: String,
        /// The packages, each with one of a similar name.
        missing: Vec<(String, Option<String>)>,
    },
    /// A value that is not the name of a package, a release or the like.
    #[error("`{value}` is not {what}")]
    Invalid {
        /// The value.
        value: String,
        /// What it should have been.
        what: &'static str,
    },
    /// An image that somebody uses is not removed.
    #[error("the image {id} is in use by {users}")]
    InUse {
        /// The image.
        id: String,
        /// The processes, in words.
        users: String,
    },
    /// A tool failed.
    #[error("{step}: {program} failed ({status}); its output is in {}{}", .log.display(), tail(.last))]
    Tool {
        /// The step of the build.
        step: &'static str,
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// The log with all its output.
        log: PathBuf,
        /// The last lines of it.
        last: Vec<String>,
    },
    /// A file that is not what it should be.
    #[error("{}: {reason}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the cache could not be written.
    #[error(transparent)]
    Write(WriteError),
    /// The outside failed.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried (`read`, `create`).
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A program that is not installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The program.
    pub program: &'static str,
    /// The apt package that has it.
    pub package: &'static str,
}

fn names(missing: &[Missing]) -> String {
    let list: Vec<String> =
        missing.iter().map(|m| format!("{} (apt package {})", m.program, m.package)).collect();
    list.join(", ")
}

fn list(places: &[PathBuf]) -> String {
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(" or ")
}

fn packages(missing: &[(String, Option<String>)]) -> String {
    let each = missing.iter().map(|(name, meant)| match meant {
        Some(meant) => format!("`{name}` (did you mean `{meant}`?)"),
        None => format!("`{name}`"),
    });
    each.collect::<Vec<_>>().join(", ")
}

fn tail(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  {line}")).collect()
}

impl Error {
    /// For `map_err`: what was tried with which file.
    pub(super) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(super) fn content(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Content { path: path.as_ref().to_owned(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_tools_are_named_with_their_packages() {
        let error = Error::MissingTools(vec![
            Missing { program: "mmdebstrap", package: "mmdebstrap" },
            Missing { program: "qemu-img", package: "qemu-utils" },
        ]);
        assert_eq!(
            error.to_string(),
            "missing on this machine: mmdebstrap (apt package mmdebstrap), qemu-img (apt package qemu-utils)"
        );
    }
}

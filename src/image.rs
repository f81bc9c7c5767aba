//! What an instance boots: a kernel, an initrd and a base disk.
//!
//! An image holds packages and nothing of a host. civm's own guest side (the binary, its units, the
//! kernel's modules) travels in the initrd, so that an old disk always runs the current one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::edge::environment::Environment;
use crate::host::spec::Arch;

mod apt;
mod cache;
pub mod debian;
pub mod disk;
mod emulation;
mod error;
mod guest_binary;
mod initrd;
mod kernel;
pub mod layout;
pub mod module_index;
mod modules;
pub mod nixos;
mod rootfs;
mod run;
mod sources;
mod tools;

pub use cache::{sent, stored, templates};
pub use error::Error;
pub use guest_binary::VARIABLE as GUEST_BINARY;

/// Debian's name of an architecture.
const fn debian_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::Aarch64 => "arm64",
    }
}

/// What an image of the provider `debian` is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSpec {
    /// The suite (`bookworm`); this machine's own where it runs Debian, else the provider's default.
    pub suite: Option<String>,
    /// The guest's architecture.
    pub arch: Arch,
    /// Packages besides the base set; order and repetition do not matter.
    pub packages: Vec<String>,
    /// A file of apt sources (one-line or deb822) instead of this machine's own.
    pub sources: Option<PathBuf>,
    /// The static civm binary that becomes the guest's side. Where it is absent: the running one, or for the other
    /// architecture the one that `CIVM_GUEST_BINARY` names or that lies beside it.
    pub guest_binary: Option<PathBuf>,
}

/// What an instance boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Hash of what the image is made of, 32 hex digits.
    pub id: String,
    /// The guest's architecture.
    pub arch: Arch,
    /// The uncompressed kernel: an ELF `vmlinux` booted by PVH (`x86_64`), an `Image` (aarch64).
    pub kernel: PathBuf,
    /// The initrd with civm's guest side.
    pub initrd: PathBuf,
    /// The base disk, a self-contained qcow2; never booted itself, see [`disk`].
    pub disk: PathBuf,
    /// What the image wants on the kernel's command line, besides the machine's `console=`.
    pub append: Vec<String>,
    /// What of its content is known without a boot.
    pub contents: Contents,
}

/// What of an image's content host.yaml can refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The text of /etc/passwd.
    pub passwd: String,
    /// The text of /etc/group.
    pub group: String,
    /// Paths below the root of what can be run.
    pub programs: BTreeSet<String>,
    /// The time zones; of an image that an older civm built they are not known.
    #[serde(default)]
    pub zones: Option<BTreeSet<String>>,
}

impl Contents {
    /// Whether a program is there. `/bin` and `/usr/bin` are one directory where they are merged, as in Debian.
    #[must_use]
    pub fn has_program(&self, path: &str) -> bool {
        let path = path.trim_start_matches('/');
        let unmerged = path.strip_prefix("usr/").unwrap_or(path);
        [unmerged.to_owned(), format!("usr/{unmerged}")].iter().any(|path| self.programs.contains(path))
    }
}

/// civm's binary for machines of an architecture: the running one, or one that was built for it.
///
/// # Errors
/// [`Error::NoGuestBinary`], which says how to make one; as for a guest, what is there cannot be used.
pub fn guest_binary(arch: Arch, environment: &Environment) -> Result<PathBuf, Error> {
    guest_binary::GuestBinary::find(None, arch, environment).map(|binary| binary.path)
}

/// A word about the progress of [`debian::ensure`].
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Another process builds the same image; this one waits for it.
    Waiting,
    /// The image is not in the cache: it is built now; output of the tools goes to that file.
    Building {
        /// The log of the tools' own output.
        log: PathBuf,
    },
    /// Nix builds a runner and what its machine is made of.
    BuildingWithNix {
        /// The log of its messages.
        log: PathBuf,
    },
    /// A step begins.
    Step {
        /// What it does, in a few words.
        name: &'static str,
    },
    /// How much of the whole build is done, from 0 to 1.
    Fraction(f32),
    /// The image was built and is in the cache.
    Built {
        /// How long it took.
        seconds: u64,
    },
}

/// The receiver of progress events.
pub type Progress<'a> = &'a mut dyn FnMut(Event);

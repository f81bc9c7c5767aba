//! What can be wrong with a project or a host.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::store::yaml::settings;

/// Why a project or a host could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither the directory nor one above it is a project.
    #[error(
        "no project found: neither {} nor a directory above it has a directory `hosts`, a file `.sops.yaml` or a file `flake.nix`",
        start.display()
    )]
    NoProject {
        /// Where the search began.
        start: PathBuf,
    },
    /// The named directory is not a project.
    #[error("{} is not a project: it has no directory `hosts`, no file `.sops.yaml` and no file `flake.nix`", dir.display())]
    NotAProject {
        /// The directory.
        dir: PathBuf,
    },
    /// A host that the project does not define.
    #[error("no host `{name}` in {}{}{}", hosts.display(), did_you_mean(suggestion.as_ref()), list(known))]
    NoHost {
        /// The name that was asked for.
        name: String,
        /// The directory of the hosts.
        hosts: PathBuf,
        /// A name that looks alike.
        suggestion: Option<String>,
        /// All names.
        known: Vec<String>,
    },
    /// A name that cannot be a host's.
    #[error("`{name}` cannot be the name of a host: use lower-case letters, digits and `-`, at most 63")]
    BadName {
        /// The name.
        name: String,
    },
    /// A file or directory that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A link of the project that leads out of it.
    #[error("{} leads out of the project, to {}, which is not read", path.display(), target.display())]
    Outside {
        /// The link, or something below it.
        path: PathBuf,
        /// Where it leads to.
        target: PathBuf,
    },
    /// Something of the project that must be a file.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// Where it lies.
        path: PathBuf,
    },
    /// Something of the project that must be a directory.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// Where it lies.
        path: PathBuf,
    },
    /// A file or tree of the project that is too large.
    #[error("{} is larger than {} MiB", path.display(), most >> 20)]
    TooLarge {
        /// Which one.
        path: PathBuf,
        /// The most bytes that it may have.
        most: u64,
    },
    /// Something in a rootfs tree that cannot be laid over an image.
    #[error("{} is {what}: only files, directories and links can be laid over an image", path.display())]
    NotForAnImage {
        /// Where it lies.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A list of artifacts that is not one.
    #[error("{}: {message}", path.display())]
    List {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Two artifacts with one destination.
    #[error("two artifacts go to {path}")]
    TwoArtifacts {
        /// The destination.
        path: String,
    },
    /// A host.yaml that is not valid.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

impl Error {
    /// What to do next, a line each.
    #[must_use]
    pub fn help(&self) -> Vec<String> {
        match self {
            Self::NoProject { .. } | Self::NotAProject { .. } => vec![
                "go to the directory that holds `hosts/`, or name it with --project DIR".into(),
                "`civm init` makes a project here".into(),
            ],
            Self::Outside { .. } => {
                vec!["if you trust what it leads to, copy that into the project".into()]
            }
            Self::NoHost { hosts, name, .. } => {
                vec![format!(
                    "a host is a directory with a host.yaml: {}",
                    hosts.join(name).join("host.yaml").display()
                )]
            }
            _ => Vec::new(),
        }
    }
}

/// Something in a host.yaml that is not valid, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// A key or name that looks alike.
    pub suggestion: Option<String>,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}{}", self.message, did_you_mean(self.suggestion.as_ref()))
    }
}

impl std::error::Error for SpecError {}

fn did_you_mean(suggestion: Option<&String>) -> String {
    suggestion.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

fn list(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!(" (defined: {})", known.join(", ")) }
}

/// The name that looks most like the wanted one, if any does.
#[must_use]
pub fn alike<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    settings::alike(wanted, known).map(str::to_owned)
}

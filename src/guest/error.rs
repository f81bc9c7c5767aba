//! What can go wrong inside a guest.

use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong inside a guest. No message ever holds a secret value.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The kernel or a file system refused.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// A program of the image failed.
    #[error("{program} failed ({status}){}", words(.stderr))]
    Program { program: String, status: String, stderr: String },
    /// A file is not what it should be.
    #[error("{}: {reason}", .path.display())]
    Content { path: PathBuf, reason: String },
}

fn words(stderr: &str) -> String {
    let text = stderr.trim().replace('\n', "; ");
    if text.is_empty() { text } else { format!(": {text}") }
}

impl Error {
    /// For `map_err`: what was tried with which file.
    pub(super) fn io<E: Into<io::Error>>(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.as_ref().to_owned();
        move |error| Self::Io { action, path, source: error.into() }
    }

    pub(super) fn content(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Content { path: path.as_ref().to_owned(), reason: reason.into() }
    }
}

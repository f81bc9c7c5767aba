//! Where a text comes from.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::end::End;
use crate::edge::stream::read_stdin;
use crate::secrets::session::read;

/// Where a text comes from.
pub(super) enum Source {
    /// A file, by its absolute path.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Source {
    /// What there is.
    pub(super) fn read(&self) -> Result<Zeroizing<Vec<u8>>, End> {
        match self {
            Self::File(path) => Ok(Zeroizing::new(read(path)?)),
            Self::Stdin => read_stdin().map_err(|error| End::stdin(&error)),
        }
    }

    /// The path of the file; empty for standard input.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Stdin => Path::new(""),
        }
    }
}

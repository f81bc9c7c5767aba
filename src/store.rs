//! Text to tree and back, a file per format.

use crate::sops::tree::Tree;

pub mod yaml;

/// Reading and writing one format. Pure: text in, values out.
pub trait Store {
    /// Reads a whole file. The tree's documents still hold the metadata, if any, under `sops`.
    ///
    /// # Errors
    /// What is wrong, with its line.
    fn load(&self, input: &[u8]) -> Result<Tree, Error>;

    /// Writes a tree as the format spells it.
    ///
    /// # Errors
    /// A tree that the format cannot hold.
    fn emit(&self, tree: &Tree) -> Result<Vec<u8>, Error>;
}

/// Why a text could not be read or a tree not be written. Never holds a value of the document.
///
/// sops ends with code 2 where it cannot read, 92 for an empty file, and 4 where it cannot write.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The text is not of the format.
    #[error("line {line}: {message}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The file holds nothing at all.
    #[error("the file is empty")]
    Empty,
    /// A limit on depth, size or expansion was passed.
    #[error("line {line}: more than {limit} {what}")]
    Limit {
        /// Counted from 1.
        line: usize,
        /// The bound.
        limit: usize,
        /// What it bounds.
        what: &'static str,
    },
    /// The tree cannot be written in this format.
    #[error("{0}")]
    Unwritable(String),
}

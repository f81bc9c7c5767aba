//! Text to tree and back, a file per format.

use crate::sops::document::{self, IsMetadata};
use crate::sops::key_path::KeyPath;
use crate::sops::tree::{Branch, Tree, Value};

pub mod binary;
mod buffer;
pub mod dotenv;
mod flat;
mod format;
pub mod ini;
pub mod json;
mod limits;
mod recognise;
mod size;
mod texts;
pub mod yaml;

pub use format::{Format, Indents};
pub use recognise::may_be_encrypted;
pub use texts::spelled;

/// Reading and writing one format. Pure: text in, values out.
pub trait Store: Send + Sync {
    /// Reads an encrypted file. The metadata stands in the documents as the mapping `sops`, whatever form the
    /// format gives it.
    ///
    /// # Errors
    /// What is wrong, with its line.
    fn load(&self, input: &[u8]) -> Result<Tree, Error>;

    /// Writes an encrypted file from documents that hold the metadata as the mapping `sops`.
    ///
    /// # Errors
    /// A tree that the format cannot hold.
    fn emit(&self, tree: &Tree) -> Result<Vec<u8>, Error>;

    /// Reads a plaintext, where that takes another form.
    ///
    /// # Errors
    /// What is wrong, with its line.
    fn load_plain(&self, input: &[u8]) -> Result<Tree, Error> {
        self.load(input)
    }

    /// Writes a plaintext, where that takes another form.
    ///
    /// # Errors
    /// A tree that the format cannot hold.
    fn emit_plain(&self, tree: &Tree) -> Result<Vec<u8>, Error> {
        self.emit(tree)
    }

    /// Writes one value of a document, as `--extract` prints it.
    ///
    /// # Errors
    /// A value that the format cannot hold.
    fn emit_value(&self, value: &Value) -> Result<Vec<u8>, Error>;

    /// Tells the metadata from the values of a document.
    fn is_metadata(&self) -> IsMetadata {
        document::is_metadata
    }

    /// Whether a plaintext document holds what the format keeps the metadata in, so that it counts as encrypted.
    fn is_encrypted(&self, branch: &Branch) -> bool {
        branch.iter().any(document::is_metadata)
    }

    /// Reads an emitted encrypted file again and compares: nobody may rely on a text that says something else.
    ///
    /// # Errors
    /// Where it differs.
    fn verify(&self, tree: &Tree, emitted: &[u8]) -> Result<(), Error>;

    /// The values of a plaintext that the format takes for something else than they look like.
    fn surprises(&self, input: &[u8]) -> Vec<Surprise> {
        let _ = input;
        Vec::new()
    }

    /// Whether a plaintext is one value, so that there is nothing to select from.
    fn is_single_value(&self) -> bool {
        false
    }

    /// Whether an emitted plaintext reads back as the tree it was made from, so that an edit of it changes what
    /// its editor changes and nothing else.
    ///
    /// # Errors
    /// Where it would not.
    fn verify_plain(&self, tree: &Tree, emitted: &[u8]) -> Result<(), Error> {
        let _ = (tree, emitted);
        Ok(())
    }

    /// What the editor shows where a file is made; every value in it is to be replaced.
    fn example(&self) -> &'static str;
}

/// A value that is something else than it looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surprise {
    /// Counted from 1.
    pub line: usize,
    /// Where it stands.
    pub path: KeyPath,
    /// What becomes of it.
    pub what: &'static str,
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

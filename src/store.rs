//! Parsing text into a tree and writing it back; one file per format.

use crate::sops::document::{self, IsMetadata};
use crate::sops::key_path::KeyPath;
use crate::sops::tree::{Branch, Tree, Value};

pub mod binary;
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
    /// Reads an encrypted file. In the result, the metadata is the mapping `sops`, however the
    /// format stores it.
    ///
    /// # Errors
    /// What is wrong, with its line.
    fn load(&self, input: &[u8]) -> Result<Tree, Error>;

    /// Writes an encrypted file from documents that hold the metadata as the mapping `sops`.
    ///
    /// # Errors
    /// A tree that the format cannot represent.
    fn emit(&self, tree: &Tree) -> Result<Vec<u8>, Error>;

    /// Reads a plaintext, if its form differs from that of an encrypted file.
    ///
    /// # Errors
    /// What is wrong, with its line.
    fn load_plain(&self, input: &[u8]) -> Result<Tree, Error> {
        self.load(input)
    }

    /// Writes a plaintext, if its form differs from that of an encrypted file.
    ///
    /// # Errors
    /// A tree that the format cannot represent.
    fn emit_plain(&self, tree: &Tree) -> Result<Vec<u8>, Error> {
        self.emit(tree)
    }

    /// Writes one value of a document, as `--extract` prints it.
    ///
    /// # Errors
    /// A value that the format cannot represent.
    fn emit_value(&self, value: &Value) -> Result<Vec<u8>, Error>;

    /// Distinguishes the metadata from the values of a document.
    fn is_metadata(&self) -> IsMetadata {
        document::is_metadata
    }

    /// Whether a plaintext document contains the entry in which the format keeps the metadata, so that it counts as encrypted.
    fn is_encrypted(&self, branch: &Branch) -> bool {
        branch.iter().any(document::is_metadata)
    }

    /// Reads an emitted encrypted file back and compares it, so that no text is used that means something else.
    ///
    /// # Errors
    /// Where it differs.
    fn verify(&self, tree: &Tree, emitted: &[u8]) -> Result<(), Error>;

    /// The values of a plaintext that the format reads as something other than they look like.
    fn surprises(&self, input: &[u8]) -> Vec<Surprise> {
        let _ = input;
        Vec::new()
    }

    /// Whether a plaintext is a single value, so that there is nothing to select from.
    fn is_single_value(&self) -> bool {
        false
    }

    /// Checks that an emitted plaintext reads back as the tree it was made from, so that an edit changes only what
    /// the user changes.
    ///
    /// # Errors
    /// Where it would not.
    fn verify_plain(&self, tree: &Tree, emitted: &[u8]) -> Result<(), Error> {
        let _ = (tree, emitted);
        Ok(())
    }

    /// The example shown in the editor for a new file; every value in it is to be replaced.
    fn example(&self) -> &'static str;
}

/// A value that is not what it looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surprise {
    /// Counted from 1.
    pub line: usize,
    /// Its path.
    pub path: KeyPath,
    /// What becomes of it.
    pub what: &'static str,
}

/// Why a text could not be read or a tree could not be written. Never contains a value of the document.
///
/// sops exits with code 2 if it cannot read, 92 for an empty file, and 4 if it cannot write.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The text is not valid in the format.
    #[error("line {line}: {message}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The file is empty.
    #[error("the file is empty")]
    Empty,
    /// A limit on depth, size or expansion was exceeded.
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

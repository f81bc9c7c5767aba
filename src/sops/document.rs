//! A whole document: data and metadata apart and together, encrypted and decrypted.

mod audit;
mod decrypt;
mod encrypt;
mod reach;
#[cfg(test)]
mod tests;

use std::fmt;

use super::aad::Aad;
use super::error::Error;
use super::key_path::KeyPath;
use super::metadata::{self, Metadata};
use super::selector::Selector;
use super::stash::Stash;
use super::tree::{Branch, Item, Key, Tree, Value};

pub use audit::{Fault, Stray, audit};
pub use decrypt::{MacCheck, Nonces, decrypt};
pub use encrypt::encrypt;
pub use reach::selects_nothing;

/// Entries of a mapping that one thread works on.
const PART: usize = 64;

/// Entries that all threads work on before their MAC is taken on.
const ROUND: usize = 32 * PART;

/// Keys above a mapping whose entries are divided: each division takes much of a thread's stack, and one that waits for
/// its parts may work on another mapping's meanwhile.
const DIVIDED_UNDER: usize = 4;

/// Whether the entries of a mapping are divided among threads: there must be many, and none may depend on another.
fn is_divisible(branch: &Branch, selector: Option<&Selector>, aad: &Aad) -> bool {
    branch.len() > PART && aad.depth() <= DIVIDED_UNDER && !selector.is_some_and(Selector::reads_comments)
}

/// A decrypted document.
#[derive(Debug, Default)]
pub struct Decrypted {
    /// The plaintext.
    pub tree: Tree,
    /// The nonces, for encrypting it again.
    pub stash: Stash,
    /// Warnings for the user.
    pub warnings: Vec<Warning>,
}

/// Something that is not an error to sops, but suspicious.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// A comment on an encrypted path that is not a ciphertext for this path: kept unchanged.
    UndecryptableComment {
        /// The document, counted from 1.
        document: usize,
        /// The path of the mapping or list that contains it.
        container: KeyPath,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::UndecryptableComment { document, container } = self;
        write!(
            f,
            "document {document}, {container}: a comment could not be decrypted and is kept as it is; \
             it may never have been encrypted"
        )
    }
}

/// Recognises the entry of a document that holds the metadata, which depends on the format.
pub type IsMetadata = fn(&Item) -> bool;

/// Takes the metadata off a file as it was read. Only the first document's counts; those of the others
/// are dropped.
///
/// # Errors
/// No metadata, more than one, or metadata that cannot be read.
pub fn split(mut tree: Tree, is_metadata: IsMetadata) -> Result<(Tree, Metadata), Error> {
    let mut found = None;
    for (index, branch) in tree.documents.iter_mut().enumerate() {
        for item in branch.extract_if(.., |item: &mut Item| is_metadata(item)) {
            if index == 0
                && let Item::Entry(_, value) = item
                && found.replace(value).is_some()
            {
                return Err(Error::DuplicateMetadata);
            }
        }
    }
    match found {
        None => Err(Error::MetadataNotFound),
        Some(Value::Map(branch)) => Ok((tree, Metadata::from_branch(&branch)?)),
        Some(other) => Err(Error::Metadata {
            field: metadata::KEY.to_owned(),
            reason: format!("expected a mapping, but got {}", super::value::describe(&other)),
        }),
    }
}

/// Appends the metadata to the data of every document, ready for writing.
///
/// # Errors
/// A document that has a `sops` entry of its own.
pub fn join(mut tree: Tree, metadata: &Metadata, is_metadata: IsMetadata) -> Result<Tree, Error> {
    if let Some(index) = tree.documents.iter().position(|branch| branch.iter().any(is_metadata)) {
        return Err(Error::ReservedKey { document: index + 1 });
    }
    let branch = metadata.to_branch();
    for document in &mut tree.documents {
        document.push(Item::entry(metadata::KEY, Value::Map(branch.clone())));
    }
    Ok(tree)
}

/// Whether an item is the entry of a document that holds the metadata.
#[must_use]
pub fn is_metadata(item: &Item) -> bool {
    matches!(item, Item::Entry(Key::Str(key), _) if *key == metadata::KEY)
}

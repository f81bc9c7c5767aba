//! Why a document could not be read, decrypted or encrypted.

use super::key_path::{KeyPath, Step};
use super::pattern::PatternError;

/// What is wrong with a document. Contains paths, never values.
///
/// sops' exit codes: 4 for [`Error::ReservedKey`] (203 where the caller finds the key before it
/// encrypts), 23 for [`Error::Encrypt`], 25 for [`Error::Decrypt`], 51 for [`Error::MacMissing`],
/// [`Error::MacMismatch`] and [`Error::MacUndecryptable`], 128 for [`Error::DataKeyLength`] and
/// [`Error::Shamir`], 1 for the rest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The first document has no metadata.
    #[error("sops metadata not found")]
    MetadataNotFound,
    /// The first document has more than one `sops` entry.
    #[error("found duplicate sops entry")]
    DuplicateMetadata,
    /// A field of the metadata is not what it should be.
    #[error("sops metadata: {field}: {reason}")]
    Metadata {
        /// Where: `lastmodified`, `age[0].enc`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No master keys at all.
    #[error("no keys found in file")]
    NoKeys,
    /// The `version` in the metadata is not a semantic version.
    #[error("sops metadata: version: {0}")]
    Version(&'static str),
    /// More than one of the six selectors.
    #[error("cannot use more than one of {} in the same file", super::selector::NAMES.join(", "))]
    SeveralSelectors,
    /// A selector's regular expression that Go's RE2 would refuse, or that we cannot follow.
    #[error("{selector}: {error}")]
    Selector {
        /// The selector's name.
        selector: &'static str,
        /// What is wrong with its expression.
        error: PatternError,
    },
    /// The data holds a top-level key that belongs to the metadata.
    #[error("found key \"sops\" in document {document}, which is reserved for sops metadata")]
    ReservedKey {
        /// Counted from 1.
        document: usize,
    },
    /// A value could not be encrypted.
    #[error("could not encrypt {path}: {reason}")]
    Encrypt {
        /// Its path.
        path: KeyPath,
        /// Why.
        reason: ValueError,
    },
    /// A value could not be decrypted.
    #[error("could not decrypt {path}: {reason}")]
    Decrypt {
        /// Its path.
        path: KeyPath,
        /// Why.
        reason: ValueError,
    },
    /// The metadata holds no MAC.
    #[error("MAC mismatch: the file has no MAC")]
    MacMissing,
    /// The MAC does not match the content.
    #[error("MAC mismatch: the content was changed after encryption")]
    MacMismatch,
    /// The MAC itself could not be decrypted.
    #[error("cannot decrypt MAC: {0}")]
    MacUndecryptable(ValueError),
    /// A data key that is not 32 bytes long.
    #[error("the data key has {0} bytes, not 32")]
    DataKeyLength(usize),
    /// Key groups that cannot be split or combined.
    #[error("{0}")]
    Shamir(&'static str),
}

/// What is wrong with one value.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ValueError {
    /// Not an ENC token.
    #[error("it does not match sops' data format")]
    NotAToken,
    /// A part of the token is not base64.
    #[error("the {0} of its token is not base64")]
    NotBase64(&'static str),
    /// A nonce that no writer of sops files uses.
    #[error("its nonce has {0} bytes")]
    NonceLength(usize),
    /// The authentication failed: another key, another place, or a changed value.
    #[error("it was not encrypted with this data key at this path")]
    Authentication,
    /// The plaintext is not of the type that the token names.
    #[error("its plaintext is not a valid {0}")]
    NotOfType(&'static str),
    /// A type that sops does not know.
    #[error("its token names an unknown type")]
    UnknownType,
    /// On an encrypted path, but not a string.
    #[error("expected encrypted value as string, but got {0}")]
    NotAString(&'static str),
    /// A key that is not a string.
    #[error("the mapping has a key that is not a string; only strings are supported as keys")]
    NonStringKey,
    /// An integer above the signed 64-bit range.
    #[error("integers above 9223372036854775807 are not supported")]
    IntegerTooLarge,
    /// The ciphertext of a comment matches `unencrypted_comment_regex`, so it could not be decrypted.
    #[error("the encrypted comment matches unencrypted_comment_regex; the expression must not match it")]
    EncryptedCommentMatches,
    /// The cipher refuses the length.
    #[error("it is too long for AES-GCM")]
    TooLong,
}

/// A [`ValueError`] on its way up: each level of the tree adds its step.
#[derive(Debug)]
pub(super) struct Located {
    steps: Vec<Step>,
    reason: ValueError,
}

impl From<ValueError> for Located {
    fn from(reason: ValueError) -> Self {
        Self { steps: Vec::new(), reason }
    }
}

impl Located {
    pub(super) fn under(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn into_parts(mut self) -> (KeyPath, ValueError) {
        self.steps.reverse();
        (KeyPath::from(self.steps), self.reason)
    }

    pub(super) fn encrypting(self) -> Error {
        let (path, reason) = self.into_parts();
        Error::Encrypt { path, reason }
    }

    pub(super) fn decrypting(self) -> Error {
        let (path, reason) = self.into_parts();
        Error::Decrypt { path, reason }
    }
}

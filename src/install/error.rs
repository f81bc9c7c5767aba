//! What can go wrong. No message holds a secret value.

use std::io;
use std::path::PathBuf;

use super::opener::Cause;

/// Why secrets could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, or a field of another type.
    #[error("failed to parse manifest: {0}")]
    Parse(#[source] serde_json::Error),
    /// A manifest without a JSON value.
    #[error("failed to parse manifest: the file is empty")]
    EmptyManifest,
    /// A JSON value of another kind.
    #[error("failed to parse manifest: not a JSON object")]
    NoObject,
    /// The manifest asks for something impossible.
    #[error("manifest is not valid: {0}")]
    Invalid(String),
    /// `%r` without a runtime directory.
    #[error("cannot figure out runtime directory: $XDG_RUNTIME_DIR is not set")]
    NoRuntimeDir,
    /// Neither of the two groups that generations belong to.
    #[error("can't find group 'keys' nor 'nogroup'")]
    NoKeysGroup,
    /// Reading a file, making a directory, mounting, switching a link.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb, perhaps with an object.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An encrypted file that could not be read.
    #[error("manifest is not valid: secret {name}: cannot read {}: {source}", path.display())]
    SecretFile {
        /// Name of the first secret that needs it.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that could not be read as its format.
    #[error("manifest is not valid: secret {name}: cannot parse {} as {format}: {source}", path.display())]
    Unreadable {
        /// Name of the first secret that needs it.
        name: String,
        /// The file.
        path: PathBuf,
        /// The format's name.
        format: &'static str,
        /// Why not.
        source: Cause,
    },
    /// No identity opens a file, or it has been tampered with.
    #[error("failed to decrypt '{}' for secret {name}{key}: {source}", path.display())]
    Decrypt {
        /// The file.
        path: PathBuf,
        /// Name of the first secret that needs it.
        name: String,
        /// The key of that secret in words, where it has one.
        key: String,
        /// Why not.
        source: Cause,
    },
    /// A file of which another secret has told already what is wrong.
    #[error("{} could not be used, as said of secret {first}", path.display())]
    AsBefore {
        /// The file.
        path: PathBuf,
        /// Name of the first secret that needs it.
        first: String,
    },
    /// The text of a template.
    #[error("manifest is not valid: template {name}: cannot read {}: {source}", path.display())]
    TemplateFile {
        /// Name of the template.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A template that needs a secret which is left out.
    #[error("it needs secret {secret}, which is left out")]
    TemplateNeeds {
        /// Name of the secret.
        secret: String,
    },
    /// systemctl failed; the secrets are in place.
    #[error("the secrets are installed, but their units could not be told: {0}")]
    Units(String),
    /// A decrypted file that cannot be written in its format.
    #[error("cannot write {} as {format}: {source}", path.display())]
    Emit {
        /// The file.
        path: PathBuf,
        /// The format's name.
        format: &'static str,
        /// Why not.
        source: Cause,
    },
    /// A key that is not there, or not of a kind that can be installed.
    #[error("manifest is not valid: secret {name} in {} is not valid: {reason}", path.display())]
    Key {
        /// Name of the secret.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with the key.
        reason: String,
    },
    /// The link does not lead to a numbered generation.
    #[error("cannot prepare a generation: {} of {} is not a number", last, path.display())]
    NotANumber {
        /// The last part of the link's target.
        last: String,
        /// The link's target.
        path: PathBuf,
    },
    /// The path of a secret or template is taken by something that must not be removed.
    #[error("cannot link {} to {name}: {reason}", path.display())]
    Taken {
        /// The path.
        path: PathBuf,
        /// Its name.
        name: String,
        /// What is there.
        reason: String,
    },
}

impl Error {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

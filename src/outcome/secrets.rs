//! Exit codes of the secrets commands.

use std::io;

use super::Code;
use crate::secrets::Error;
use crate::{sops, store};

impl Code {
    /// The exit code for an error on a sops file: sops' own, if it has one.
    #[must_use]
    pub fn of_secrets(error: &Error) -> Self {
        match error {
            Error::Missing(_) => Self::NoFileSpecified,
            Error::Read { .. }
            | Error::Directory(_)
            | Error::Unmerged(_)
            | Error::InvalidEdit(_)
            | Error::MetadataEdited(_) => Self::CouldNotReadInput,
            Error::Store { error, .. } => match error {
                store::Error::Empty => Self::NeedAtLeastOneDocument,
                store::Error::Unwritable(_) => Self::Dump,
                _ => Self::CouldNotReadInput,
            },
            Error::Sops { error, .. } => match error {
                sops::Error::ReservedKey { .. } => Self::Dump,
                sops::Error::Encrypt { .. } => Self::CouldNotEncryptTree,
                sops::Error::Decrypt { .. } => Self::CouldNotDecryptTree,
                sops::Error::MacMissing | sops::Error::MacMismatch | sops::Error::MacUndecryptable(_) => {
                    Self::MacMismatch
                }
                sops::Error::DataKeyLength(_) | sops::Error::Shamir(_) => Self::CouldNotRetrieveKey,
                _ => Self::Generic,
            },
            Error::NotJson(_) | Error::RepeatedKey | Error::ListValue => Self::InvalidSetFormat,
            Error::CommentsMove(_) => Self::CouldNotEncryptTree,
            Error::AlreadyEncrypted(_) => Self::FileAlreadyEncrypted,
            Error::Locked { .. } => Self::CouldNotRetrieveKey,
            Error::Write(_)
            | Error::PrivateDir(_)
            | Error::NotWritable { .. }
            | Error::ChangedMeanwhile { .. } => Self::CouldNotWriteOutput,
            Error::Program { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Self::CommandNotFound,
                _ => Self::CommandNotRun,
            },
            Error::Editor(_) | Error::EditorLostFile => Self::NoEditorFound,
            Error::Unchanged => Self::FileHasNotBeenModified,
            Error::Unresolved
            | Error::BothKept(_)
            | Error::Path { .. }
            | Error::HostKey { .. }
            | Error::NoRules { .. }
            | Error::Rules { .. }
            | Error::NoConfig(_)
            | Error::NoRule { .. }
            | Error::OtherKeys { .. }
            | Error::Split(_)
            | Error::EmptyGroup { .. }
            | Error::BadThreshold { .. }
            | Error::NoGroup { .. }
            | Error::Threshold { .. }
            | Error::OtherHolders { .. }
            | Error::Variable { .. }
            | Error::NotLocal(_)
            | Error::Account(_)
            | Error::Recipient { .. } => Self::Generic,
        }
    }
}

//! What a failed secrets command says and with which code it ends.

use crate::outcome::{Code, Failure};
use crate::secrets::Error;
use crate::{sops, store};

/// The exit code, the words and the advice for an error. Codes are sops' own.
pub(in crate::commands) fn failure(error: Error) -> Failure {
    let code = code(&error);
    let help = help(&error);
    let message = match &error {
        // The tree says it all, in sops' words first.
        Error::Locked { path, locked } => {
            return locked.advice().into_iter().fold(
                Failure::new(code, format!("`{}`: {}", path.display(), locked.render(false))),
                Failure::help,
            );
        }
        other => other.to_string(),
    };
    help.into_iter().fold(Failure::new(code, message), Failure::help)
}

fn code(error: &Error) -> Code {
    match error {
        Error::Missing(_) => Code::NoFileSpecified,
        Error::Read { .. } | Error::Directory(_) | Error::Format { .. } | Error::InvalidEdit(_) => {
            Code::CouldNotReadInput
        }
        Error::Store { error, .. } => match error {
            store::Error::Empty => Code::NeedAtLeastOneDocument,
            store::Error::Unwritable(_) => Code::Dump,
            _ => Code::CouldNotReadInput,
        },
        Error::Sops { error, .. } => match error {
            sops::Error::ReservedKey { .. } => Code::Dump,
            sops::Error::Encrypt { .. } => Code::CouldNotEncryptTree,
            sops::Error::Decrypt { .. } => Code::CouldNotDecryptTree,
            sops::Error::MacMissing | sops::Error::MacMismatch | sops::Error::MacUndecryptable(_) => {
                Code::MacMismatch
            }
            sops::Error::DataKeyLength(_) | sops::Error::Shamir(_) => Code::CouldNotRetrieveKey,
            _ => Code::Generic,
        },
        Error::CommentsMove(_) => Code::CouldNotEncryptTree,
        Error::AlreadyEncrypted(_) => Code::FileAlreadyEncrypted,
        Error::Locked { .. } => Code::CouldNotRetrieveKey,
        Error::Write(_)
        | Error::PrivateDir(_)
        | Error::NotWritable { .. }
        | Error::ChangedMeanwhile { .. } => Code::CouldNotWriteOutput,
        Error::Editor(_) | Error::EditorLostFile => Code::NoEditorFound,
        Error::Unchanged => Code::FileHasNotBeenModified,
        Error::Path { .. }
        | Error::HostKey { .. }
        | Error::NoRules { .. }
        | Error::Rules { .. }
        | Error::NoConfig(_)
        | Error::NoRule { .. }
        | Error::OtherKeys { .. }
        | Error::NoRecipients(_)
        | Error::Split(_)
        | Error::Recipient { .. } => Code::Generic,
    }
}

fn help(error: &Error) -> Option<String> {
    Some(match error {
        Error::AlreadyEncrypted(path) => format!("change it with `civm secrets edit {}`", path.display()),
        Error::CommentsMove(_) => {
            "put each such comment right above a key of a mapping, not in front of a list or of its items"
                .to_owned()
        }
        Error::NoConfig(_) => {
            "`civm init` makes a .sops.yaml; or name recipients with --age, or SOPS_AGE_RECIPIENTS".to_owned()
        }
        Error::NoRule { config, .. } => {
            format!("add a rule whose path_regex matches it to `{}`", config.display())
        }
        Error::Sops { error: sops::Error::MetadataNotFound, path } => {
            format!("it is not encrypted; `civm secrets encrypt -i {}` does that", path.display())
        }
        Error::Sops { error: sops::Error::MacMismatch, .. } => {
            "it was changed without sops; see what with `git log -p`, or read it with --ignore-mac".to_owned()
        }
        Error::Editor(_) => "set EDITOR to an editor that waits until you close the file".to_owned(),
        _ => return None,
    })
}

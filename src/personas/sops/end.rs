//! Errors with sops' messages and exit codes.

use std::io;
use std::path::Path;

use crate::edge::atomic::WriteError;
use crate::edge::editor::EditorError;
use crate::keys::recipient::{RecipientError, shown};
use crate::keys::retrieval::RetrievalError;
use crate::outcome::Code;
use crate::personas::go_text::{quoted, reason};
use crate::secrets::Error;
use crate::store;
use crate::{rules, sops};

/// Why a command failed. The messages hold no value of a file.
#[derive(Debug)]
pub(super) enum End {
    /// A message for stderr and an exit code.
    Exit(Code, String),
    /// A message for the log, and exit code 1.
    Fatal(String),
}

/// An exit code, or why the command failed.
pub(super) type Outcome = Result<u8, End>;

impl End {
    /// A message with the code of errors without a code of their own.
    pub(super) fn generic(words: impl Into<String>) -> Self {
        Self::Exit(Code::Generic, words.into())
    }

    /// An error on the way to an encrypted file's content: sops ends with 1 where that has no form.
    pub(super) fn loading(error: Error) -> Self {
        match error {
            Error::Store { error: store::Error::Empty, .. } => Self::generic("sops metadata not found"),
            Error::Store { error: store::Error::Unwritable(_), .. } => error.into(),
            // Standard input has no name.
            Error::Store { path, error } if path.as_os_str().is_empty() => Self::generic(error.to_string()),
            Error::Store { .. } => Self::generic(error.to_string()),
            other => other.into(),
        }
    }

    /// A file that could not be written.
    pub(super) fn writing(what: &str, error: &WriteError) -> Self {
        let words = match error {
            WriteError::Io { path, source } => format!("open {}: {}", path.display(), reason(source)),
            other => other.to_string(),
        };
        Self::Exit(Code::CouldNotWriteOutput, format!("Could not open {what} for writing: {words}"))
    }

    /// Stdin that could not be read.
    pub(super) fn stdin(error: &io::Error) -> Self {
        Self::Exit(Code::CouldNotReadInput, format!("Error reading from stdin: {}", reason(error)))
    }

    /// The same without the code and the form that sops gives an error only on some ways.
    pub(super) fn into_message(self) -> String {
        match self {
            Self::Exit(_, words) | Self::Fatal(words) => words,
        }
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        let code = Code::of_secrets(&error);
        let (code, words) = match error {
            Error::Missing(path) => {
                let missing = io::Error::from_raw_os_error(nix::libc::ENOENT);
                (Code::CouldNotReadInput, unreadable("open", &path, &missing))
            }
            Error::Read { path, source } => (code, unreadable("open", &path, &source)),
            Error::Directory(path) => {
                let directory = io::Error::from_raw_os_error(nix::libc::EISDIR);
                (code, unreadable("read", &path, &directory))
            }
            Error::Store { error, .. } => (code, of_store(error)),
            Error::Sops { error, .. } => of_sops(code, error),
            Error::Locked { locked, .. } => (code, tree(&locked, false)),
            Error::NotJson(_) => (code, "Value for --set is not valid JSON".to_owned()),
            Error::ListValue => (code, "Invalid --set value format".to_owned()),
            Error::AlreadyEncrypted(_) => (code, ALREADY_ENCRYPTED.to_owned()),
            Error::CommentsMove(_) => (code, format!("Error encrypting tree: {error}")),
            Error::NoRules { path, source } => {
                (code, format!("could not read config file: open {}: {}", path.display(), reason(&source)))
            }
            Error::Rules { path, error } => {
                let what = match error {
                    rules::Error::Syntax(_) => "Could not unmarshal config file ",
                    _ => "",
                };
                (code, format!("error loading config: {what}{}: {error}", path.display()))
            }
            Error::NoConfig(_) => (code, NO_CONFIG.to_owned()),
            Error::NoRule { .. } => {
                (code, format!("error loading config: no matching creation rules found: {error}"))
            }
            // To the letter: sops' own tests compare the whole of it.
            Error::EmptyGroup { .. } => {
                (code, "Could not generate data key: [empty key group provided]".to_owned())
            }
            Error::Recipient { recipient, error: RecipientError::Unknown(_) | RecipientError::Empty } => {
                let recipient = quoted(&shown(&recipient));
                (code, format!("failed to parse input, unknown recipient type: {recipient}"))
            }
            Error::Variable { error, .. } => (code, error.to_string()),
            Error::Editor(EditorError::Failed { status, .. }) if status.code().is_some() => {
                (code, format!("Could not run editor: exit status {}", status.code().unwrap_or_default()))
            }
            Error::Editor(error) => (code, format!("Could not run editor: {error}")),
            Error::Unchanged => (code, "File has not changed, exiting.".to_owned()),
            Error::Write(error) => return Self::writing("in-place file", &error),
            other => (code, other.to_string()),
        };
        Self::Exit(code, words)
    }
}

/// The tree of what was tried, and what to do next.
pub(super) fn tree(locked: &RetrievalError, colours: bool) -> String {
    let advice = locked.advice().into_iter().map(|line| format!("\nhelp: {line}"));
    std::iter::once(locked.render(colours)).chain(advice).collect()
}

fn unreadable(step: &str, path: &Path, error: &io::Error) -> String {
    format!("Error reading file: {step} {}: {}", path.display(), reason(error))
}

fn of_store(error: store::Error) -> String {
    match error {
        store::Error::Empty => {
            "File cannot be completely empty, it must contain at least one document".to_owned()
        }
        store::Error::Unwritable(why) => format!("Could not marshal tree: {why}"),
        other => format!("Error unmarshalling file: {other}"),
    }
}

fn of_sops(code: Code, error: sops::Error) -> (Code, String) {
    let words = match &error {
        sops::Error::Encrypt { .. } => format!("Error encrypting tree: {error}"),
        sops::Error::Decrypt { .. } => format!("Error decrypting tree: {error}"),
        sops::Error::MacMissing => "MAC mismatch. File has no MAC".to_owned(),
        sops::Error::MacMismatch => "MAC mismatch. File has the MAC of another content".to_owned(),
        sops::Error::MacUndecryptable(why) => format!("Cannot decrypt MAC: {why}"),
        sops::Error::ReservedKey { .. } => format!("Could not marshal tree: {error}"),
        _ => error.to_string(),
    };
    (code, words)
}

const NO_CONFIG: &str =
    "config file not found, or has no creation rules, and no keys provided through command line options";

const ALREADY_ENCRYPTED: &str = "\
The file you have provided contains a top-level entry called 'sops', or for
flat file formats top-level entries starting with 'sops_'. This is
generally due to the file already being encrypted.

Rename the entry if the file is not encrypted; if it is, change it with
`sops edit FILE`.";

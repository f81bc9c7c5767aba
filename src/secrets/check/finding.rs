//! The findings of a check, and what to do about them.

use std::path::PathBuf;

use crate::secrets::session::Session;
use crate::sops::key_path::KeyPath;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A file or the rules cannot be read.
    Unreadable,
    /// A merge conflict is unresolved.
    Conflict,
    /// A creation rule is not valid.
    Rule,
    /// A file that should be encrypted is not.
    Plaintext,
    /// A value that should be encrypted is not.
    Value,
    /// A comment that should be encrypted is not.
    Comment,
    /// The token of a value is damaged, or is in a place where it is never decrypted.
    Token,
    /// The metadata is not well formed.
    Metadata,
    /// The MAC is missing, damaged, or does not match the content.
    Mac,
    /// The file has other recipients than its rule.
    Recipients,
    /// The number of key groups needed is not that of the rule.
    Threshold,
    /// The file selects the values to encrypt differently from its rule.
    Selector,
    /// A value that the format reads as something other than it looks like.
    Surprise,
    /// No value is encrypted, because the selector matches none.
    NothingEncrypted,
    /// No rule matches the file.
    NoRule,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1, if it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub kind: Kind,
    /// The value that it is about, if any.
    pub key: Option<KeyPath>,
    /// What is wrong, in words.
    pub message: String,
    /// Whether it is only a warning, which does not make the check fail.
    pub is_warning: bool,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Conflict => "conflict",
            Self::Rule => "rule",
            Self::Plaintext => "plaintext",
            Self::Value => "value",
            Self::Comment => "comment",
            Self::Token => "token",
            Self::Metadata => "metadata",
            Self::Mac => "mac",
            Self::Recipients => "recipients",
            Self::Threshold => "threshold",
            Self::Selector => "selector",
            Self::Surprise => "surprise",
            Self::NothingEncrypted => "nothing-encrypted",
            Self::NoRule => "no-rule",
        }
    }

    /// Whether it may be intended: then only a strict check fails.
    #[must_use]
    pub fn is_warning(self) -> bool {
        matches!(self, Self::NothingEncrypted | Self::Surprise)
    }

    /// What to do about it.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::Unreadable => "repair the file, or restore an earlier version of it",
            Self::Conflict => {
                "resolve it with `civm secrets merge FILE`; the file holds both versions, encrypted"
            }
            Self::Rule => "correct the rule in .sops.yaml",
            Self::Plaintext => {
                "`civm secrets encrypt -i FILE` encrypts it, `civm secrets encrypt --all` all such files; if it holds \
                 no secret, narrow the rule's path_regex or list the file in .civmignore"
            }
            Self::Value => {
                "remove the value, add it again with `civm secrets edit FILE`, and change the secret if others saw it"
            }
            Self::Comment => "remove the comment and add it again with `civm secrets edit FILE`",
            Self::Token | Self::Metadata | Self::Mac => {
                "the file was changed without sops: `git log -p FILE` shows how; restore the version from before that change"
            }
            Self::Recipients => "`civm secrets update-all` updates the recipients",
            Self::Threshold | Self::Selector => {
                "decrypt the file and encrypt it again: `civm secrets decrypt -i FILE`, `civm secrets encrypt -i FILE`"
            }
            Self::Surprise => "quote the value, so that it stays as it looks",
            Self::NothingEncrypted => {
                "correct the selector in .sops.yaml or the keys in the file, then decrypt the file and encrypt it again"
            }
            Self::NoRule => "add a rule with a matching path_regex to .sops.yaml",
        }
    }
}

impl Finding {
    /// A finding about a file as a whole.
    #[must_use]
    pub fn new(path: PathBuf, kind: Kind, message: String) -> Self {
        Self { path, line: None, kind, key: None, message, is_warning: kind.is_warning() }
    }

    /// The finding as one line: location and message.
    #[must_use]
    pub fn line(&self, session: &Session) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        let key = self.key.as_ref().map(|key| format!("{key} ")).unwrap_or_default();
        let warning = if self.is_warning { "warning: " } else { "" };
        format!("{}{line}: {warning}{key}{}", session.shown(&self.path), self.message)
    }
}

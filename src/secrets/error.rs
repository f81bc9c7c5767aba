//! Why work on a sops file failed.

use std::io;
use std::path::{Path, PathBuf};

use super::exec::VariableError;
use super::recipients::{MOST_GROUPS, Origin};
use crate::edge::account::AccountError;
use crate::edge::atomic::WriteError;
use crate::edge::editor::EditorError;
use crate::edge::private_dir::PrivateDirError;
use crate::keys::recipient::{RecipientError, shown};
use crate::keys::retrieval::RetrievalError;
use crate::sops::key_path::{KeyPath, PathError};
use crate::sops::merge::conflicted;
use crate::{rules, sops, store};

/// What went wrong, with the file it went wrong in. Never holds a value of a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file.
    #[error("`{}` does not exist", .0.display())]
    Missing(PathBuf),
    /// The system does not let it be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory was named where a file is wanted.
    #[error("`{}` is a directory", .0.display())]
    Directory(PathBuf),
    /// The text cannot be read, or the tree cannot be written.
    #[error("`{}`: {error}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        error: store::Error,
    },
    /// It has conflict markers.
    #[error("`{}` has a merge conflict that is not resolved yet", .0.display())]
    Unmerged(PathBuf),
    /// The document cannot be understood, decrypted or encrypted.
    #[error("`{}`: {error}", path.display())]
    Sops {
        /// The file.
        path: PathBuf,
        /// Why.
        error: sops::Error,
    },
    /// There is no such value in it.
    #[error("`{}`: {key}: {error}", path.display())]
    Path {
        /// The file.
        path: PathBuf,
        /// Where the value was looked for.
        key: KeyPath,
        /// Why it is not there.
        error: PathError,
    },
    /// Comments that choose what is encrypted would not stay where they are.
    #[error(
        "`{}`: the comments that choose the values to encrypt would move when the file is written, so that it \
         could not be decrypted", .0.display()
    )]
    CommentsMove(PathBuf),
    /// The file to be encrypted already is.
    #[error("`{}` is already encrypted: it has a top-level `sops` entry, which is sops' metadata", .0.display())]
    AlreadyEncrypted(PathBuf),
    /// No identity opens it.
    #[error("`{}`: no identity at hand opens it", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// What was tried.
        locked: Box<RetrievalError>,
    },
    /// A value to be set that is no JSON.
    #[error("the value is not valid JSON: {0}")]
    NotJson(store::Error),
    /// A value to be set with a key that stands twice in its mapping: files that hold such cannot be read.
    #[error("a mapping in the value has the same key twice")]
    RepeatedKey,
    /// A value to be set that sops does not take: a list at the top.
    #[error("a list cannot be set as a value here")]
    ListValue,
    /// A key group that has nobody in it would lock everybody out.
    #[error("{origin}: {}; a file with an empty group could not be opened", nobody(*group, *count))]
    EmptyGroup {
        /// Who names the groups.
        origin: Origin,
        /// The group, from 0.
        group: usize,
        /// How many groups there are.
        count: usize,
    },
    /// The threshold does not fit the key groups.
    #[error(
        "{origin}: a threshold of {threshold} does not fit {count} key groups: it must be at least 2 and at most {}",
        (*count).min(MOST_GROUPS)
    )]
    BadThreshold {
        /// Who names the groups.
        origin: Origin,
        /// How many groups there are.
        count: usize,
        /// The threshold.
        threshold: i64,
    },
    /// There is no such key group.
    #[error("`{}` has no key group {group}: it has {count}, counted from 0", path.display())]
    NoGroup {
        /// The file.
        path: PathBuf,
        /// The group, from 0.
        group: usize,
        /// How many there are.
        count: usize,
    },
    /// More key groups would be needed to open the file than it has.
    #[error("`{}` would have {count} key group(s), and {threshold} of them would be needed to open it", path.display())]
    Threshold {
        /// The file.
        path: PathBuf,
        /// How many groups it would have.
        count: usize,
        /// How many would be needed.
        threshold: i64,
    },
    /// The file has keys that cannot be made anew.
    #[error(
        "`{}` also has keys of the kind {kinds}; civm encrypts to age recipients only and cannot wrap the data key \
         for those", path.display()
    )]
    OtherHolders {
        /// The file.
        path: PathBuf,
        /// Their kinds.
        kinds: String,
    },
    /// Something in the file cannot be a variable of a program.
    #[error("`{}`: {error}", path.display())]
    Variable {
        /// The file.
        path: PathBuf,
        /// What, and why.
        error: VariableError,
    },
    /// A program's file cannot have this name.
    #[error("`{}` is not a relative file name without `..`", .0.display())]
    NotLocal(PathBuf),
    /// A program cannot be run.
    #[error("cannot run `{program}`: {source}")]
    Program {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The user that a program is to run as is not to be had.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The secret that is a host's identity cannot be one.
    #[error("`{}`: ssh_host_ed25519_key: {reason}", path.display())]
    HostKey {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file of the creation rules cannot be had.
    #[error("cannot read the rules `{}`: {source}", path.display())]
    NoRules {
        /// The rules' file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The creation rules make no sense.
    #[error("`{}`: {error}", path.display())]
    Rules {
        /// The rules' file.
        path: PathBuf,
        /// Why.
        error: rules::Error,
    },
    /// There are no creation rules.
    #[error("config file not found, or has no creation rules, and no keys provided: no .sops.yaml for `{}`", .0.display())]
    NoConfig(PathBuf),
    /// No creation rule is for this file.
    #[error("no creation rule of `{}` matches `{}`", config.display(), path.display())]
    NoRule {
        /// The rules' file.
        config: PathBuf,
        /// The file.
        path: PathBuf,
    },
    /// The rule for this file wants keys that civm does not make.
    #[error("the creation rule for `{}` has keys of the kind {kinds}; civm encrypts to age recipients only", path.display())]
    OtherKeys {
        /// The file.
        path: PathBuf,
        /// Their kinds.
        kinds: String,
    },
    /// The data key cannot be shared out among the groups.
    #[error("the key groups: {0}")]
    Split(sops::Error),
    /// A recipient that cannot be used.
    #[error("recipient `{}`: {error}", shown(recipient))]
    Recipient {
        /// As written.
        recipient: String,
        /// Why.
        error: RecipientError,
    },
    /// A file could not be replaced or created.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// There is nowhere to put the plaintext for the editor.
    #[error(transparent)]
    PrivateDir(#[from] PrivateDirError),
    /// The editor is missing or failed.
    #[error(transparent)]
    Editor(#[from] EditorError),
    /// The file or its directory cannot be written, which is better known before the editor opens.
    #[error("`{}` cannot be written: {source}", path.display())]
    NotWritable {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else wrote the file while it was edited.
    #[error(
        "`{}` was changed by somebody else while you edited it; it stays as it is now, and your version is saved, \
         encrypted, in `{}`", path.display(), saved.display()
    )]
    ChangedMeanwhile {
        /// The file.
        path: PathBuf,
        /// Where the edited version is.
        saved: PathBuf,
    },
    /// The editor took the file away.
    #[error("the editor removed the file that it was given; nothing was changed")]
    EditorLostFile,
    /// The editor left the text as it was.
    #[error("file has not changed, exiting")]
    Unchanged,
    /// The edited text has conflict markers.
    #[error("the text still has conflict markers")]
    Unresolved,
    /// The metadata was changed in the editor, where it is only shown.
    #[error(
        "`{}`: the sops metadata was changed in the editor; change recipients with updatekeys or rotate, and leave \
         the rest to sops", .0.display()
    )]
    MetadataEdited(PathBuf),
    /// The text is not valid and nobody is there to mend it.
    #[error("the edited text is not valid, and there is no terminal to ask whether to edit it again: {0}")]
    InvalidEdit(String),
}

fn nobody(group: usize, count: usize) -> String {
    match count {
        0 | 1 => "no recipient is named".to_owned(),
        _ => format!("key group {} of {count} has no recipient", group + 1),
    }
}

impl Error {
    /// The error for a text that a store cannot read. If the text has conflict markers, they are the reason.
    pub(super) fn of_text(path: &Path, text: &[u8], error: store::Error) -> Self {
        match conflicted(text) {
            Some(_) => Self::Unmerged(path.to_path_buf()),
            None => Self::Store { path: path.to_path_buf(), error },
        }
    }
}

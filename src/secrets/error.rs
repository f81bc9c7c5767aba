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
    /// It cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, not a file.
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
    #[error("`{}` has an unresolved merge conflict", .0.display())]
    Unmerged(PathBuf),
    /// The document is not valid, or cannot be decrypted or encrypted.
    #[error("`{}`: {error}", path.display())]
    Sops {
        /// The file.
        path: PathBuf,
        /// Why.
        error: sops::Error,
    },
    /// There is no such value in the file.
    #[error("`{}`: {key}: {error}", path.display())]
    Path {
        /// The file.
        path: PathBuf,
        /// Where the value was looked for.
        key: KeyPath,
        /// Why it is not there.
        error: PathError,
    },
    /// Comments that select what is encrypted would move.
    #[error(
        "`{}`: comments that select which values to encrypt would move when the file is written, so it could not \
         be decrypted", .0.display()
    )]
    CommentsMove(PathBuf),
    /// The file to encrypt is already encrypted.
    #[error("`{}` is already encrypted: it has a top-level `sops` entry, which is sops' metadata", .0.display())]
    AlreadyEncrypted(PathBuf),
    /// No identity opens it.
    #[error("`{}`: no available identity can decrypt it", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// What was tried.
        locked: Box<RetrievalError>,
    },
    /// A value to set that is not valid JSON.
    #[error("the value is not valid JSON: {0}")]
    NotJson(store::Error),
    /// A value to set with a duplicate key: a file with such a value could not be read.
    #[error("a mapping in the value has a duplicate key")]
    RepeatedKey,
    /// Both sides of a conflict were kept.
    #[error("the key `{0}` occurs twice in a mapping: keep one of them")]
    BothKept(String),
    /// A value to set that sops does not accept: a list at the top level.
    #[error("a list cannot be set as a value here")]
    ListValue,
    /// A key group without a recipient would lock everybody out.
    #[error("{origin}: {}; a file with an empty group could not be opened", nobody(*group, *count))]
    EmptyGroup {
        /// Where the groups are defined.
        origin: Origin,
        /// The group, from 0.
        group: usize,
        /// How many groups there are.
        count: usize,
    },
    /// The threshold does not fit the key groups.
    #[error(
        "{origin}: the threshold {threshold} is not valid for {count} key groups: it must be from 2 to {}",
        (*count).min(MOST_GROUPS)
    )]
    BadThreshold {
        /// Where the groups are defined.
        origin: Origin,
        /// How many groups there are.
        count: usize,
        /// The threshold.
        threshold: i64,
    },
    /// There is no such key group.
    #[error("`{}` has no key group {group}: it has {count} groups, numbered from 0", path.display())]
    NoGroup {
        /// The file.
        path: PathBuf,
        /// The group, from 0.
        group: usize,
        /// How many there are.
        count: usize,
    },
    /// More key groups would be needed to decrypt the file than it has.
    #[error("`{}` would have {count} key group(s), but {threshold} would be needed to decrypt it", path.display())]
    Threshold {
        /// The file.
        path: PathBuf,
        /// How many groups it would have.
        count: usize,
        /// How many would be needed.
        threshold: i64,
    },
    /// The file has keys of other kinds, for which the data key cannot be wrapped again.
    #[error(
        "`{}` also has {kinds} keys; civm encrypts only to age recipients and cannot wrap the data key \
         for those", path.display()
    )]
    OtherHolders {
        /// The file.
        path: PathBuf,
        /// Their kinds.
        kinds: String,
    },
    /// Something in the file cannot be an environment variable.
    #[error("`{}`: {error}", path.display())]
    Variable {
        /// The file.
        path: PathBuf,
        /// What, and why.
        error: VariableError,
    },
    /// The file for a program cannot have this name.
    #[error("`{}` is not a relative file name without `..`", .0.display())]
    NotLocal(PathBuf),
    /// A program cannot be run.
    #[error("cannot run `{program}`: {}", not_run(source))]
    Program {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The program cannot be run as the requested user.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The secret that should be a host's identity is not valid as one.
    #[error("`{}`: ssh_host_ed25519_key: {reason}", path.display())]
    HostKey {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The rules file cannot be read.
    #[error("cannot read the rules `{}`: {source}", path.display())]
    NoRules {
        /// The rules' file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The creation rules are not valid.
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
    /// No creation rule matches this file.
    #[error("no creation rule in `{}` matches `{}`", config.display(), path.display())]
    NoRule {
        /// The rules' file.
        config: PathBuf,
        /// The file.
        path: PathBuf,
    },
    /// The rule for this file has keys that civm cannot encrypt to.
    #[error("the creation rule for `{}` has {kinds} keys; civm encrypts only to age recipients", path.display())]
    OtherKeys {
        /// The file.
        path: PathBuf,
        /// Their kinds.
        kinds: String,
    },
    /// The data key cannot be split among the groups.
    #[error("key groups: {0}")]
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
    /// There is no private place for the editor's plaintext.
    #[error(transparent)]
    PrivateDir(#[from] PrivateDirError),
    /// The editor is missing or failed.
    #[error(transparent)]
    Editor(#[from] EditorError),
    /// The file or its directory is not writable; checked before the editor opens.
    #[error("`{}` cannot be written: {source}", path.display())]
    NotWritable {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file was changed by another process while it was being edited.
    #[error(
        "`{}` was changed by another process while you were editing it; it was left unchanged, and your version was \
         saved, encrypted, as `{}`", path.display(), saved.display()
    )]
    ChangedMeanwhile {
        /// The file.
        path: PathBuf,
        /// Where the edited version is.
        saved: PathBuf,
    },
    /// The editor removed the file.
    #[error("the editor removed the file that it was given; nothing was changed")]
    EditorLostFile,
    /// The editor did not change the text.
    #[error("file has not changed, exiting")]
    Unchanged,
    /// The edited text has conflict markers.
    #[error("the text still has conflict markers")]
    Unresolved,
    /// The metadata was changed in the editor, where it is shown read-only.
    #[error(
        "`{}`: the sops metadata was changed in the editor; change recipients with updatekeys or rotate, and leave \
         the rest to sops", .0.display()
    )]
    MetadataEdited(PathBuf),
    /// The text is not valid and there is nobody to ask to correct it.
    #[error("the edited text is not valid, and there is no terminal to ask whether to edit it again: {0}")]
    InvalidEdit(String),
}

/// The system says `entity not found`, of whatever it is.
fn not_run(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::NotFound => "there is no such command".to_owned(),
        _ => source.to_string(),
    }
}

fn nobody(group: usize, count: usize) -> String {
    match count {
        0 | 1 => "there is no recipient".to_owned(),
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

//! Why a session with a keeper ends.

use std::io;

use crate::builder::wire::Kind;
use crate::{image, instance, lifecycle};

/// Why there is no machine, or no more.
pub(super) struct Refusal {
    pub(super) kind: Kind,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Refusal {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    pub(super) fn protocol(message: impl Into<String>) -> Self {
        Self::new(Kind::Protocol, message)
    }

    /// Why a machine could not be made or started, by what kind of thing a keeper can do about it.
    pub(super) fn of(error: &lifecycle::Error) -> Self {
        let mut hint = None;
        let kind = match error {
            lifecycle::Error::Image(error) => match error {
                image::Error::MissingTools(_) => Kind::Tools,
                image::Error::Io { source, .. } => kind_of(source, Kind::Image),
                image::Error::Unreachable(_) => {
                    hint = Some(UNREACHABLE);
                    Kind::Archive
                }
                _ => Kind::Image,
            },
            lifecycle::Error::Instance(error) | lifecycle::Error::NotReady { error, .. } => match error {
                instance::Error::NoKvm(_) => Kind::Kvm,
                instance::Error::NoProgram(_) | instance::Error::NoStage { .. } => Kind::Tools,
                instance::Error::Impossible(_) => Kind::Memory,
                instance::Error::File { source, .. } => kind_of(source, Kind::Internal),
                instance::Error::NoHome | instance::Error::ForeignState { .. } => Kind::State,
                instance::Error::Ended { .. }
                | instance::Error::Guest { .. }
                | instance::Error::NotReady { .. } => Kind::Boot,
                _ => Kind::Internal,
            },
            _ => Kind::Internal,
        };
        let hint = hint.or((kind == Kind::State).then_some(UNWRITABLE)).map(str::to_owned);
        Self { kind, message: error.to_string(), hint }
    }

    /// Why a file of this user's cannot be made.
    pub(super) fn of_io(error: &io::Error, message: String) -> Self {
        let kind = kind_of(error, Kind::Internal);
        Self { kind, message, hint: (kind == Kind::State).then(|| UNWRITABLE.to_owned()) }
    }
}

/// What to do where a user cannot write.
pub(super) const UNWRITABLE: &str = "let this user write there, or set XDG_STATE_HOME and XDG_CACHE_HOME for it to \
                                     other directories (`SetEnv` in sshd_config does it)";
/// What to do where packages cannot be fetched.
const UNREACHABLE: &str = "let that machine reach the archives that its apt sources name, or name one there that it \
                           reaches";

/// The kind of a failure to write: that of a full disk passes, that of a place that is closed does not.
pub(super) fn kind_of(error: &io::Error, other: Kind) -> Kind {
    use io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    match error.kind() {
        _ if is_full(error) => Kind::Disk,
        ReadOnlyFilesystem | PermissionDenied | NotADirectory => Kind::State,
        _ => other,
    }
}

/// Whether there was no room for what was to be written, on the disk or for this user.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// How a session ends.
pub(super) enum End {
    /// The keeper asked for it, or is gone.
    Over(String),
    /// It does not work.
    Refused(Refusal),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

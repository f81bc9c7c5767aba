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
        let kind = match error {
            lifecycle::Error::Image(error) => match error {
                image::Error::MissingTools(_) => Kind::Tools,
                image::Error::Io { source, .. } if is_full(source) => Kind::Disk,
                _ => Kind::Image,
            },
            lifecycle::Error::Instance(error) | lifecycle::Error::NotReady { error, .. } => match error {
                instance::Error::NoKvm(_) => Kind::Kvm,
                instance::Error::NoProgram(_) | instance::Error::NoStage { .. } => Kind::Tools,
                instance::Error::Impossible(_) => Kind::Memory,
                instance::Error::File { source, .. } if is_full(source) => Kind::Disk,
                instance::Error::Ended { .. }
                | instance::Error::Guest { .. }
                | instance::Error::NotReady { .. } => Kind::Boot,
                _ => Kind::Internal,
            },
            _ => Kind::Internal,
        };
        Self { kind, message: error.to_string(), hint: None }
    }
}

/// Whether there was no room for what was to be written, on the disk or for this user.
pub(super) fn is_full(error: &io::Error) -> bool {
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

//! Why a builder is not there.

use serde::{Deserialize, Serialize};

use crate::builder::wire;

/// What went wrong with a builder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What kind of thing.
    pub kind: Kind,
    /// What, for people.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Reason {
    /// A reason without advice.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// Kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The remote cannot be reached, or the connection to it broke.
    Network,
    /// The remote does not let us in.
    Auth,
    /// A host key is not the one that is known.
    HostKey,
    /// civm cannot be put onto the remote or run there.
    Binary,
    /// Something that the remote itself says.
    Remote(wire::Kind),
    /// Something of this machine: a program or a file that is missing.
    Local,
    /// It was stopped on purpose.
    Stopped,
    /// It took too long.
    Late,
}

impl Kind {
    /// Whether another try may help without anybody's doing.
    #[must_use]
    pub fn passes(self) -> bool {
        use wire::Kind as Remote;
        match self {
            Self::Network | Self::Late => true,
            // A disk is not full for ever, nor an archive away.
            Self::Remote(kind) => {
                matches!(
                    kind,
                    Remote::Archive | Remote::Boot | Remote::Disk | Remote::Ended | Remote::Internal
                )
            }
            Self::Auth | Self::HostKey | Self::Binary | Self::Local | Self::Stopped => false,
        }
    }
}

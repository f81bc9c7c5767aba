//! A builder that is made on demand, on another person's machine.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Arch;

/// A builder that the keeper of builders makes for itself, and takes away again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// The name that Nix calls it by: an ssh alias.
    pub name: String,
    /// The host of this project that it is a machine of.
    pub host: String,
    /// The kind of machine that it is.
    pub arch: Arch,
    /// Where it is made.
    pub on: Remote,
    /// Name of the secret that logs in there; ssh's own keys where it is absent.
    pub on_key: Option<String>,
    /// The host key of the machine where it is made, `type base64`.
    pub on_public_key: String,
    /// The user of the builder that Nix logs in as.
    pub user: String,
    /// Name of the secret that logs in to the builder; a key that the keeper makes where it is absent.
    pub key: Option<String>,
    /// Builds at a time; from its processors and memory where it is absent.
    pub max_jobs: Option<u32>,
    /// How fast it is, compared with others.
    pub speed: u32,
    /// System features that it has; the builder is asked where they are absent.
    pub features: Option<Vec<String>>,
    /// System features that a build must ask for.
    pub mandatory_features: Vec<String>,
    /// When it is made.
    pub start: Start,
    /// What may execute it.
    pub require: Require,
    /// A builder that is started on demand stops after so long without a connection.
    pub idle: Duration,
    /// How long a connection is held while the builder is not ready yet.
    pub hold: Duration,
    /// How long the remote keeps the builder without a word from its keeper.
    pub ttl: Duration,
    /// How long builds may go on once the builder is to stop.
    pub drain: Duration,
    /// A port of the keeper's loopback that leads to the builder's sshd.
    pub port: Option<u16>,
    /// Words that go before the remote's command, such as `nix shell nixpkgs#qemu -c`.
    pub run_with: Vec<String>,
}

impl Deployed {
    /// What it builds, in Nix's words.
    #[must_use]
    pub fn system(&self) -> String {
        format!("{}-linux", self.arch)
    }
}

/// A machine that lends itself, as ssh reaches it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Remote {
    /// The user to log in as.
    pub user: String,
    /// Host name or address.
    pub host: String,
    /// Port of its sshd.
    pub port: u16,
}

impl Remote {
    /// What a person types to log in there.
    #[must_use]
    pub fn ssh(&self) -> String {
        let Self { user, host, port } = self;
        if *port == super::SSH_PORT {
            format!("ssh {user}@{host}")
        } else {
            format!("ssh -p {port} {user}@{host}")
        }
    }
}

impl std::fmt::Display for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "{}@[{}]", self.user, self.host)?,
            false => write!(f, "{}@{}", self.user, self.host)?,
        }
        if self.port == super::SSH_PORT { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// When a builder is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// When the keeper starts.
    #[default]
    Always,
    /// When somebody wants to build on it.
    OnDemand,
}

/// What may execute a builder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Require {
    /// KVM alone: an emulated builder is slower than none.
    #[default]
    Kvm,
    /// Whatever the remote has.
    Any,
}

//! Files from the net, by https alone.
//!
//! The certificates of this machine count: the file that `SSL_CERT_FILE` or `NIX_SSL_CERT_FILE` names, else the
//! system's. A proxy is taken from the usual variables.

use std::io;
use std::path::PathBuf;

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there, or the way to it does not work.
    #[error("{0}")]
    Failed(String),
    /// The server answers with something else.
    #[error("the server answers {status}")]
    Status {
        /// HTTP's number.
        status: u16,
    },
    /// It has more bytes than it may have.
    #[error("it is larger than {} MiB", most >> 20)]
    TooLarge {
        /// The most bytes.
        most: u64,
    },
    /// It ends before its length.
    #[error("it ended after {has} of {wanted} bytes")]
    Cut {
        /// Bytes that came.
        has: u64,
        /// Bytes that were announced.
        wanted: u64,
    },
    /// What comes cannot be written.
    #[error("cannot write it: {0}")]
    Write(io::Error),
    /// No certificates to check a server with.
    #[error(
        "this machine has no certificates to check a server with (looked for {}): install the package \
         ca-certificates, or name a file of them in SSL_CERT_FILE",
        list(looked)
    )]
    NoCertificates {
        /// Where they were looked for.
        looked: Vec<PathBuf>,
    },
    /// A certificate file that cannot be used.
    #[error("the certificates in {}: {reason}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// This civm was built without it.
    #[error("this civm was built without https, for the inside of guests")]
    BuiltWithout,
}

impl Error {
    /// Whether another try may go better.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Failed(_) | Self::Cut { .. } => true,
            Self::Status { status } => *status >= 500 || *status == 429,
            _ => false,
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(not(target_env = "musl"))]
mod https;
#[cfg(all(test, not(target_env = "musl")))]
#[path = "../../tests/support/https.rs"]
#[allow(unreachable_pub, reason = "tests of the whole program use it as well")]
pub(crate) mod testing;
#[cfg(not(target_env = "musl"))]
pub use https::fetch;

/// Nothing is fetched inside a guest.
///
/// # Errors
/// Always [`Error::BuiltWithout`].
#[cfg(target_env = "musl")]
pub fn fetch(
    _: &str,
    _: &mut dyn io::Write,
    _: u64,
    _: &super::environment::Environment,
    _: &mut dyn FnMut(u64, Option<u64>),
) -> Result<(), Error> {
    Err(Error::BuiltWithout)
}

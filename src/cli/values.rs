//! Parsers of values that several commands take.

use crate::host::spec::{self, Size};
use crate::vm::ports::Forward;

/// A path, here or in an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The instance, for a path in its guest.
    pub instance: Option<String>,
    /// The path.
    pub path: String,
}

/// A size, in MiB.
pub(super) fn megabytes(text: &str) -> Result<u64, String> {
    Size::parse(text).map(Size::in_mebibytes)
}

/// `INSTANCE:PATH`, or a path of this machine. As for scp, a slash before the colon makes it a path of this machine.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    match text.split_once(':') {
        Some((name, path)) if !name.is_empty() && !name.contains('/') => {
            Ok(Endpoint { instance: Some(name.to_owned()), path: path.to_owned() })
        }
        _ if text.is_empty() => Err("a path is empty".to_owned()),
        _ => Ok(Endpoint { instance: None, path: text.to_owned() }),
    }
}

/// A forward.
pub(super) fn port(text: &str) -> Result<Forward, String> {
    spec::parse_forward(text)
}

//! Parsers of values that several commands take.

use crate::host::spec::{self, Size};
use crate::vm::ports::Forward;

/// A size, in MiB.
pub(super) fn megabytes(text: &str) -> Result<u64, String> {
    Size::parse(text).map(Size::in_mebibytes)
}

/// A forward.
pub(super) fn port(text: &str) -> Result<Forward, String> {
    spec::parse_forward(text)
}

//! Bounds on what a document may cost. A stored secret file is far below all of them.

/// Before and after aliases are expanded.
pub(super) use crate::store::limits::DEPTH;

/// Bytes of one input.
pub(super) const INPUT_BYTES: usize = 256 << 20;

/// Nodes and comments that aliases may add to a file.
pub(super) const EXPANDED_NODES: usize = 1_000_000;

/// Bytes of text that aliases may add to a file.
pub(super) const EXPANDED_BYTES: usize = 64 << 20;

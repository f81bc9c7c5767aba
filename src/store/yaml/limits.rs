//! Bounds on what a document may cost. A stored secret file is far below all of them.

/// Bytes of one input.
pub(super) const INPUT_BYTES: usize = 256 << 20;

/// Collections inside collections, before and after aliases are expanded. Deep enough for any file,
/// shallow enough for every recursion over nodes and trees to stay within a thread's stack.
pub(super) const DEPTH: usize = 300;

/// Nodes that aliases may add to a file.
pub(super) const EXPANDED_NODES: usize = 4_000_000;

/// Bytes of text that aliases may add to a file.
pub(super) const EXPANDED_BYTES: usize = 64 << 20;

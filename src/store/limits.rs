//! Bounds that every store keeps to.

/// Collections inside collections. Deep enough for any file, shallow enough for every recursion over
/// trees to stay within a thread's stack.
pub(super) const DEPTH: usize = 300;

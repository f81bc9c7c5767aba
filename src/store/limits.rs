//! Limits that apply to every store.

/// Collections inside collections. Deep enough for any file, shallow enough for every recursion over
/// trees to stay within a thread's stack.
pub(super) const DEPTH: usize = 300;

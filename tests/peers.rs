//! civm beside the real tools: what one writes, the other reads, and the bytes agree.
//!
//! The tools are found in `$CIVM_PEERS` (as `devshell/test peers` sets it), else in PATH; a test whose
//! tool is missing says so and does nothing.

#![allow(unreachable_pub, missing_docs, reason = "a test binary has no users")]

mod peers {
    mod documents;
    mod edits;
    mod keys;
    mod yaml;
}
mod support;

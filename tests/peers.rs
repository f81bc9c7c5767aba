//! civm beside the real tools: what one writes, the other reads, and the bytes agree.
//!
//! The tools are found in `$CIVM_PEERS` (as `devshell/test peers` sets it), else in PATH; a test whose
//! tool is missing says so and does nothing.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::use_debug,
    reason = "a test binary has no users, and says what it skips"
)]

mod peers {
    mod age;
    mod cases;
    mod changes;
    mod documents;
    mod dotenv;
    mod edits;
    mod error_tree;
    mod everyday;
    mod fidelity;
    mod ini;
    mod json;
    mod keys;
    mod merge;
    mod own_suite;
    mod patterns;
    mod random;
    mod recipients;
    mod rules;
    mod sops_cli;
    mod texts;
    mod yaml;
}
mod support;

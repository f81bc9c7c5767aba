//! civm from the outside: arguments in; exact output, exit codes and files out.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::use_debug,
    reason = "a test binary has no users, and says what it skips"
)]

mod cli {
    mod frame;
    mod golden;
    mod keys;
    mod private_dir;
    mod project;
    mod readme;
    mod secrets;
    mod ssh_to_age;
    mod update_all;
}
mod support;

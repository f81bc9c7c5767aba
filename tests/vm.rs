//! Guests that boot for real: as an ordinary user, and once as root.
//!
//! `devshell/test vm` sets `CIVM_BINARY` to the release binary, which the guests run as well, and makes the
//! ordinary user `civm-test`. A test that finds no QEMU says so and does nothing.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::use_debug,
    reason = "a test binary has no users, and says what it skips"
)]

mod vm {
    mod aarch64;
    mod builders_faults;
    mod clock;
    mod controller;
    mod controller_faults;
    mod demo;
    mod flakes;
    mod inside;
    mod killed;
    mod lender;
    mod life;
    mod machine;
    mod microvm;
    mod packages;
    mod secrets;
    mod verbs;
    mod visitor;
    mod warm;
}
mod support;

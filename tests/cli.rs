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
    mod at_once;
    mod attributes;
    mod check;
    mod check_plaintext;
    mod deploys;
    mod doctor;
    mod exec;
    mod faults;
    mod fidelity;
    mod formats;
    mod frame;
    mod git;
    mod golden;
    mod images;
    mod install_secrets;
    mod instances;
    mod keys;
    mod keys_edit;
    mod memory;
    mod nested_rules;
    mod odd_names;
    mod pins;
    mod plugins;
    mod private_dir;
    mod project;
    mod readme;
    mod rule_files;
    mod secrets;
    mod secrets_change;
    mod sops;
    mod sops_more;
    mod ssh_to_age;
    mod texts;
    mod up;
    mod update_all;
    mod who;
}
mod support;

//! `civm secrets set` and `civm secrets unset`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::Input;

/// `civm secrets set`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Without VALUE, civm asks for it and does not show it; or it reads what is piped in, every byte of it, a final newline too:

    civm secrets set hosts/a/secrets.yaml api/token
    printf %s \"$TOKEN\" | civm secrets set hosts/a/secrets.yaml api/token
    civm secrets set hosts/a/secrets.yaml ssh_host_ed25519_key --value-file key

Everybody on this machine can see the command line while the command runs: do not write a secret there.

Missing mappings and lists on the way are created; an index past the end of a list appends to it. Only this value, the \
MAC and the time of the last change are different afterwards.")]
pub struct Set {
    /// The encrypted file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Where the value is
    #[arg(value_name = "KEYPATH", help = super::KEYPATH)]
    pub path: String,
    /// The value; do not write a secret here
    #[arg(allow_negative_numbers = true)]
    pub value: Option<String>,
    /// The value is JSON (a number, true, a list, a mapping, …) instead of a string
    #[arg(long)]
    pub json: bool,
    /// Read the value from a file, every byte of it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "value")]
    pub value_file: Option<PathBuf>,
    /// Read the value from standard input, even if that is a terminal
    #[arg(long, conflicts_with_all = ["value", "value_file"])]
    pub value_stdin: bool,
    /// Leave the file alone if it has this value already
    #[arg(long)]
    pub idempotent: bool,
    /// Continue even if the file's MAC does not match
    #[arg(long)]
    pub ignore_mac: bool,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
}

/// `civm secrets unset`.
#[derive(Args, Clone, Debug)]
pub struct Unset {
    /// The encrypted file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Where the value is
    #[arg(value_name = "KEYPATH", help = super::KEYPATH)]
    pub path: String,
    /// Do not fail if there is no such value
    #[arg(long)]
    pub idempotent: bool,
    /// Continue even if the file's MAC does not match
    #[arg(long)]
    pub ignore_mac: bool,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
}

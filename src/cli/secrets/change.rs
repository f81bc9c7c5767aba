//! `civm secrets set` and `civm secrets unset`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::Input;

/// `civm secrets set`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Without VALUE it is asked for, and does not show; or it is what is piped in, every byte of it, a final newline too:

    civm secrets set hosts/a/secrets.yaml api/token
    printf %s \"$TOKEN\" | civm secrets set hosts/a/secrets.yaml api/token
    civm secrets set hosts/a/secrets.yaml ssh_host_ed25519_key --value-file key

On the command line everybody on this machine can see VALUE while the command runs: write only there what is no secret.

Mappings and lists on the way are made where they are missing; an index behind the end of a list appends to it. Only \
this value, the MAC and the time of the last change become others.")]
pub struct Set {
    /// The encrypted file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Where the value is
    #[arg(value_name = "KEYPATH", help = super::KEYPATH)]
    pub path: String,
    /// The value; no secret should stand here
    #[arg(allow_negative_numbers = true)]
    pub value: Option<String>,
    /// The value is JSON: a number, true, a list, a mapping, …, and not a text
    #[arg(long)]
    pub json: bool,
    /// Take the value from a file, every byte of it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "value")]
    pub value_file: Option<PathBuf>,
    /// Take the value from standard input, even from a terminal
    #[arg(long, conflicts_with_all = ["value", "value_file"])]
    pub value_stdin: bool,
    /// Leave the file alone where this is its value already
    #[arg(long)]
    pub idempotent: bool,
    /// Go on although the file's MAC does not match
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
    /// Do not fail where there is no such value
    #[arg(long)]
    pub idempotent: bool,
    /// Go on although the file's MAC does not match
    #[arg(long)]
    pub ignore_mac: bool,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
}

//! `civm secrets set` and `civm secrets unset`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::Input;

/// `civm secrets set`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Without VALUE, civm reads the value from stdin if something is piped in, including a final newline; otherwise it asks for the \
value without echoing it:

    civm secrets set hosts/a/secrets.yaml api/token
    printf %s \"$TOKEN\" | civm secrets set hosts/a/secrets.yaml api/token
    civm secrets set hosts/a/secrets.yaml ssh_host_ed25519_key --value-file key

Everyone on this machine can see the command line while the command runs: do not put a secret there.

Missing mappings and lists along the path are created, also in place of a value that stands in the way; an index past the \
end of a list appends to it. Only this value, \
the MAC and the time of the last change differ afterwards.")]
pub struct Set {
    /// The encrypted file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Where the value is
    #[arg(value_name = "KEYPATH", help = super::KEYPATH)]
    pub path: String,
    /// The value; do not pass a secret this way
    #[arg(allow_negative_numbers = true)]
    pub value: Option<String>,
    /// Parse the value as JSON (a number, true, a list, a mapping, …) instead of taking it as a string
    #[arg(long)]
    pub json: bool,
    /// Read the value from a file, including any final newline
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "value")]
    pub value_file: Option<PathBuf>,
    /// Read the value from stdin, even if it is a terminal
    #[arg(long, conflicts_with_all = ["value", "value_file"])]
    pub value_stdin: bool,
    /// Do not write the file if it already has this value
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

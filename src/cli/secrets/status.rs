//! `civm secrets status`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::Input;

/// `civm secrets status`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
This needs no key. Exits with code 0 if every file is encrypted, else 1.")]
pub struct Status {
    /// The files
    #[arg(required = true, value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// Print a JSON object that lists every file
    #[arg(long)]
    pub json: bool,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
}

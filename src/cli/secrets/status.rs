//! `civm secrets status`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::Input;

/// `civm secrets status`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Needs no key. Exit code 0 if every file is encrypted, 1 if one is not.")]
pub struct Status {
    /// The files
    #[arg(required = true, value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// Print one JSON object with every file
    #[arg(long)]
    pub json: bool,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
}

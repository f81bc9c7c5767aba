//! `civm links`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// `civm links DIR`.
#[derive(Args, Clone, Debug)]
pub struct Links {
    /// Where to, best a directory in PATH; made where it does not exist
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// Also replace files that are no links to a civm
    #[arg(long)]
    pub force: bool,
}

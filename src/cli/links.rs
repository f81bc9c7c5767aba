//! `civm links`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// `civm links DIR`.
#[derive(Args, Clone, Debug)]
pub struct Links {
    /// The directory for the links, preferably one on PATH; created if it does not exist
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// Also replace files that are not links to civm
    #[arg(long)]
    pub force: bool,
}

//! `civm ls`.

use clap::Args;

/// `civm ls`.
#[derive(Args, Clone, Debug)]
pub struct Ls {
    /// Print a JSON array, for scripts
    #[arg(long)]
    pub json: bool,
}

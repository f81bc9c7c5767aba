//! Arguments of `civm doctor`.

use clap::Args;

/// `civm doctor`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Exit code: 0 if there is no problem, warnings or not; else 1.")]
pub struct Doctor {
    /// Repair what needs no root: remove leftovers, create civm's private directories, and make them private again
    #[arg(long)]
    pub fix: bool,
    /// Print a JSON object, for scripts
    #[arg(long)]
    pub json: bool,
}

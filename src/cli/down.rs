//! `civm down`.

use clap::Args;

/// `civm down HOST`.
#[derive(Args, Clone, Debug)]
pub struct Down {
    /// The host
    pub host: String,
    /// How many seconds the guest may take to power off [default: 30; a `down` already in progress keeps its own timeout]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

//! `civm down`.

use clap::Args;

/// `civm down HOST`.
#[derive(Args, Clone, Debug)]
pub struct Down {
    /// The host
    pub host: String,
    /// How many seconds the guest may take to power off: 30, or what a `down` that is under way gave it
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

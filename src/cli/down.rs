//! `civm down`.

use clap::Args;

/// `civm down HOST`.
#[derive(Args, Clone, Debug)]
pub struct Down {
    /// The host
    pub host: String,
    /// How many seconds the guest may take to power off
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u64,
}

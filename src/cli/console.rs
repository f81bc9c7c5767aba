//! `civm console`.

use clap::Args;

/// `civm console HOST`.
#[derive(Args, Clone, Debug)]
pub struct Console {
    /// The host
    pub host: String,
}

//! `civm console`.

use clap::Args;

/// `civm console INSTANCE`.
#[derive(Args, Clone, Debug)]
pub struct Console {
    /// The instance
    pub instance: String,
}

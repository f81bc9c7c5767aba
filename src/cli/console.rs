//! `civm console`.

use clap::Args;

/// `civm console INSTANCE`.
#[derive(Args, Clone, Debug)]
pub struct Console {
    /// The instance
    pub instance: String,
    /// Only show the console; nothing that you type reaches the guest
    #[arg(long)]
    pub read_only: bool,
    /// Type even if somebody else does; they can then only look on
    #[arg(long, conflicts_with = "read_only")]
    pub take: bool,
}

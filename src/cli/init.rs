//! `civm init`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// `civm init`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Who can read the project's secrets: the recipients that you name, else you, by the identities that are found where
sops looks for them or by ~/.ssh/id_ed25519.")]
pub struct Init {
    /// The project's directory, created if needed (default: --project, else here)
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// The first reader of the project's secrets, instead of you
    #[arg(short, long, value_name = "RECIPIENT")]
    pub recipient: Option<String>,
}

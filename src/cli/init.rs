//! `civm init`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// `civm init`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The project's secrets can be read by the recipient that you name. Without one, they can be read by you, with the identities \
found where sops looks for them or with ~/.ssh/id_ed25519.")]
pub struct Init {
    /// The project's directory, created if it does not exist (default: --project, else the current directory)
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// Make this recipient the first reader of the project's secrets, instead of you
    #[arg(short, long, value_name = "RECIPIENT")]
    pub recipient: Option<String>,
}

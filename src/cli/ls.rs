//! `civm ls`.

use clap::Args;

/// `civm ls`.
#[derive(Args, Clone, Debug)]
pub struct Ls {
    /// Print a JSON array, for scripts
    #[arg(long)]
    pub json: bool,
    /// List the NixOS configurations of a flake, which `civm up FLAKE#NAME` starts [default: the project's own]
    #[arg(long, value_name = "FLAKE", num_args = 0..=1, default_missing_value = ".")]
    pub flake: Option<String>,
}

//! `civm ssh`.

use std::ffi::OsString;

use clap::Args;

/// `civm ssh HOST [COMMAND]`.
#[derive(Args, Clone, Debug)]
pub struct Ssh {
    /// The host
    pub host: String,
    /// The user to log in as; civm's own key is accepted only for root
    #[arg(short, long, value_name = "USER", default_value = "root")]
    pub login: String,
    /// Allocate a terminal for the command, like `ssh -t`
    #[arg(short, long)]
    pub tty: bool,
    /// A command to run instead of a shell; put `--` before it if it begins with a hyphen
    #[arg(trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

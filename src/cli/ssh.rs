//! `civm ssh`.

use std::ffi::OsString;

use clap::Args;

/// `civm ssh HOST [COMMAND]`.
#[derive(Args, Clone, Debug)]
pub struct Ssh {
    /// The host
    pub host: String,
    /// The user to log in as; civm's own key opens root
    #[arg(short, long, value_name = "USER", default_value = "root")]
    pub login: String,
    /// A terminal for the command, as `ssh -t`
    #[arg(short, long)]
    pub tty: bool,
    /// A command to run instead of a shell; put `--` before it if it starts with a hyphen
    #[arg(trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

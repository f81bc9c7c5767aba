//! `civm remote …`: what a keeper of builders runs on another machine.

use clap::{Args, Subcommand};

/// Lend this machine to a keeper of builders on another one.
#[derive(Args, Clone, Debug)]
pub struct Remote {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What a keeper runs.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve one keeper over standard input and output, until it is gone
    Serve,
    /// Connect standard input and output to a machine that is lent, where sshd forwards no connections
    Dial {
        /// The keeper that it is lent to
        keeper: String,
        /// The builder that it is there
        builder: String,
    },
}

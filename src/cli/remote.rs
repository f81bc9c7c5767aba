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
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// Serve one keeper over standard input and output, until it is gone
    Serve,
}

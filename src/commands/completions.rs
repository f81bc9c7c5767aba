//! `civm completions SHELL`.

use clap::CommandFactory as _;

use super::Context;
use crate::cli::Cli;
use crate::outcome::Outcome;

/// Prints the completion script of a shell.
///
/// # Errors
/// Stdout cannot be written.
pub(super) fn run(shell: clap_complete::Shell, context: &Context) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "civm", &mut script);
    context.screen.data(&script)?;
    Ok(0)
}

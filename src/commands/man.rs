//! `civm man DIR`.

use std::fs;
use std::path::Path;

use clap::CommandFactory as _;

use super::Context;
use crate::cli::Cli;
use crate::outcome::{Code, Failure, Outcome};

/// Writes a page for civm and each visible command.
///
/// # Errors
/// The directory or a page cannot be written.
pub(super) fn run(dir: &Path, context: &Context) -> Outcome {
    let failed = |error: std::io::Error| {
        Failure::new(
            Code::CouldNotWriteOutput,
            format!("cannot write man pages to `{}`: {error}", dir.display()),
        )
    };
    fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
    context.screen.note(format!(
        "man pages are in `{}`; read one with `man -l {}/civm.1`",
        dir.display(),
        dir.display()
    ));
    Ok(0)
}

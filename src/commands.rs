//! One file per verb; with `cli` the only room that prints.

use std::process::ExitCode;

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}

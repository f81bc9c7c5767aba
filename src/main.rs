//! `civm`: parse arguments, run, turn the outcome into an exit code.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    civm::guest::dispatch(&args).unwrap_or_else(civm::commands::main)
}

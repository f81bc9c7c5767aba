//! `civm`: parse arguments, run, turn the outcome into an exit code.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    civm::edge::hardening::forbid_core_dumps();
    let args: Vec<OsString> = std::env::args_os().collect();
    // The same binary is a guest's PID 1 and the stage of a running machine.
    civm::guest::dispatch(&args)
        .or_else(|| civm::instance::hidden(args.into_iter().skip(1)))
        .unwrap_or_else(civm::commands::main)
}

//! `civm`: parse arguments, run, turn the outcome into an exit code.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // The same binary is a guest's PID 1 and the stage of a running machine. Both have their own way to keep
    // what they hold to themselves: a stage must stay dumpable until it has entered its user namespace.
    civm::guest::dispatch(&args)
        .or_else(|| civm::personas::dispatch(&args))
        .or_else(|| civm::instance::hidden(args.iter().skip(1).cloned()))
        .or_else(|| civm::lifecycle::hidden(args.into_iter().skip(1)))
        .unwrap_or_else(civm::commands::main)
}

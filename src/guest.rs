//! The inside of a guest: PID 1 of its initrd, the host layer, readiness.
//!
//! One binary plays every part: the kernel starts it as `/init`, systemd as `civm guest <verb>`.

use std::ffi::OsString;
use std::process::ExitCode;

/// What PID 1 of the initrd is called.
const INIT: &str = "/init";

/// Runs the guest's part that the arguments (with the program's name) ask for; `None` where they ask
/// for none of them.
#[must_use]
pub fn dispatch(args: &[OsString]) -> Option<ExitCode> {
    let args: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap_or_default()).collect();
    match args[..] {
        [INIT, ..] if std::process::id() == 1 => Some(ExitCode::FAILURE),
        [_, "guest", _verb, ..] => None,
        _ => None,
    }
}

//! `civm ssh INSTANCE [COMMAND]`.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::Context;
use super::instance::{Target, instance_failure};
use crate::cli::instance::Ssh;
use crate::outcome::Outcome;

/// Logs in, and exits as ssh does: with the command's exit code, or 255.
pub(super) fn run(args: &Ssh, context: &Context) -> Outcome {
    let target = Target::find(&args.instance, context)?;
    let login = target.login(&args.login, context)?.tty(args.tty);
    login.run(&args.command, &context.environment).map_err(instance_failure).map(code)
}

/// The exit code of a program that ended like this; that of shells where a signal ended it.
pub(super) fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

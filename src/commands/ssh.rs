//! `civm ssh HOST [-- COMMAND]`.

use std::os::unix::process::ExitStatusExt;

use super::Context;
use super::instance::{answering, instance_failure, place, running, site};
use crate::cli::ssh::Ssh;
use crate::instance::ssh::Login;
use crate::outcome::Outcome;

/// Logs in, and exits as ssh does: with the command's exit code, or 255.
pub(super) fn run(args: &Ssh, context: &Context) -> Outcome {
    let site = site(context)?;
    let place = place(&site, &args.host)?;
    let record = running(&place)?;
    answering(&record, &context.environment)?;
    if let Some(lost) = place.lost_directory() {
        context.screen.warn(lost);
    }
    let login =
        Login::new(&site.state, &place, &record, &args.login).map_err(instance_failure)?.tty(args.tty);
    let status = login.run(&args.command, &context.environment).map_err(instance_failure)?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

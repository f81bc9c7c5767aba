//! `civm exec INSTANCE -- PROGRAM ARGS`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use super::Context;
use super::instance::{Target, instance_failure};
use super::ssh::code;
use crate::cli::instance::Exec;
use crate::outcome::{Code, Failure, Outcome};

/// Runs a program in the guest. ssh joins its words with blanks and hands them to a shell there, so each is quoted.
pub(super) fn run(args: &Exec, context: &Context) -> Outcome {
    let words = args.command.iter().map(quoted).collect::<Result<Vec<_>, _>>()?;
    let target = Target::find(&args.instance, context)?;
    let login = target.login(&args.login, context)?.tty(args.tty);
    login.run(&words, &context.environment).map_err(instance_failure).map(code)
}

fn quoted(word: &OsString) -> Result<OsString, Failure> {
    shlex::bytes::try_quote(word.as_bytes()).map(|quoted| OsString::from_vec(quoted.into_owned())).map_err(
        |error| Failure::new(Code::CouldNotReadInput, format!("an argument cannot be passed on: {error}")),
    )
}

//! `civm secrets exec-env` and `civm secrets exec-file`.

use std::ffi::OsString;
use std::process::ExitStatus;

use super::failure::failure;
use crate::cli::secrets::{ExecEnv, ExecFile};
use crate::commands::Context;
use crate::edge::foreground::code;
use crate::outcome::Outcome;
use crate::secrets::Session;
use crate::secrets::exec::{self, Place, Program, Run, Shape, Variables};

pub(super) fn with_variables(args: &ExecEnv, session: &Session, context: &Context) -> Outcome {
    let (open, _) = super::open(&args.file, None, session, context)?;
    let variables = Variables::of(&open, args.nested.how()).map_err(failure)?;
    let run = Run { pristine: args.pristine, ..run(&args.command, args.user.as_ref(), session) };
    if args.same_process {
        return Err(failure(exec::become_with_variables(&run, &variables)));
    }
    exec::with_variables(&run, &variables).map(ended).map_err(failure)
}

pub(super) fn with_file(args: &ExecFile, session: &Session, context: &Context) -> Outcome {
    let (open, input) = super::open(&args.file, args.output_type, session, context)?;
    let plaintext = super::plaintext(&open, input, args.output_type.unwrap_or(input))?;
    drop(open);
    let own_name = || args.file.file_name().map(Into::into);
    let place = Place {
        shape: if args.no_fifo { Shape::Regular } else { Shape::Fifo },
        name: args.filename.clone().or_else(own_name),
    };
    let run = run(&args.command, args.user.as_ref(), session);
    let on_disk = |refused: &[_]| super::warn_on_disk(context, "while the command runs", refused);
    exec::with_file(&run, plaintext, &place, &on_disk).map(ended).map_err(failure)
}

fn run<'a>(command: &[OsString], user: Option<&String>, session: &'a Session) -> Run<'a> {
    let mut words = command.iter().cloned();
    Run {
        program: Program::Words { program: words.next().unwrap_or_default(), arguments: words.collect() },
        environment: &session.environment,
        pristine: false,
        user: user.cloned(),
        background: false,
    }
}

fn ended(status: Option<ExitStatus>) -> u8 {
    status.map_or(0, code)
}

//! `civm remote …`.

use std::io;

use super::Context;
use crate::builder::remote;
use crate::cli::remote::{Command, Remote};
use crate::outcome::{Code, Failure, Outcome};

/// Nobody but a keeper runs it: what goes wrong is told over its pipe.
pub(super) fn run(args: &Remote, context: &Context) -> Outcome {
    match &args.command {
        Command::Serve => remote::serve(&context.environment, io::stdin(), io::stdout()),
        Command::Dial { keeper, builder } => remote::dial(keeper, builder, &context.environment)
            .map_err(|message| Failure::new(Code::MachineUnavailable, message))?,
    }
    Ok(0)
}

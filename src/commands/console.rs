//! `civm console HOST`.

use std::io;

use super::Context;
use super::instance::{Target, instance_failure};
use crate::cli::console::Console;
use crate::edge::terminal::stdin_is_terminal;
use crate::instance::console::{ESCAPE_NAME, Input, Left, attach};
use crate::outcome::Outcome;

/// Connects the terminal to the serial console.
pub(super) fn run(args: &Console, context: &Context) -> Outcome {
    let record = Target::find(&args.instance, context)?.record;
    if stdin_is_terminal() {
        context.screen.note(format!(
            "console of `{}`: {ESCAPE_NAME} detaches; the machine keeps running",
            args.instance
        ));
    }
    match attach(&record, Input::Typed, &mut io::stdout()).map_err(instance_failure)? {
        Left::Escape => {
            context.screen.note(format!("\ndetached from the console; `{}` keeps running", args.instance));
        }
        Left::InputEnded => {}
        Left::Ended => context.screen.note(format!("\n`{}` has stopped", args.instance)),
        Left::Signal(signal) => return Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
    }
    Ok(0)
}

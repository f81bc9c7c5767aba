//! `civm down HOST`.

use std::time::Duration;

use super::Context;
use super::instance::{instance_failure, place, site};
use crate::cli::down::Down;
use crate::instance::stop::{self, Patience};
use crate::instance::{Error, Event};
use crate::outcome::Outcome;

/// Stops an instance. One that is not running is not an error.
pub(super) fn run(args: &Down, context: &Context) -> Outcome {
    let site = site(context)?;
    let place = place(&site, &args.host)?;
    let patience = match args.timeout {
        Some(seconds) => Patience::AtMost(Duration::from_secs(seconds)),
        None => Patience::Usual(stop::GUEST),
    };
    let screen = context.screen;
    let stopped = stop::down(&place, patience, &context.environment, &mut |event| match event {
        Event::Stopping { .. } => screen.note(format!("asking `{}` to power off", args.host)),
        Event::Insisting { how } => screen.note(how),
        _ => {}
    });
    match stopped {
        Ok(stopped) => {
            for line in &stopped.cleaned {
                screen.note(line);
            }
            screen.note(match stopped.reason {
                Some(how) => format!("`{}` is down: {how}", args.host),
                None => format!("`{}` was no longer running", args.host),
            });
        }
        Err(Error::NotRunning(_)) => screen.note(format!("`{}` is not running", args.host)),
        Err(error) => return Err(instance_failure(error)),
    }
    Ok(0)
}

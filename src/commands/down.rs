//! `civm down HOST`.

use std::time::Duration;

use super::Context;
use super::instance::{Site, failure};
use crate::cli::down::Down;
use crate::instance::{Error, Event, stop};
use crate::outcome::Outcome;

/// Stops an instance; one that is not running is what was wanted.
pub(super) fn run(args: &Down, context: &Context) -> Outcome {
    let site = Site::find(context)?;
    let place = site.place(&args.host)?;
    let patience = Duration::from_secs(args.timeout);
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
            let how = stopped.reason.unwrap_or_else(|| "it was dead already".to_owned());
            screen.note(format!("`{}` is down: {how}", args.host));
        }
        Err(Error::NotRunning(_)) => screen.note(format!("`{}` is not running", args.host)),
        Err(error) => return Err(failure(error)),
    }
    Ok(0)
}

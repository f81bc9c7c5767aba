//! `civm wait INSTANCE`.

use std::thread;
use std::time::{Duration, Instant};

use super::Context;
use super::instance::{Target, instance_failure, place, site};
use crate::cli::instance::{Awaited, Wait};
use crate::instance::state::Phase;
use crate::instance::{Error, Place};
use crate::outcome::{Code, Failure, Outcome};

/// How often the instance's record is looked at.
const POLL: Duration = Duration::from_millis(100);
/// How long one try to log in may take.
const LOGIN: Duration = Duration::from_secs(15);

/// Returns once what is waited for is there; fails where it can no longer come.
pub(super) fn run(args: &Wait, context: &Context) -> Outcome {
    let site = site(context)?;
    let place = place(&site, &args.instance)?;
    // A time that no clock reaches is for ever.
    let until = args.timeout.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    loop {
        if is_there(args, &place, context)? {
            return Ok(0);
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            let seconds = args.timeout.unwrap_or_default();
            let phase =
                place.record().map_or_else(|| "not running".to_owned(), |record| record.phase.to_string());
            return Err(Failure::new(
                Code::MachineUnavailable,
                format!("`{}` after {seconds} s: still {phase}", args.instance),
            ));
        }
        thread::sleep(POLL);
    }
}

fn is_there(args: &Wait, place: &Place, context: &Context) -> Result<bool, Failure> {
    let running = place.running().map_err(instance_failure)?;
    let Some(record) = running else {
        return match args.what {
            Awaited::Ended => Ok(true),
            // One that is just being started has its lock before it has a record.
            Awaited::Ready | Awaited::Ssh if place.is_alive() => Ok(false),
            Awaited::Ready | Awaited::Ssh => Err(instance_failure(Error::NotRunning(place.name.clone()))),
        };
    };
    if record.phase == Phase::Panicked && args.what != Awaited::Ended {
        let reason = record.reason.unwrap_or_else(|| "its kernel panicked".to_owned());
        return Err(instance_failure(Error::NoAnswer {
            host: record.name,
            reason: format!("stands still: {reason}"),
        }));
    }
    Ok(match args.what {
        Awaited::Ended => false,
        Awaited::Ready => record.phase == Phase::Ready,
        Awaited::Ssh => {
            let login =
                Target::find(&args.instance, context)?.known_login("root").map_err(instance_failure)?;
            login.check(LOGIN, &context.environment).is_ok()
        }
    })
}

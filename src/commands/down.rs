//! `civm down INSTANCE…`.

use std::thread;
use std::time::Duration;

use super::Context;
use super::instance::{instance_failure, place, site};
use crate::cli::instance::Down;
use crate::instance::stop::{self, Patience};
use crate::instance::{Error, Event, Place};
use crate::outcome::{Code, Failure, Outcome};

/// Stops instances, all at the same time. One that is not running is not an error.
pub(super) fn run(args: &Down, context: &Context) -> Outcome {
    let site = site(context)?;
    let places = if args.all {
        let running = site.home.running().into_iter().filter(|record| record.project == site.project.root());
        running.map(|record| site.state.place(&record.name).map_err(instance_failure)).collect()
    } else {
        args.instances.iter().map(|name| place(&site, name)).collect::<Result<Vec<_>, _>>()
    }?;
    if args.all && places.is_empty() {
        context.screen.note("no instance of this project is running");
    }
    let patience = match args.timeout {
        Some(seconds) => Patience::AtMost(Duration::from_secs(seconds)),
        None => Patience::Usual(stop::GUEST),
    };
    let failures: Vec<Failure> = thread::scope(|scope| {
        let threads: Vec<_> =
            places.iter().map(|place| scope.spawn(move || down(place, patience, context))).collect();
        let ended = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(Failure::new(Code::Generic, "civm panicked")))
        });
        ended.filter_map(Result::err).collect()
    });
    let count = failures.len();
    let mut failures = failures.into_iter();
    match (failures.next(), count) {
        (None, _) => Ok(0),
        (Some(failure), 1) => Err(failure),
        (Some(first), _) => {
            let code = first.code;
            for failure in [first].iter().chain(failures.as_slice()) {
                context.screen.failure(failure);
            }
            Err(Failure::new(code, format!("{count} of {} instances were not stopped", places.len())))
        }
    }
}

fn down(place: &Place, patience: Patience, context: &Context) -> Result<(), Failure> {
    let (screen, name) = (context.screen, &place.name);
    let stopped = stop::down(place, patience, &context.environment, &mut |event| match event {
        Event::Stopping { .. } => screen.note(format!("asking `{name}` to power off")),
        Event::Insisting { how } => screen.note(how),
        _ => {}
    });
    match stopped {
        Ok(stopped) => {
            for line in &stopped.cleaned {
                screen.note(line);
            }
            screen.note(match stopped.reason {
                Some(how) => format!("`{name}` is down: {how}"),
                None => format!("`{name}` was no longer running"),
            });
        }
        Err(Error::NotRunning(_)) => screen.note(format!("`{name}` is not running")),
        Err(error) => return Err(instance_failure(error)),
    }
    Ok(())
}

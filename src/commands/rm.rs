//! `civm rm INSTANCE…`.

use super::Context;
use super::instance::{failure, instance_failure, place, site};
use crate::cli::instance::Rm;
use crate::edge::terminal::{self, Prompt as _, Terminal};
use crate::instance::stop::{self, Patience};
use crate::instance::{Error, Place};
use crate::lifecycle::{self, Site};
use crate::outcome::{Code, Failure, Outcome};

/// Removes instances, after showing what goes with each.
pub(super) fn run(args: &Rm, context: &Context) -> Outcome {
    let site = site(context)?;
    // A wrong name is said before anything is removed.
    let places: Vec<Place> =
        args.instances.iter().map(|name| place(&site, name)).collect::<Result<_, _>>()?;
    for place in &places {
        remove(place, &site, args, context)?;
    }
    Ok(0)
}

fn remove(place: &Place, site: &Site, args: &Rm, context: &Context) -> Result<(), Failure> {
    let name = place.name.as_str();
    if place.running().map_err(instance_failure)?.is_some() && !args.force {
        return Err(
            instance_failure(Error::Running(name.to_owned())).help("or use --force, which stops it first")
        );
    }
    let remains = lifecycle::remains(site, place);
    if remains.is_empty() {
        context.screen.note(format!("there is nothing of `{name}` to remove"));
        return Ok(());
    }
    if !args.yes {
        confirm(name, &remains, context)?;
    }
    if args.force {
        stop(place, context)?;
    }
    let removed = lifecycle::remove(site, place).map_err(failure)?;
    if removed.is_empty() {
        context.screen.note(format!("another civm has removed `{name}` meanwhile"));
    }
    for path in removed {
        context.screen.note(format!("removed {}", path.display()));
    }
    Ok(())
}

fn confirm(name: &str, remains: &[std::path::PathBuf], context: &Context) -> Result<(), Failure> {
    for path in remains {
        context.screen.note(path.display().to_string());
    }
    let refused = |message: String| Failure::new(Code::Generic, message);
    if !terminal::can_ask() || !terminal::stdin_is_terminal() {
        return Err(refused(format!("`{name}` was not removed: nobody can be asked here")).help("use --yes"));
    }
    match Terminal.confirm(&format!("Remove these, and all that is on the disk of {name}?"), false) {
        Ok(true) => Ok(()),
        _ => Err(refused(format!("`{name}` was not removed"))),
    }
}

fn stop(place: &Place, context: &Context) -> Result<(), Failure> {
    match stop::down(place, Patience::Usual(stop::GUEST), &context.environment, &mut |_| {}) {
        Ok(_) | Err(Error::NotRunning(_)) => Ok(()),
        Err(error) => Err(instance_failure(error)),
    }
}

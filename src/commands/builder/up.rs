//! `civm builder up`.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::project_builders::{chosen, keep};
use super::{Home, reason_failure};
use crate::builder::keeper::client;
use crate::builder::keeper::reason::{Kind, Reason};
use crate::builder::keeper::socket::{Request, View};
use crate::cli::builder::Up;
use crate::commands::Context;
use crate::edge::atomic;
use crate::outcome::{Code, Failure, Outcome};

/// How often a keeper is started that has just ended.
const TRIES: u32 = 5;
/// How often the keeper is asked.
const POLL: Duration = Duration::from_millis(150);

/// Makes builders, and waits for them.
pub(super) fn run(args: &Up, home: &Home, context: &Context) -> Outcome {
    let names = args.chosen.names();
    let (names, left_out) = raise(&names, args.of.as_deref(), home, context)?;
    let failed = wait(&names, home, context, &|| false)?;
    if let Some(path) = &args.machines_file {
        machines(path, home, context)?;
    }
    let mut failed = failed.into_iter();
    match failed.next() {
        // What was left out is told already.
        None => Ok(left_out.map_or(0, |code| code as u8)),
        Some((name, reason)) => {
            for (name, reason) in failed {
                context.screen.warn(format!("`{name}`: {reason}"));
            }
            let reason = Reason { message: format!("`{name}`: {}", reason.message), ..reason };
            Err(reason_failure(reason))
        }
    }
}

/// Tells the keeper that builders are wanted. The names of them all, and the exit code of what was left out.
pub(super) fn raise(
    names: &[String],
    of: Option<&str>,
    home: &Home,
    context: &Context,
) -> Result<(Vec<String>, Option<Code>), Failure> {
    let mut wanted = names.to_vec();
    let (mut packings, mut left_out) = (Vec::new(), None);
    if let Home::Project(..) = home {
        (packings, left_out) = chosen(names, of, true, context)?;
        wanted = packings.iter().map(|packing| packing.packed.parcel.builder.name.clone()).collect();
    }
    let request = Request::Up { builders: wanted.clone() };
    for left in (0..TRIES).rev() {
        keep(home, &packings, context)?;
        match client::done(&home.socket(), &request) {
            Ok(()) => break,
            // One that nobody wanted any more was just about to end.
            Err(client::Error::None | client::Error::Silent(_)) if left > 0 && !packings.is_empty() => {
                thread::sleep(POLL);
            }
            // It may just have removed what one that had ended was made of.
            Err(client::Error::Refused(_)) if left == TRIES - 1 && !packings.is_empty() => {}
            Err(error) => return Err(home.failure(error)),
        }
    }
    if wanted.is_empty() {
        wanted = home.list()?.into_iter().map(|view| view.name).collect();
    }
    Ok((wanted, left_out))
}

/// Waits until each is ready or has failed, unless `give_up` says otherwise; those that have failed, and why.
pub(super) fn wait(
    names: &[String],
    home: &Home,
    context: &Context,
    give_up: &dyn Fn() -> bool,
) -> Result<Vec<(String, Reason)>, Failure> {
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let views = home.list()?;
        let views: Vec<&View> = views.iter().filter(|view| names.contains(&view.name)).collect();
        if let Some(gone) = names.iter().find(|name| views.iter().all(|view| view.name != **name)) {
            let message = format!("`{gone}` is not there any more: its keeper was told of other builders");
            return Err(Failure::new(Code::MachineUnavailable, message));
        }
        if give_up() {
            return Err(Failure::new(Code::Generic, "interrupted"));
        }
        for view in &views {
            let line = progress(view);
            if shown.get(&view.name) != Some(&line) {
                context.screen.note(format!("{}: {line}", view.name));
                shown.insert(view.name.clone(), line);
            }
        }
        if views.iter().all(|view| is_settled(view)) {
            for warning in views.iter().flat_map(|view| view.warnings.iter().map(|text| (&view.name, text))) {
                context.screen.warn(format!("`{}`: {}", warning.0, warning.1));
            }
            return Ok(views.into_iter().filter_map(broken).collect());
        }
        thread::sleep(POLL);
    }
}

fn is_settled(view: &View) -> bool {
    view.state == "ready" || broken(view).is_some()
}

fn broken(view: &View) -> Option<(String, Reason)> {
    let stopped = || Reason::new(Kind::Stopped, "it was stopped by somebody else");
    match view.state.as_str() {
        "failed" => Some((view.name.clone(), view.reason.clone().unwrap_or_else(stopped))),
        "ready" => None,
        _ if !view.wanted => Some((view.name.clone(), stopped())),
        _ => None,
    }
}

fn progress(view: &View) -> String {
    match (&view.reason, view.state.as_str()) {
        (Some(reason), "waiting") => {
            let hint =
                reason.hint.as_ref().map(|hint| format!("\n  help: {}", hint.replace('\n', "\n  help: ")));
            format!("{reason}; it is tried again{}", hint.unwrap_or_default())
        }
        (_, "ready") => {
            let accel = view.accel.as_ref().map(|accel| format!(", {accel}")).unwrap_or_default();
            format!("ready on {}{accel}", view.on)
        }
        (_, "failed") => "failed".to_owned(),
        _ if view.doing.is_empty() => view.state.clone(),
        _ => view.doing.clone(),
    }
}

/// Writes nix's list of builders where it is wanted, and says what goes with it.
fn machines(path: &Path, home: &Home, context: &Context) -> Result<(), Failure> {
    let own = home.place().machines();
    let text = std::fs::read(&own).map_err(|error| {
        Failure::new(Code::CouldNotReadInput, format!("cannot read {}: {error}", own.display()))
    })?;
    atomic::replace(path, &text, 0o644)
        .map_err(|error| Failure::new(Code::CouldNotWriteOutput, error.to_string()))?;
    let config = home.place().ssh_config();
    context.screen.note(format!(
        "to build with it:\n  export NIX_SSHOPTS='-F {}'\n  nix build --builders @{} --max-jobs 0 …",
        config.display(),
        path.display()
    ));
    Ok(())
}

//! `civm builder run`: the keeper itself.

use std::path::PathBuf;

use super::project_builders::{chosen, write};
use super::{Home, own_path, parcels_of_controller};
use crate::builder::keeper::socket::Line;
use crate::builder::keeper::{self, Options};
use crate::builder::place::Held;
use crate::builder::wire::Owner;
use crate::cli::builder::Run;
use crate::commands::Context;
use crate::edge::hex;
use crate::outcome::{Code, Failure, Outcome};
use rand::RngCore as _;

/// Runs until SIGTERM, and leaves nothing of any builder.
pub(super) fn run(args: &Run, home: &Home, context: &Context) -> Outcome {
    let failed = |message: String| Failure::new(Code::Generic, message);
    let environment = &context.environment;
    let held = match home {
        Home::Given(place) | Home::Controller(place) => Held::of_system(&place.dir),
        Home::Project(root, _) => Held::of_project(root, environment),
    };
    let held = held.map_err(failed)?.ok_or_else(|| {
        Failure::new(Code::MachineUnavailable, "a keeper of these builders runs already")
            .help("`civm builder ls` asks it")
    })?;
    let parcels = match (&args.parcels, home) {
        (Some(dir), _) => dir.clone(),
        (None, Home::Controller(_)) => parcels_of_controller(),
        (None, Home::Given(_) | Home::Project(..)) => held.place.parcels(),
    };
    if let (Home::Project(..), false, None) = (home, args.background, &args.parcels) {
        for packing in chosen(&[], None, true, context)?.0 {
            write(&parcels, &packing).map_err(failed)?;
        }
    }
    let project = match home {
        Home::Project(root, _) => root.display().to_string(),
        Home::Given(_) | Home::Controller(_) => hostname(),
    };
    let mut id = [0; 8];
    rand::rngs::OsRng.fill_bytes(&mut id);
    let owner = Owner { keeper: hex::encode(&id), host: hostname(), project, builder: String::new() };
    let options = Options {
        held,
        parcels,
        enable_all: !args.background,
        exit_when_idle: args.background,
        owner,
        civm: own_path().unwrap_or_else(|_| PathBuf::from("civm")),
        environment: environment.clone(),
    };
    let screen = context.screen;
    let mut tell = |line: &Line| {
        let whose = if line.builder.is_empty() { String::new() } else { format!("{}: ", line.builder) };
        screen.note(format!("{whose}{}", line.text));
    };
    keeper::run(options, &mut tell).map_err(failed)?;
    Ok(0)
}

fn hostname() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

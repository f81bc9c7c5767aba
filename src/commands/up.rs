//! `civm up` and `civm restart`.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::Context;
use super::instance::{failure, instance_failure, site, site_for_flake};
use crate::cli::up::{Accel, Restart, Up, Warm};
use crate::edge::terminal;
use crate::host::project;
use crate::image::nixos::Reference;
use crate::instance::accel::AccelRequest;
use crate::instance::console::{self, Input, Left};
use crate::instance::{Place, Running, stop};
use crate::lifecycle::{self, Plan, Request, Site};
use crate::outcome::{Code, Failure, Outcome};

mod plan;
mod progress;

pub(super) use progress::Watch;

/// Brings an instance up, and stays with it unless it is to run on its own.
pub(super) fn run(args: &Up, context: &Context) -> Outcome {
    let request = request(args)?;
    let site = if request.flake.is_some() { site_for_flake(context) } else { site(context) }?;
    let plan = Plan::of(&site, request).map_err(failure)?;
    if args.print_command || args.dry_run {
        let print = if args.print_command { plan::print_command } else { plan::print };
        let printed = print(&plan, &site, context);
        plan.leave_nothing();
        return printed;
    }
    let (place, login) = (plan.place.clone(), plan.spec.console_login);
    let mut watch = Watch::new(context.screen, &place.name);
    let up = lifecycle::up(&site, plan, &mut watch);
    watch.finish();
    match up.map_err(failure)? {
        lifecycle::Up::WasRunning { drift } => {
            let name = &place.name;
            context.screen.note(format!("{name} is already running; `civm ssh {name}` logs in"));
            if drift.apply {
                context
                    .screen
                    .note(format!("its files have changed since: `civm apply {name}` brings them in"));
            }
            for what in drift.restart_for {
                context
                    .screen
                    .note(format!("changed since it was started, `civm restart {name}` brings it: {what}"));
            }
            for what in drift.not_taken {
                context
                    .screen
                    .note(format!("not changed, since it is running: {what}; `civm down {name}` first"));
            }
            Ok(0)
        }
        lifecycle::Up::Started(running) if args.detach => {
            running.detach().map_err(instance_failure)?;
            Ok(0)
        }
        lifecycle::Up::Started(running) => foreground(running, &site, &place, login, context),
    }
}

/// Stops an instance and starts it again, on its own.
pub(super) fn restart(args: &Restart, context: &Context) -> Outcome {
    let site = site(context)?;
    let mut watch = Watch::new(context.screen, &args.instance);
    let up = lifecycle::restart(&site, &args.instance, args.timeout.map(Duration::from_secs), &mut watch);
    watch.finish();
    if let lifecycle::Up::Started(running) = up.map_err(failure)? {
        running.detach().map_err(instance_failure)?;
    }
    Ok(0)
}

fn request(args: &Up) -> Result<Request, Failure> {
    let (host, flake) = match (&args.flake, &args.host) {
        (None, Some(host)) if !host.contains('#') => (host.clone(), None),
        (None, None) => return Err(Failure::new(Code::CouldNotReadInput, "no host is named")),
        (Some(text), _) | (None, Some(text)) => {
            let reference = reference(text)?;
            (reference.configuration.clone(), Some(reference))
        }
    };
    Ok(Request {
        host,
        flake,
        name: args.name.clone(),
        cpus: args.resources.cpus,
        memory_mib: args.resources.memory,
        disk_mib: args.resources.disk,
        forwards: args.ports.clone(),
        ephemeral: args.ephemeral,
        fresh: args.fresh,
        without_secrets: args.without_secrets,
        accel: args.accel.into(),
        warm: match args.warm {
            _ if args.cold => lifecycle::Warm::Never,
            Warm::Auto => lifecycle::Warm::Auto,
            Warm::Require => lifecycle::Warm::Require,
        },
        qemu_as_root: args.qemu_as_root,
        qemu_arguments: args.qemu_arguments.clone(),
        ready_within: args.timeout.map(Duration::from_secs),
    })
}

/// `FLAKE#NAME`. A directory that is named by its path is meant wherever a later command is run.
fn reference(text: &str) -> Result<Reference, Failure> {
    let wrong = |message: String| {
        Failure::new(Code::CouldNotReadInput, message)
            .help("`civm ls --flake` lists a flake's configurations")
    };
    let (flake, name) = text.split_once('#').filter(|(_, name)| !name.is_empty()).ok_or_else(|| {
        wrong(format!("`{text}` names no configuration: write FLAKE#NAME, such as .#builder"))
    })?;
    if !project::is_name(name) {
        return Err(wrong(format!(
            "`{name}` is not a name that civm can give a machine: lower-case letters, digits and inner hyphens"
        )));
    }
    Ok(Reference { flake: directory(flake), configuration: name.to_owned() })
}

/// A flake's reference with the path of a directory made absolute.
pub(super) fn directory(flake: &str) -> String {
    let path = Path::new(if flake.is_empty() { "." } else { flake });
    let is_path = flake.is_empty() || flake.starts_with(['.', '/']);
    let found = path.canonicalize().ok().filter(|_| is_path);
    found.map_or_else(|| flake.to_owned(), |path| path.to_string_lossy().into_owned())
}

impl From<Accel> for AccelRequest {
    fn from(accel: Accel) -> Self {
        match accel {
            Accel::Auto => Self::Auto,
            Accel::Kvm => Self::Kvm,
            Accel::Tcg => Self::Tcg,
        }
    }
}

/// Shows the console until the user detaches or the machine stops. A machine in the foreground is stopped with it.
fn foreground(running: Running, site: &Site, place: &Place, login: bool, context: &Context) -> Outcome {
    if terminal::stdin_is_terminal() {
        let what = if login { "a root shell on the console" } else { "the console" };
        context.screen.note(format!("{what}; {} detaches and stops the machine", console::ESCAPE_NAME));
    }
    let left = match place.running().map_err(instance_failure)? {
        Some(record) => {
            console::attach(&record, Input::Ignored, &mut io::stdout()).map_err(instance_failure)?
        }
        None => Left::Ended,
    };
    if left != Left::Ended {
        context.screen.note(format!("\nstopping {}", place.name));
        stop::down(place, stop::Patience::Usual(stop::GUEST), &site.environment, &mut |_| {})
            .map_err(instance_failure)?;
    }
    let (reason, wanted) = running.wait_end(&mut |_| {});
    let words = format!("{}: {reason}", place.name);
    match left {
        Left::Ended if !wanted => Err(Failure::new(Code::MachineUnavailable, words)),
        Left::Signal(signal) => {
            context.screen.note(words);
            Ok(u8::try_from(128 + signal).unwrap_or(Code::Generic as u8))
        }
        _ => {
            context.screen.note(words);
            Ok(0)
        }
    }
}

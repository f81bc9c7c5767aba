//! Shared by the commands on instances: finding a host's instance, and failures with advice.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::{Context, project, secrets};
use crate::edge::environment::Environment;
use crate::edge::terminal::Terminal;
use crate::host::Project;
use crate::image;
use crate::instance::event::Health;
use crate::instance::ssh::Login;
use crate::instance::{Error, Home, Place, Record, stop};
use crate::lifecycle::{self, Site};
use crate::outcome::{Code, Failure};
use crate::vm::spec;

/// The project that a command works on, and this user's state for it.
pub(super) fn site(context: &Context) -> Result<Site, Failure> {
    site_of(project::find(context).or_else(|failure| bare(context, failure, started_here))?, context)
}

/// The same for a machine of a flake, which needs no project of its own here.
pub(super) fn site_for_flake(context: &Context) -> Result<Site, Failure> {
    site_of(project::find(context).or_else(|failure| bare(context, failure, |_, _| true))?, context)
}

fn site_of(project: Project, context: &Context) -> Result<Site, Failure> {
    Site::of(project, &context.environment, Arc::new(Terminal)).map_err(failure)
}

/// This directory in the place of a project, where that `suits`.
fn bare(
    context: &Context,
    failure: Failure,
    suits: fn(&Project, &Environment) -> bool,
) -> Result<Project, Failure> {
    let here = Project::bare(Path::new(".")).ok().filter(|_| context.project.is_none());
    here.filter(|here| suits(here, &context.environment)).ok_or(failure)
}

fn started_here(here: &Project, environment: &Environment) -> bool {
    Home::existing(environment).is_some_and(|home| home.knows(here.root()))
}

/// The place of an instance that exists, or of a host that is defined.
pub(super) fn place(site: &Site, name: &str) -> Result<Place, Failure> {
    site.place(name).map_err(failure)
}

/// An instance that runs and answers.
pub(super) struct Target {
    site: Site,
    pub(super) place: Place,
    pub(super) record: Record,
}

impl Target {
    /// The one of this name.
    pub(super) fn find(name: &str, context: &Context) -> Result<Self, Failure> {
        let site = site(context)?;
        let place = place(&site, name)?;
        let record = running(&place)?;
        Ok(Self { site, place, record })
    }

    /// How one logs in, once it is known that somebody is there to answer.
    pub(super) fn login(&self, user: &str, context: &Context) -> Result<Login, Failure> {
        answering(&self.record, &context.environment)?;
        if let Some(lost) = self.place.lost_directory() {
            context.screen.warn(lost);
        }
        self.known_login(user).map_err(instance_failure)
    }

    /// How one logs in.
    pub(super) fn known_login(&self, user: &str) -> Result<Login, Error> {
        Login::new(&self.site.state, &self.place, &self.record, user)
    }
}

/// The record of an instance that has to be running.
pub(super) fn running(place: &Place) -> Result<Record, Failure> {
    let running = place.running().map_err(instance_failure)?;
    running.ok_or_else(|| {
        let mut failure = instance_failure(Error::NotRunning(place.name.clone()));
        if let Some(reason) = place.record().and_then(|record| record.reason) {
            failure.message.push_str(&format!("; its last run ended: {reason}"));
        }
        failure
    })
}

/// Fails, with the reason, if the machine cannot respond.
fn answering(record: &Record, environment: &Environment) -> Result<(), Failure> {
    let reason = match stop::health(record, environment) {
        Health::Running => return Ok(()),
        Health::Paused => "is paused".to_owned(),
        Health::Frozen => "is frozen: QEMU or its supervisor does not respond".to_owned(),
        Health::Panicked => match &record.reason {
            Some(reason) => format!("is no longer running: {reason}"),
            None => "is no longer running: its kernel panicked".to_owned(),
        },
    };
    Err(instance_failure(Error::NoAnswer { host: record.name.clone(), reason }))
}

/// A failure to bring an instance up, with advice.
pub(super) fn failure(error: lifecycle::Error) -> Failure {
    use lifecycle::Error as Life;
    let message = error.to_string();
    let unavailable = |message| Failure::new(Code::MachineUnavailable, message);
    match error {
        Life::Instance(error) => instance_failure(error),
        Life::NotReady { error, logs } => instance_failure(error)
            .help(format!("the logs are in `{}`; the machine has been stopped", logs.display())),
        Life::Image(error) => image_failure(&error),
        Life::Host(error) => project::failure(error),
        Life::Secrets(error) => {
            let locked = matches!(*error, crate::secrets::Error::Locked { .. });
            let failure = secrets::failure(*error);
            if locked { failure.help("or boot without secrets, with --without-secrets") } else { failure }
        }
        Life::Artifact { .. } => unavailable(message),
        Life::NotWarm(_) => unavailable(message).help("`civm image warm HOST` makes the template of a host's machines"),
        Life::NoCache => Failure::new(Code::Generic, message).help("set XDG_CACHE_HOME to another directory"),
        Life::NameOfHost(_) => Failure::new(Code::CouldNotReadInput, message).help("choose another `--name`"),
        Life::OtherHost { name, .. } => Failure::new(Code::CouldNotReadInput, message)
            .help(format!("choose another `--name`, or remove it with `civm rm {name}`")),
        Life::Resources(_) | Life::Source(_) => Failure::new(Code::CouldNotReadInput, message),
        Life::Accounts { .. } => Failure::new(Code::CouldNotReadInput, message)
            .help("correct the name, or add a package that provides it to `packages`, or the user to `users`"),
        Life::TrackedLink(_) => unavailable(message)
            .help("if the link is yours, untrack it with `git rm --cached`; otherwise remove it"),
        Life::OtherDisk { .. } => unavailable(message).help(
            "move it away, or start with a new disk with `--fresh`: what is on the old one is lost then",
        ),
        Life::Damaged { remedy, .. } => unavailable(message).help(remedy),
        Life::Newer { path, .. } => unavailable(message).help(format!(
            "nothing was changed; use the version of civm that wrote it, or remove {} once its machine has stopped",
            path.display()
        )),
        Life::Busy(_) => unavailable(message).help("try again when that is done"),
        Life::Declined(_) => Failure::new(Code::CouldNotRetrieveKey, message),
        Life::Apply { name, .. } => unavailable(message)
            .help(format!("`civm restart {name}` brings everything in line, with an interruption")),
        Life::Refused { .. } => Failure::new(Code::Generic, message),
        Life::NoArch => unavailable(message),
        Life::NoBuilder { .. } => Failure::new(Code::Generic, message)
            .help("a builder is deployed by a host's `nix.builders.NAME` with `deploy:`, `on:` and `on_public_key:`"),
        Life::BuilderTwice { .. } => Failure::new(Code::Generic, message).help("name the host with `--of HOST`"),
        Life::Layer(_) => Failure::new(Code::Generic, message),
        Life::File { .. } => Failure::new(Code::CouldNotWriteOutput, message),
    }
}

/// A failure to find or build an image, with advice.
pub(super) fn image_failure(error: &image::Error) -> Failure {
    let help = match error {
        image::Error::MissingTools(missing) => {
            let packages: Vec<&str> = missing.iter().map(|one| one.package).collect();
            Some(format!("sudo apt-get install {}", packages.join(" ")))
        }
        image::Error::NoNix => {
            Some("install it, or use a host with `image: debian`, which needs no Nix".to_owned())
        }
        image::Error::InUse { .. } => Some("stop its machines first: `civm ls` lists them".to_owned()),
        image::Error::NoPackages { .. } => Some("correct `packages` in host.yaml".to_owned()),
        _ => None,
    };
    help.into_iter().fold(Failure::new(Code::MachineUnavailable, error.to_string()), Failure::help)
}

/// A failure of the instance room: mostly the machine never ran, or never became ready.
pub(super) fn instance_failure(error: Error) -> Failure {
    let failure = Failure::new(code(&error), error.to_string());
    match error {
        Error::File { source, .. } if source.kind() != ErrorKind::NotFound => {
            failure.help("`civm doctor` looks at the directories that civm writes")
        }
        Error::ForeignState { .. } => failure.help(
            "run civm as that user, or set XDG_STATE_HOME to a directory of your own (with sudo, `sudo -H` has root's)",
        ),
        Error::NoProgram(name) => failure
            .help(format!("install the package that provides `{name}` (devshell/setup installs everything that is needed)")),
        Error::NoStage { .. } => failure.help(
            "allow unprivileged user namespaces, or log in so that $XDG_RUNTIME_DIR is a tmpfs that you own",
        ),
        Error::Port { .. } => failure.help("stop the process that uses it, or forward another port in host.yaml"),
        Error::PortRefused { port, .. } if port < 1024 => {
            failure.help("ports below 1024 require root: use a higher one in host.yaml")
        }
        Error::DiskInUse { .. } => failure.help("only one machine can use a disk at a time: stop the other one first"),
        Error::NoKvm(_) => failure.help("`--accel auto` falls back to TCG, which is slower"),
        Error::NotReady { .. } => {
            failure.help("on a slow machine, set CIVM_TIMEOUT_SCALE=3 to extend every timeout")
        }
        Error::Running(name) | Error::Unfinished { name, .. } => failure.help(format!("`civm down {name}` stops it")),
        Error::NotRunning(host) => failure.help(format!("`civm up {host}` starts it")),
        Error::NoAnswer { host, .. } => {
            failure.help(format!("`civm console {host}` shows its console, `civm down {host}` stops it"))
        }
        Error::Record { path, .. } => failure.help(format!(
            "nothing was changed; use the version of civm that wrote it, or remove {} once its machine has stopped",
            path.display()
        )),
        _ => failure,
    }
}

fn code(error: &Error) -> Code {
    match error {
        Error::Spec(spec::Error::Name(_)) => Code::CouldNotReadInput,
        Error::Left { .. }
        | Error::ForeignState { .. }
        | Error::Key { .. }
        | Error::File { .. }
        | Error::Terminal(_) => Code::Generic,
        _ => Code::MachineUnavailable,
    }
}

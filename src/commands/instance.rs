//! Shared by the commands on instances: finding a host's instance, and failures with advice.

use super::{Context, project};
use crate::edge::environment::Environment;
use crate::host::project::Project;
use crate::instance::event::Health;
use crate::instance::{Error, Home, Place, ProjectState, Record, stop};
use crate::outcome::{Code, Failure};

/// A project and the state of its instances.
pub(super) struct Site {
    pub(super) project: Project,
    pub(super) state: ProjectState,
}

impl Site {
    /// The project that a command works on, and this user's state for it.
    pub(super) fn find(context: &Context) -> Result<Self, Failure> {
        let project = project::find(context)?;
        let state = Home::find(&context.environment).and_then(|home| home.project(project.root()));
        Ok(Self { project, state: state.map_err(failure)? })
    }

    /// The place of a host that is defined or has been run before.
    pub(super) fn place(&self, host: &str) -> Result<Place, Failure> {
        if !self.project.host_file(host).is_file() && !self.state.path.join(host).is_dir() {
            // Its error says which hosts there are.
            project::load(&self.project, host)?;
        }
        self.state.place(host).map_err(failure)
    }
}

/// The record of an instance that has to be running.
pub(super) fn running(place: &Place) -> Result<Record, Failure> {
    let running = place.running().map_err(failure)?;
    running.ok_or_else(|| {
        let mut failure = failure(Error::NotRunning(place.name.clone()));
        if let Some(reason) = place.record().and_then(|record| record.reason) {
            failure.message.push_str(&format!("; its last run ended: {reason}"));
        }
        failure
    })
}

/// Fails, with the reason, if the machine cannot respond.
pub(super) fn answering(record: &Record, environment: &Environment) -> Result<(), Failure> {
    let reason = match stop::health(record, environment) {
        Health::Running => return Ok(()),
        Health::Paused => "is paused".to_owned(),
        Health::Frozen => "is frozen: QEMU or its supervisor does not respond".to_owned(),
        Health::Panicked => match &record.reason {
            Some(reason) => format!("is no longer running: {reason}"),
            None => "is no longer running: its kernel panicked".to_owned(),
        },
    };
    Err(failure(Error::NoAnswer { host: record.name.clone(), reason }))
}

/// A failure of the instance room: mostly the machine never ran, or never became ready.
pub(super) fn failure(error: Error) -> Failure {
    let failure = Failure::new(code(&error), error.to_string());
    match error {
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
        Error::Left { .. } | Error::Key { .. } | Error::File { .. } | Error::Terminal(_) => Code::Generic,
        _ => Code::MachineUnavailable,
    }
}

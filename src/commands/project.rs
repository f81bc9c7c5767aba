//! The project and host that a command works on.

use std::path::Path;

use super::Context;
use crate::host::error::Error;
use crate::host::project::Project;
use crate::host::spec::{Arch, Spec};
use crate::outcome::{Code, Failure};

/// The project: the one that was given, else this directory or the nearest one above it.
pub(super) fn find(context: &Context) -> Result<Project, Failure> {
    match &context.project {
        Some(dir) => Project::at(dir),
        None => Project::find(Path::new(".")),
    }
    .map_err(failure)
}

/// One of its hosts.
pub(super) fn load(project: &Project, host: &str) -> Result<Spec, Failure> {
    let arch = Arch::native().ok_or_else(|| {
        Failure::new(
            Code::MachineUnavailable,
            format!("civm cannot start machines on {}", std::env::consts::ARCH),
        )
    })?;
    project.load(host, arch).map_err(failure)
}

/// An error of the `host` module, with advice.
pub(super) fn failure(error: Error) -> Failure {
    let help = error.help();
    let code = match &error {
        Error::Spec(_) | Error::BadName { .. } | Error::Read { .. } => Code::CouldNotReadInput,
        _ => Code::Generic,
    };
    help.into_iter().fold(Failure::new(code, error.to_string()), Failure::help)
}

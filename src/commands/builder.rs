//! `civm builder …`: the commands that speak with a keeper of builders, and the keeper itself.

use std::io;
use std::path::{Path, PathBuf};

use super::Context;
use super::project;
use crate::builder::keeper::client;
use crate::builder::keeper::reason::Reason;
use crate::builder::keeper::socket::View;
use crate::builder::place::Place;
use crate::cli::builder::{Builder, Chosen, Command};
use crate::edge::{cleanup, private_dir};
use crate::host::generated::builders::KEEPER;
use crate::host::layer::SHARE_MOUNT;
use crate::host::parcel::BUILDERS;
use crate::outcome::{Code, Failure, Outcome};

mod dial;
mod doctor;
mod down;
mod exec;
mod look;
mod ls;
mod project_builders;
mod run;
mod up;

/// One of the verbs.
pub(super) fn run(args: &Builder, context: &Context) -> Outcome {
    if !matches!(args.command, Command::Run(_) | Command::Exec(_)) {
        cleanup::on_signals();
    }
    let home = Home::find(args.dir.as_deref(), context)?;
    match &args.command {
        Command::Up(args) => up::run(args, &home, context),
        Command::Down(args) => down::down(args, &home, context),
        Command::Drain(args) => down::drain(args, &home, context),
        Command::Ls(args) => ls::ls(args, &home, context),
        Command::Status(args) => ls::status(args, &home, context),
        Command::Logs(args) => ls::logs(args, &home, context),
        Command::Exec(args) => exec::run(args, &home, context),
        Command::Doctor(args) => doctor::run(args, &home, context),
        Command::Purge(args) => look::purge(args, &home, context),
        Command::Run(args) => run::run(args, &home, context),
        Command::Dial(args) => dial::run(args, &home, context),
    }
}

/// Whose builders a command is about.
enum Home {
    /// A directory that was given.
    Given(Place),
    /// Those of this controller.
    Controller(Place),
    /// Those of a project, of this user.
    Project(PathBuf, Place),
}

impl Home {
    fn find(dir: Option<&Path>, context: &Context) -> Result<Self, Failure> {
        if let Some(dir) = dir {
            return Ok(Self::Given(Place::at(dir)));
        }
        if Path::new(KEEPER).exists() || parcels_of_controller().exists() {
            return Ok(Self::Controller(Place::at(Path::new(KEEPER))));
        }
        let root = project::find(context)?.root().to_owned();
        // A keeper that was killed has left its keys.
        private_dir::sweep(&context.environment);
        let place = Place::of_project(&root, &context.environment).ok_or_else(|| {
            Failure::new(Code::Generic, "there is no private place in memory for the keys of builders")
                .help("log in so that $XDG_RUNTIME_DIR is a tmpfs that you own")
        })?;
        Ok(Self::Project(root, place))
    }

    fn place(&self) -> &Place {
        match self {
            Self::Given(place) | Self::Controller(place) | Self::Project(_, place) => place,
        }
    }

    fn socket(&self) -> PathBuf {
        self.place().socket()
    }

    /// The failure of a question to the keeper, with advice.
    fn failure(&self, error: client::Error) -> Failure {
        let message = error.to_string();
        match (error, self) {
            (client::Error::None, Self::Project(..)) => {
                Failure::new(Code::MachineUnavailable, message).help("`civm builder up NAME` starts one")
            }
            (client::Error::None, _) => Failure::new(Code::MachineUnavailable, message)
                .help("`systemctl status civm-builders` tells why"),
            (client::Error::Denied(_), _) => Failure::new(Code::Generic, message)
                .help("in a controller, root and the members of the group civm-builders may: see `nix.trusted_users`"),
            (client::Error::Silent(_), _) => Failure::new(Code::MachineUnavailable, message),
            (client::Error::Refused(_), _) => Failure::new(Code::Generic, message),
        }
    }

    fn list(&self) -> Result<Vec<View>, Failure> {
        client::list(&self.socket()).map_err(|error| self.failure(error))
    }
}

fn parcels_of_controller() -> PathBuf {
    Path::new(SHARE_MOUNT).join(BUILDERS)
}

impl Chosen {
    /// The names for a request, where none stands for all.
    fn names(&self) -> Vec<String> {
        if self.all { Vec::new() } else { self.builders.clone() }
    }

    fn has(&self, name: &str) -> bool {
        self.all || self.builders.iter().any(|builder| builder == name)
    }
}

/// A reason as a failure.
fn reason_failure(reason: Reason) -> Failure {
    let failure = Failure::new(Code::MachineUnavailable, reason.message);
    let hints = reason.hint.unwrap_or_default();
    hints.lines().fold(failure, Failure::help)
}

/// The running civm, for those who start it again.
fn own_path() -> io::Result<PathBuf> {
    std::env::current_exe()
}

//! `civm ssh-config [INSTANCE…]`.

use super::Context;
use super::instance::{Target, instance_failure, site};
use crate::cli::instance::SshConfig;
use crate::outcome::Outcome;

/// Prints a block for each instance; its name is the host to connect to.
pub(super) fn run(args: &SshConfig, context: &Context) -> Outcome {
    let names = if args.instances.is_empty() {
        let site = site(context)?;
        let running = site.home.running().into_iter().filter(|record| record.project == site.project.root());
        running.filter(|record| record.ssh().is_some()).map(|record| record.name).collect()
    } else {
        args.instances.clone()
    };
    for name in names {
        let target = Target::find(&name, context)?;
        let login = target.known_login(&args.login).map_err(instance_failure)?;
        context.screen.data(login.configuration(&name).as_bytes())?;
    }
    Ok(0)
}

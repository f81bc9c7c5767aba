//! `civm builder dial`: what ssh runs to reach a builder.

use std::io;
use std::os::fd::AsFd as _;

use super::Home;
use crate::builder::keeper::client;
use crate::builder::keeper::socket::Request;
use crate::cli::builder::Dial;
use crate::commands::Context;
use crate::edge::splice;
use crate::outcome::{Code, Failure, Outcome};

/// Waits for a connection, and becomes it.
pub(super) fn run(args: &Dial, home: &Home, context: &Context) -> Outcome {
    let request = Request::Dial { builder: args.builder.clone() };
    let failed = |error| home.failure(error);
    let mut asked =
        client::ask(&home.socket(), &request).and_then(client::Asked::patiently).map_err(failed)?;
    // Nix kills an ssh whose build is not wanted any more: nothing is to wait for it then, and nothing to be started.
    asked.ends_with(io::stdout().as_fd().try_clone_to_owned()?)?;
    loop {
        let Some(reply) = asked.line().map_err(failed)? else {
            return Err(Failure::new(Code::MachineUnavailable, "the keeper of builders has ended"));
        };
        if let Some(refused) = reply.refused {
            return Err(Failure::new(Code::MachineUnavailable, refused));
        }
        if let Some(waiting) = reply.waiting {
            context.screen.note(format!("civm: waiting: {waiting}"));
        }
        if reply.connected == Some(true) {
            break;
        }
    }
    let (socket, rest) = asked.into_connection();
    splice::stdio(socket.into(), &rest)?;
    Ok(0)
}

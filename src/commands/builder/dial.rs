//! `civm builder dial`: what ssh runs to reach a builder.

use std::io;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use super::Home;
use crate::builder::keeper::client;
use crate::builder::keeper::socket::Request;
use crate::cli::builder::Dial;
use crate::commands::Context;
use crate::edge::splice;
use crate::outcome::{Code, Failure, Outcome};

/// How long a keeper may take to hear that a builder has ended.
const HEARS: Duration = Duration::from_secs(2);
/// How often it is asked.
const POLL: Duration = Duration::from_millis(50);

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
    if splice::stdio(socket.into(), &rest)?
        && let Some(reason) = why(&args.builder, home)
    {
        return Err(Failure::new(Code::MachineUnavailable, reason));
    }
    Ok(0)
}

/// Why a connection has ended that was still in use, where it is not the builder's sshd that ended it. The keeper may
/// hear of it a moment later.
fn why(name: &str, home: &Home) -> Option<String> {
    let until = Instant::now() + HEARS;
    loop {
        let view = match client::list(&home.socket()) {
            Ok(views) => views.into_iter().find(|view| view.name == name),
            Err(client::Error::None | client::Error::Silent(_)) => {
                return Some(format!("the keeper of builders has ended, and `{name}` with it"));
            }
            Err(_) => return None,
        };
        let state = view.as_ref().map_or("gone", |view| &view.state);
        if !matches!(state, "ready" | "draining") {
            let reason = view.and_then(|view| view.reason).map(|reason| format!(": {reason}"));
            return Some(format!("`{name}` has ended{}", reason.unwrap_or_default()));
        }
        if Instant::now() >= until {
            return None;
        }
        thread::sleep(POLL);
    }
}

//! `civm builder down` and `drain`.

use std::thread;
use std::time::Duration;

use super::Home;
use crate::builder::keeper::client;
use crate::builder::keeper::socket::Request;
use crate::cli::builder::{Chosen, Down};
use crate::commands::Context;
use crate::commands::screen::counted;
use crate::outcome::{Code, Failure, Outcome};

/// How often the keeper is asked.
const POLL: Duration = Duration::from_millis(100);

/// Stops builders.
pub(super) fn down(args: &Down, home: &Home, context: &Context) -> Outcome {
    let within_ms = args.now.then_some(0);
    stop(&args.chosen, &Request::Down { builders: args.chosen.names(), within_ms }, home, context)
}

/// Stops builders after their builds.
pub(super) fn drain(args: &Chosen, home: &Home, context: &Context) -> Outcome {
    stop(args, &Request::Drain { builders: args.names() }, home, context)
}

fn stop(chosen: &Chosen, request: &Request, home: &Home, context: &Context) -> Outcome {
    match client::done(&home.socket(), request) {
        Ok(()) => {}
        // Nobody holds them: there are none.
        Err(client::Error::None) if chosen.all => return Ok(0),
        Err(error) => return Err(home.failure(error)),
    }
    gone(chosen, home, context)?;
    Ok(0)
}

/// Waits until they are gone.
pub(super) fn gone(chosen: &Chosen, home: &Home, context: &Context) -> Result<(), Failure> {
    let mut told = None;
    loop {
        let views = match client::list(&home.socket()) {
            // A keeper in the background ends with its last builder.
            Err(client::Error::None) => return Ok(()),
            // It may end while it is asked.
            Err(client::Error::Silent(_)) if client::list(&home.socket()).is_err() => return Ok(()),
            views => views.map_err(|error| home.failure(error))?,
        };
        let mut left = views.into_iter().filter(|view| chosen.has(&view.name));
        let Some(view) = left.find(|view| !matches!(view.state.as_str(), "idle" | "failed")) else {
            return Ok(());
        };
        if view.wanted {
            return Err(Failure::new(
                Code::MachineUnavailable,
                format!("`{}` was started again by somebody else", view.name),
            ));
        }
        if view.state == "draining" && told != Some(view.connections) {
            let count = counted(view.connections as usize, "connection");
            context.screen.note(format!("{}: waiting for {count} to close", view.name));
            told = Some(view.connections);
        }
        thread::sleep(POLL);
    }
}

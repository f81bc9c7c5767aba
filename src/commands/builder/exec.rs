//! `civm builder exec`.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{Home, down, reason_failure, up};
use crate::builder::keeper::client;
use crate::builder::keeper::socket::Request;
use crate::cli::builder::{Chosen, Exec};
use crate::commands::Context;
use crate::commands::ssh::code;
use crate::edge::foreground::{self, Foreground};
use crate::edge::process;
use crate::outcome::{Code, Failure, Outcome};

/// Makes the builder if need be, runs the command, and takes the builder away again.
pub(super) fn run(args: &Exec, home: &Home, context: &Context) -> Outcome {
    let names = [args.builder.clone()];
    let was_up = client::list(&home.socket())
        .is_ok_and(|views| views.iter().any(|view| view.name == args.builder && view.wanted));
    // Whoever interrupts it wants the builder no more than the command.
    let interrupted = interruption()?;
    up::raise(&names, args.of.as_deref(), home, context)?;
    let signal = || interrupted.load(Ordering::Relaxed);
    let waited = up::wait(&names, home, context, &|| signal() != 0);
    let outcome = match waited.map(|failed| failed.into_iter().next()) {
        Ok(Some((_, reason))) => Err(reason_failure(reason)),
        Ok(None) => command(args, home, context),
        Err(_) if signal() != 0 => {
            context.screen.note("civm: interrupted");
            // As shells have it.
            Ok(u8::try_from(128 + signal()).unwrap_or(u8::MAX))
        }
        Err(failure) => Err(failure),
    };
    if !was_up && !args.keep {
        let request = Request::Down { builders: names.to_vec(), within_ms: None };
        if let Err(error) = client::done(&home.socket(), &request) {
            context.screen.warn(home.failure(error).message);
        }
        let chosen = Chosen { builders: names.to_vec(), all: false };
        down::gone(&chosen, home, context)?;
    }
    outcome
}

/// Becomes the number of a signal that ends programs, but for those that this one was told to ignore.
fn interruption() -> io::Result<Arc<AtomicUsize>> {
    let flag = Arc::new(AtomicUsize::new(0));
    for signal in foreground::heeded([SIGHUP, SIGINT, SIGTERM]) {
        signal_hook::flag::register_usize(signal, Arc::clone(&flag), usize::try_from(signal).unwrap_or(1))?;
    }
    Ok(flag)
}

fn command(args: &Exec, home: &Home, context: &Context) -> Outcome {
    let place = home.place();
    let store = home.list()?.into_iter().find(|view| view.name == args.builder).map(|view| view.store);
    let environment = context
        .environment
        .clone()
        .with("NIX_SSHOPTS", words(&place.ssh_config())?)
        .with("NIX_CONFIG", config(&place.machines(), context))
        .with("CIVM_STORE", store.unwrap_or_default());
    let (program, rest) = match args.command.split_first() {
        Some(split) => split,
        None => return Err(Failure::new(Code::CouldNotReadInput, "no command")),
    };
    let cannot = |error: io::Error| {
        let code =
            if error.kind() == io::ErrorKind::NotFound { Code::CommandNotFound } else { Code::CommandNotRun };
        Failure::new(code, format!("cannot run `{}`: {error}", program.to_string_lossy()))
    };
    let foreground = Foreground::watch().map_err(cannot)?;
    let status = foreground.run(process::command(program, &environment).args(rest)).map_err(cannot)?;
    Ok(code(status))
}

/// nix splits these words at blanks, and knows no quotes.
fn words(config: &Path) -> Result<OsString, Failure> {
    let config = config.to_string_lossy();
    if config.contains(char::is_whitespace) {
        let message = format!("nix cannot be told of {config}: there is a blank in it");
        return Err(Failure::new(Code::Generic, message));
    }
    Ok(format!("-F {config}").into())
}

/// What the user says comes first, and these lines win.
fn config(machines: &Path, context: &Context) -> OsString {
    let mut text = context.environment.get("NIX_CONFIG").unwrap_or_default().to_owned();
    if !text.is_empty() {
        text.push("\n");
    }
    text.push(format!("builders = @{}\nmax-jobs = 0\n", machines.display()));
    text
}

//! `civm port INSTANCE [PORT]`.

use serde_json::json;

use super::Context;
use super::instance::Target;
use crate::cli::instance::Port;
use crate::outcome::{Code, Failure, Outcome};

/// Prints where the guest's ports are reached, one `ADDRESS:PORT` a line if one is asked for.
pub(super) fn run(args: &Port, context: &Context) -> Outcome {
    let target = Target::find(&args.instance, context)?;
    let wanted = |guest: u16| args.port.is_none_or(|port| port == guest);
    let forwards: Vec<_> = target.record.forwards.iter().filter(|f| wanted(f.guest_port)).collect();
    if let (Some(port), true) = (args.port, forwards.is_empty()) {
        return Err(Failure::new(
            Code::Generic,
            format!("no port of this machine leads to port {port} of `{}`", args.instance),
        )
        .help(format!("`civm up {} -p {port}` forwards it", args.instance)));
    }
    if args.json {
        context.screen.line(format!("{:#}", json!(forwards)))?;
        return Ok(0);
    }
    for forward in forwards {
        let here = format!("{}:{}", forward.address, forward.host_port);
        context.screen.line(match args.port {
            Some(_) => here,
            None => format!("{here} -> {}", forward.guest_port),
        })?;
    }
    Ok(0)
}

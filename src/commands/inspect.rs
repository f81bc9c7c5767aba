//! `civm inspect INSTANCE`.

use std::time::Duration;

use serde_json::json;

use super::Context;
use super::instance::{instance_failure, place, site};
use super::status::{describe, state};
use crate::cli::instance::Inspect;
use crate::instance::control::Session;
use crate::instance::deadline::scaled;
use crate::instance::inspect::{Process, processes};
use crate::lifecycle::{Shape, Split};
use crate::outcome::Outcome;

/// How long QEMU may take to say what it runs.
const ANSWER: Duration = Duration::from_secs(5);

/// Prints all that civm knows of an instance, running or not.
pub(super) fn run(args: &Inspect, context: &Context) -> Outcome {
    let site = site(context)?;
    let place = place(&site, &args.instance)?;
    let running = place.running().map_err(instance_failure)?;
    let record = running.clone().or_else(|| place.record());
    let processes: Vec<_> = processes(&place)
        .into_iter()
        .map(|Process { role, pid, arguments }| json!({"role": role, "pid": pid, "arguments": arguments}))
        .collect();
    let qemu = running.as_ref().and_then(|record| {
        let patience = scaled(ANSWER, &context.environment);
        Session::open(record, patience).ok()?.machine(patience).ok()
    });
    let started = Shape::last(&place).unwrap_or_else(|error| {
        context.screen.warn(error.to_string());
        None
    });
    let state = running.as_ref().map_or_else(|| "down".to_owned(), |record| state(record, context));
    let value = json!({
        "instance": record.as_ref().map(|record| describe(record, &state)),
        "state": state,
        "processes": processes,
        "qemu": qemu,
        "started": started,
        "last_boot": Split::last(&place).as_ref().map(Split::steps),
        "runtime": record.as_ref().and_then(|record| record.runtime.clone()),
        "namespaces": record.as_ref().map(|record| record.namespaces),
        "key_removed": record.as_ref().map(|record| record.key_removed),
        "paths": {
            "state": place.path,
            "console_log": place.console_log(),
            "qemu_log": place.qemu_log(),
            "events": place.events(),
            "known_hosts": place.known_hosts(),
            "control": record.as_ref().and_then(|record| record.control()),
        },
    });
    context.screen.line(format!("{value:#}"))?;
    Ok(0)
}

//! `civm status INSTANCE`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Context;
use super::instance::{instance_failure, place, site};
use super::ls::{age, ports};
use crate::cli::instance::Status;
use crate::instance::event::Health;
use crate::instance::state::Phase;
use crate::instance::{Record, stop};
use crate::outcome::Outcome;

/// Shows how an instance is. One that is not running is no failure: that is what is shown.
pub(super) fn run(args: &Status, context: &Context) -> Outcome {
    let site = site(context)?;
    let place = place(&site, &args.instance)?;
    let Some(record) = place.running().map_err(instance_failure)? else {
        let reason = place.record().and_then(|record| record.reason);
        if args.json {
            let state = json!({"name": place.name, "state": "down", "reason": reason});
            context.screen.line(format!("{state:#}"))?;
        } else {
            let how = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            context.screen.line(format!("{}: down{how}", place.name))?;
        }
        return Ok(0);
    };
    let state = state(&record, context);
    if args.json {
        context.screen.line(format!("{:#}", describe(&record, &state)))?;
        return Ok(0);
    }
    for (name, value) in rows(&record, &state) {
        context.screen.line(format!("{name:<8} {value}"))?;
    }
    Ok(0)
}

/// How far it has come, or what is wrong with it.
pub(super) fn state(record: &Record, context: &Context) -> String {
    // An instance that is starting or stopping may not respond.
    let phases = [Phase::Booting, Phase::Ready, Phase::Panicked];
    let health = phases.contains(&record.phase).then(|| stop::health(record, &context.environment));
    match health {
        Some(health) if health != Health::Running => health.to_string(),
        _ => record.phase.to_string(),
    }
}

/// A running instance, for scripts.
pub(super) fn describe(record: &Record, state: &str) -> Value {
    json!({
        "name": record.name,
        "host": record.host,
        "project": record.project,
        "state": state,
        "started_at": record.started_at,
        "accel": record.accel,
        "cpus": record.cpus,
        "memory_mib": record.memory_mib,
        "disk": record.disk,
        "ephemeral": record.ephemeral,
        "forwards": record.forwards,
        "console": record.console(),
        "reason": record.reason,
    })
}

fn rows(record: &Record, state: &str) -> Vec<(&'static str, String)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut rows = vec![
        ("name", record.name.clone()),
        ("host", format!("{} ({})", record.host, record.project.display())),
        ("state", record.reason.as_ref().map_or(state.to_owned(), |reason| format!("{state}: {reason}"))),
        ("up", age(now.saturating_sub(record.started_at))),
        ("accel", record.accel.map(|accel| accel.to_string()).unwrap_or_default()),
        ("cpus", record.cpus.to_string()),
        ("memory", format!("{} MiB", record.memory_mib)),
        ("ports", ports(record)),
    ];
    if let Some(disk) = &record.disk {
        let temporary = if record.ephemeral { " (temporary)" } else { "" };
        rows.push(("disk", format!("{}{temporary}", disk.display())));
    }
    rows
}

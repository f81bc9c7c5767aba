//! `civm status INSTANCE`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Context;
use super::instance::{instance_failure, place, site};
use crate::cli::instance::Status;
use crate::instance::control::Session;
use crate::instance::deadline::scaled;
use crate::instance::event::Health;
use crate::instance::state::Phase;
use crate::instance::{Record, stop};
use crate::outcome::Outcome;
use crate::vm::agent::answer::Usage;
use crate::vm::agent::{Answer, Question};

/// How long a guest may take to say how much of it is in use.
const REPORT: Duration = Duration::from_secs(5);

/// Shows how an instance is. One that is not running is not a failure: that is what is shown.
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
    let usage = if state == Phase::Ready.to_string() { usage(&record, context) } else { None };
    if args.json {
        let mut value = describe(&record, &state);
        if let Some(object) = value.as_object_mut() {
            object.insert("guest".to_owned(), json!(usage));
        }
        context.screen.line(format!("{value:#}"))?;
        return Ok(0);
    }
    for (name, value) in rows(&record, &state).into_iter().chain(usage.iter().flat_map(used)) {
        context.screen.line(format!("{name:<8} {value}"))?;
    }
    Ok(0)
}

/// What the guest itself says of its memory, load and disk; nothing where it does not answer.
fn usage(record: &Record, context: &Context) -> Option<Usage> {
    let patience = scaled(REPORT, &context.environment);
    let answer = Session::open(record, patience).ok()?.ask_guest(Question::Report, patience);
    match answer {
        Ok(Answer::Report(usage)) => Some(usage),
        _ => None,
    }
}

fn used(usage: &Usage) -> [(&'static str, String); 3] {
    let hundredths = usage.load.map(|load| format!("{}.{:02}", load / 100, load % 100));
    let of = |available: u64, all: u64| {
        let mib = |kib: u64| kib / 1024;
        format!("{} of {} MiB", mib(all.saturating_sub(available)), mib(all))
    };
    [
        ("load", hundredths.join(" ")),
        ("used", format!("{} of memory", of(usage.memory_available_kib, usage.memory_kib))),
        ("", format!("{} of the root file system", of(usage.disk_available_kib, usage.disk_kib))),
    ]
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
        "accel_reason": record.accel_reason,
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
    let accel = record.accel.map(|accel| accel.to_string()).unwrap_or_default();
    let accel = record.accel_reason.as_ref().map_or(accel.clone(), |reason| format!("{accel} ({reason})"));
    let mut rows = vec![
        ("name", record.name.clone()),
        ("host", format!("{} ({})", record.host, record.project.display())),
        ("state", record.reason.as_ref().map_or(state.to_owned(), |reason| format!("{state}: {reason}"))),
        ("up", age(now.saturating_sub(record.started_at))),
        ("accel", accel),
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

pub(super) fn ports(record: &Record) -> String {
    let shown = record.forwards.iter().map(|forward| {
        let place =
            if forward.address.is_loopback() { String::new() } else { format!("{}:", forward.address) };
        format!("{place}{}->{}", forward.host_port, forward.guest_port)
    });
    shown.collect::<Vec<_>>().join(" ")
}

pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} min", seconds / 60),
        3600..=86_399 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn ages_are_short() {
        assert_eq!([age(5), age(60), age(7200), age(200_000)], ["5 s", "1 min", "2 h", "2 d"]);
    }
}

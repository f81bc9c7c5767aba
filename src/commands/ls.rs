//! `civm ls`: the hosts that are running, and those that are defined but not running.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::screen::columns;
use super::up::image_cache;
use super::{Context, instance, project};
use crate::cli::ls::Ls;
use crate::host::Project;
use crate::image::{debian, disk};
use crate::instance::event::Health;
use crate::instance::state::Phase;
use crate::instance::{Home, Record, stop};
use crate::outcome::Outcome;

/// One line of the list.
struct Line {
    project: String,
    host: String,
    record: Option<Record>,
    /// What is wrong with a machine that is not running as it should.
    health: Option<Health>,
}

impl Line {
    /// How far the instance has come, or what is wrong with it.
    fn state(&self) -> String {
        match (&self.record, self.health) {
            (Some(_), Some(health)) => health.to_string(),
            (Some(record), None) => record.phase.to_string(),
            (None, _) => "-".to_owned(),
        }
    }
}

/// Lists this user's instances, and the project's hosts that have none.
pub(super) fn run(args: &Ls, context: &Context) -> Outcome {
    let home = Home::find(&context.environment).map_err(instance::failure)?;
    let running = home.running();
    for complaint in home.complaints() {
        context.screen.warn(complaint);
    }
    // Outside a project, the running instances are still listed.
    let found = match (project::find(context), &context.project) {
        (Ok(project), _) => Some(project),
        (Err(failure), Some(_)) => return Err(failure),
        (Err(_), None) => None,
    };
    sweep(found.as_ref(), context);
    let root = found.as_ref().map(|project| project.root().canonicalize()).transpose()?;
    let defined = match &found {
        Some(found) => found.hosts().map_err(project::failure)?,
        None => Vec::new(),
    };
    let mut lines = lines(running, &defined, root.as_deref());
    for line in &mut lines {
        // An instance that is starting or stopping may not respond.
        let phases = [Phase::Booting, Phase::Ready, Phase::Panicked];
        let watched = line.record.as_ref().filter(|record| phases.contains(&record.phase));
        let health = watched.map(|record| stop::health(record, &context.environment));
        line.health = health.filter(|health| *health != Health::Running);
    }
    if args.json {
        let list: Vec<Value> = lines.iter().map(describe).collect();
        context.screen.line(format!("{:#}", Value::Array(list)))?;
    } else {
        context.screen.data(table(&lines, root.as_deref(), now()).as_bytes())?;
    }
    Ok(0)
}

/// Removes partial images and disks that a killed `up` left behind. Those still being built are locked, and skipped.
fn sweep(project: Option<&Project>, context: &Context) {
    if let Some(cache) = image_cache(context) {
        debian::sweep(&cache, &context.environment);
    }
    if let Some(project) = project {
        disk::sweep(project.root());
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn lines(running: Vec<Record>, defined: &[String], root: Option<&Path>) -> Vec<Line> {
    let is_running =
        |host: &str| running.iter().any(|record| record.host == host && Some(&*record.project) == root);
    let project = root.map(|root| root.display().to_string()).unwrap_or_default();
    let idle = defined.iter().filter(|host| !is_running(host));
    let mut lines: Vec<Line> = idle
        .map(|host| Line { project: project.clone(), host: host.clone(), record: None, health: None })
        .collect();
    lines.extend(running.into_iter().map(|record| Line {
        project: record.project.display().to_string(),
        host: record.host.clone(),
        record: Some(record),
        health: None,
    }));
    // This project first, then by name.
    lines.sort_by(|a, b| {
        (a.project != project, &a.project, &a.host).cmp(&(b.project != project, &b.project, &b.host))
    });
    lines
}

fn describe(line: &Line) -> Value {
    let Some(record) = &line.record else {
        return json!({"host": line.host, "project": line.project, "state": "defined"});
    };
    let forwards: Vec<Value> = record
        .forwards
        .iter()
        .map(|f| json!({"address": f.address, "host_port": f.host_port, "guest_port": f.guest_port}))
        .collect();
    json!({
        "host": line.host,
        "project": line.project,
        "state": line.state(),
        "started_at": record.started_at,
        "accel": record.accel,
        "cpus": record.cpus,
        "memory_mib": record.memory_mib,
        "disk": record.disk,
        "ephemeral": record.ephemeral,
        "forwards": forwards,
        "console": record.console(),
    })
}

fn table(lines: &[Line], root: Option<&Path>, now: u64) -> String {
    let mut rows = vec![["HOST", "STATE", "UP", "ACCEL", "PORTS"].map(str::to_owned)];
    for line in lines {
        let foreign = root.is_none_or(|root| line.project != root.display().to_string());
        // An instance of another project is shown with that project.
        let host = if foreign { format!("{} ({})", line.host, line.project) } else { line.host.clone() };
        rows.push(match &line.record {
            None => [host, "-".into(), String::new(), String::new(), String::new()],
            Some(record) => [
                host,
                line.state(),
                age(now.saturating_sub(record.started_at)),
                record.accel.map(|accel| accel.to_string()).unwrap_or_default(),
                ports(record),
            ],
        });
    }
    columns(&rows)
}

fn ports(record: &Record) -> String {
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
    use super::{age, describe, lines, table};
    use crate::instance::Record;
    use crate::instance::event::Health;
    use crate::instance::state::Phase;
    use crate::vm::ports::Forward;
    use crate::vm::spec::Accel;
    use std::path::Path;

    fn record(project: &str, host: &str) -> Record {
        let text = format!(
            r#"{{"version": 2, "project": "{project}", "host": "{host}", "phase": "ready", "started_at": 100, "accel": "tcg",
            "cpus": 2, "memory_mib": 1024, "disk": "/d", "ephemeral": false, "forwards": [], "runtime": "/run/x",
            "namespaces": true, "key_removed": true, "reason": null}}"#
        );
        let mut record: Record = serde_json::from_str(&text).unwrap();
        (record.phase, record.accel) = (Phase::Ready, Some(Accel::Tcg));
        record.forwards = vec![Forward::loopback(2322, 22)];
        record
    }

    #[test]
    fn running_and_defined_hosts_stand_in_one_list() {
        let root = Path::new("/p");
        let defined = ["builder".to_owned(), "controller".to_owned()];
        let running = vec![record("/other", "builder"), record("/p", "controller")];
        let mut lines = lines(running, &defined, Some(root));
        assert_eq!(
            table(&lines, Some(root), 161),
            "HOST              STATE  UP     ACCEL  PORTS\n\
             builder           -\n\
             controller        ready  1 min  TCG    2322->22\n\
             builder (/other)  ready  1 min  TCG    2322->22\n"
        );
        assert_eq!(describe(&lines[0])["state"], "defined");
        assert_eq!(describe(&lines[1])["state"], "ready");
        assert_eq!(describe(&lines[1])["forwards"][0]["host_port"], 2322);
        assert_eq!(describe(&lines[1])["console"], "/run/x/console.sock");
        lines[1].health = Some(Health::Frozen);
        assert_eq!(describe(&lines[1])["state"], "frozen");
        assert!(table(&lines, Some(root), 161).contains("controller        frozen  1 min"));
    }

    #[test]
    fn ages_are_short() {
        assert_eq!([age(5), age(60), age(7200), age(200_000)], ["5 s", "1 min", "2 h", "2 d"]);
    }
}

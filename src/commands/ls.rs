//! `civm ls`: this user's instances, and the project's hosts that have none.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::instance::{failure, instance_failure, site};
use super::screen::columns;
use super::status::{age, ports};
use super::{Context, project, status, up};
use crate::cli::ls::Ls;
use crate::host::Project;
use crate::image::{debian, disk};
use crate::instance::{Home, Record};
use crate::lifecycle::{self, image_cache};
use crate::outcome::Outcome;

/// The state of an instance that does not run.
const DOWN: &str = "down";

/// One line of the list.
struct Line {
    project: String,
    name: String,
    /// The instance, and how it is; none for a host that has none.
    instance: Option<(Record, String)>,
}

/// Lists this user's instances, and the project's hosts that have none.
pub(super) fn run(args: &Ls, context: &Context) -> Outcome {
    if let Some(flake) = &args.flake {
        return configurations(flake, args.json, context);
    }
    let home = Home::find(&context.environment).map_err(instance_failure)?;
    let view = home.view();
    view.sweep();
    let running = view.running();
    for complaint in view.complaints() {
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
    let running = running.into_iter().map(|record| {
        let state = status::state(&record, context);
        (record, state)
    });
    // One that is down and has its host's name is shown as that host.
    let down = view
        .down()
        .into_iter()
        .filter(|record| Some(&*record.project) == root.as_deref() && !defined.contains(&record.name));
    let known = running.chain(down.map(|record| (record, DOWN.to_owned())));
    let lines = lines(known.collect(), &defined, root.as_deref());
    if args.json {
        let list: Vec<Value> = lines.iter().map(describe).collect();
        context.screen.line(format!("{:#}", Value::Array(list)))?;
    } else {
        context.screen.data(table(&lines, root.as_deref(), now()).as_bytes())?;
    }
    Ok(0)
}

/// Lists what of a flake can be started.
fn configurations(flake: &str, json: bool, context: &Context) -> Outcome {
    let site = site(context)?;
    let names = lifecycle::configurations(&site, &up::directory(flake)).map_err(failure)?;
    let up = |name: &String| format!("{flake}#{name}");
    if json {
        let list: Vec<Value> =
            names.iter().map(|name| json!({"name": name, "flake": flake, "up": up(name)})).collect();
        context.screen.line(format!("{:#}", Value::Array(list)))?;
    } else {
        names.iter().try_for_each(|name| context.screen.line(up(name)))?;
    }
    Ok(0)
}

/// Removes partial images and disks that a killed `up` left behind. Those still being built are locked, and skipped.
fn sweep(project: Option<&Project>, context: &Context) {
    if let Some(cache) = image_cache(&context.environment) {
        debian::sweep(&cache, &context.environment);
    }
    if let Some(project) = project {
        disk::sweep(project.root());
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn lines(known: Vec<(Record, String)>, defined: &[String], root: Option<&Path>) -> Vec<Line> {
    let is_running =
        |host: &str| known.iter().any(|(record, _)| record.name == host && Some(&*record.project) == root);
    let project = root.map(|root| root.display().to_string()).unwrap_or_default();
    let idle = defined.iter().filter(|host| !is_running(host));
    let mut lines: Vec<Line> =
        idle.map(|host| Line { project: project.clone(), name: host.clone(), instance: None }).collect();
    lines.extend(known.into_iter().map(|(record, state)| Line {
        project: record.project.display().to_string(),
        name: record.name.clone(),
        instance: Some((record, state)),
    }));
    // This project first, then by name.
    lines.sort_by(|a, b| {
        (a.project != project, &a.project, &a.name).cmp(&(b.project != project, &b.project, &b.name))
    });
    lines
}

fn describe(line: &Line) -> Value {
    match &line.instance {
        Some((record, state)) => status::describe(record, state),
        None => {
            json!({"name": line.name, "host": line.name, "project": line.project, "state": "defined"})
        }
    }
}

fn table(lines: &[Line], root: Option<&Path>, now: u64) -> String {
    let mut rows = vec![["INSTANCE", "HOST", "STATE", "UP", "ACCEL", "PORTS"].map(str::to_owned)];
    for line in lines {
        let foreign = root.is_none_or(|root| line.project != root.display().to_string());
        // An instance of another project is shown with that project.
        let name = if foreign { format!("{} ({})", line.name, line.project) } else { line.name.clone() };
        rows.push(match &line.instance {
            None => [name, line.name.clone(), "-".into(), String::new(), String::new(), String::new()],
            Some((record, state)) if state == DOWN => {
                [name, record.host.clone(), state.clone(), String::new(), String::new(), String::new()]
            }
            Some((record, state)) => [
                name,
                record.host.clone(),
                state.clone(),
                age(now.saturating_sub(record.started_at)),
                record.accel.map(|accel| accel.to_string()).unwrap_or_default(),
                ports(record),
            ],
        });
    }
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::{describe, lines, table};
    use crate::instance::Record;
    use std::path::Path;

    fn record(project: &str, name: &str, host: &str) -> (Record, String) {
        let text = format!(
            r#"{{"version": 3, "project": "{project}", "name": "{name}", "host": "{host}", "phase": "ready",
            "started_at": 100, "accel": "tcg", "cpus": 2, "memory_mib": 1024, "disk": "/d", "ephemeral": false,
            "forwards": [{{"address": "127.0.0.1", "host_port": 2322, "guest_port": 22}}], "runtime": "/run/x",
            "namespaces": true, "key_removed": true, "reason": null}}"#
        );
        (serde_json::from_str(&text).unwrap(), "ready".to_owned())
    }

    #[test]
    fn running_instances_and_defined_hosts_stand_in_one_list() {
        let root = Path::new("/p");
        let defined = ["builder".to_owned(), "controller".to_owned()];
        let mut known = vec![
            record("/other", "builder", "builder"),
            record("/p", "controller", "controller"),
            record("/p", "b2", "builder"),
        ];
        known[1].1 = "frozen".to_owned();
        known.push(record("/p", "b3", "builder"));
        known[3].1 = super::DOWN.to_owned();
        let lines = lines(known, &defined, Some(root));
        assert_eq!(
            table(&lines, Some(root), 161),
            "INSTANCE          HOST        STATE   UP     ACCEL  PORTS\n\
             b2                builder     ready   1 min  TCG    2322->22\n\
             b3                builder     down\n\
             builder           builder     -\n\
             controller        controller  frozen  1 min  TCG    2322->22\n\
             builder (/other)  builder     ready   1 min  TCG    2322->22\n"
        );
        assert_eq!(describe(&lines[0])["state"], "ready");
        assert_eq!(describe(&lines[0])["host"], "builder");
        assert_eq!(describe(&lines[0])["forwards"][0]["host_port"], 2322);
        assert_eq!(describe(&lines[0])["console"], "/run/x/console.sock");
        assert_eq!(describe(&lines[1])["state"], "down");
        assert_eq!(describe(&lines[2])["state"], "defined");
        assert_eq!(describe(&lines[3])["state"], "frozen");
    }
}

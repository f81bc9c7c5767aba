//! `civm builder ls`, `status` and `logs`.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Home, look};
use crate::builder::keeper::client;
use crate::builder::keeper::socket::{Request, View};
use crate::cli::builder::{Logs, Ls, Status};
use crate::commands::Context;
use crate::commands::instance::site;
use crate::commands::screen::columns;
use crate::commands::status::age;
use crate::lifecycle;
use crate::outcome::{Code, Failure, Outcome};

/// Lists the builders.
pub(super) fn ls(args: &Ls, home: &Home, context: &Context) -> Outcome {
    if let Some(remote) = &args.remote {
        return look::look(remote, args.json, home, context);
    }
    let views = match client::list(&home.socket()) {
        // Nobody holds any.
        Err(client::Error::None) => Vec::new(),
        views => views.map_err(|error| home.failure(error))?,
    };
    if args.json {
        context.screen.line(format!("{:#}", serde_json::json!(views)))?;
    } else {
        context.screen.data(table(&views).as_bytes())?;
        not_made(&views, home, context);
    }
    Ok(0)
}

/// Says which builders of the project nobody has asked for. What is wrong with a host is told by who asks for one.
fn not_made(views: &[View], home: &Home, context: &Context) {
    let Home::Project(..) = home else { return };
    let Ok(site) = site(context) else { return };
    let Ok(found) = lifecycle::builders(&site, &[], None, false) else { return };
    let names = found.packings.iter().map(|packing| &packing.packed.parcel.builder.name);
    let names: Vec<&str> =
        names.filter(|name| views.iter().all(|view| view.name != **name)).map(String::as_str).collect();
    if !names.is_empty() {
        context.screen.note(format!("not made: {}; `civm builder up NAME` makes one", names.join(", ")));
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn table(views: &[View]) -> String {
    let mut rows =
        vec![["BUILDER", "ON", "SYSTEM", "STATE", "UP", "BUILDS", "WAITING", ""].map(str::to_owned)];
    for view in views {
        let up = view.ready_since.map(|since| age(now().saturating_sub(since))).unwrap_or_default();
        let why =
            view.reason.as_ref().map(ToString::to_string).unwrap_or_else(|| match view.state.as_str() {
                "idle" => String::new(),
                "ready" if view.doing == "ready" => String::new(),
                _ => view.doing.clone(),
            });
        rows.push([
            view.name.clone(),
            view.on.clone(),
            view.system.clone(),
            view.state.clone(),
            up,
            format!("{}/{}", view.connections, view.max_jobs),
            if view.waiting == 0 { String::new() } else { view.waiting.to_string() },
            why,
        ]);
    }
    columns(&rows)
}

/// Shows one.
pub(super) fn status(args: &Status, home: &Home, context: &Context) -> Outcome {
    let views = home.list()?;
    let Some(view) = views.iter().find(|view| view.name == args.builder) else {
        let known: Vec<&str> = views.iter().map(|view| view.name.as_str()).collect();
        let message = format!("no builder `{}` here; there are: {}", args.builder, known.join(", "));
        return Err(Failure::new(Code::Generic, message));
    };
    if args.json {
        context.screen.line(format!("{:#}", serde_json::json!(view)))?;
    } else {
        context.screen.data(columns(&facts(view)).as_bytes())?;
    }
    Ok(0)
}

fn facts(view: &View) -> Vec<[String; 2]> {
    let mut rows = Vec::new();
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push([name.to_owned(), value]);
        }
    };
    put("builder", view.name.clone());
    put("on", view.on.clone());
    put("remote", view.os.clone().unwrap_or_default());
    put("state", view.state.clone());
    put("doing", view.doing.clone());
    put("again in", view.again_in_ms.map(|wait| format!("{} s", wait.div_ceil(1000))).unwrap_or_default());
    if let Some(reason) = &view.reason {
        put("reason", reason.message.clone());
        for hint in reason.hint.iter().flat_map(|hint| hint.lines()) {
            put("help", hint.to_owned());
        }
    }
    put("system", view.system.clone());
    put(
        "accelerator",
        match (&view.accel, &view.accel_reason) {
            (Some(accel), Some(reason)) => format!("{accel} ({reason})"),
            (Some(accel), None) => accel.clone(),
            _ => String::new(),
        },
    );
    put("nix", view.nix.clone().unwrap_or_default());
    put("builds", format!("{} of {}", view.connections, view.max_jobs));
    put("waiting", if view.waiting == 0 { String::new() } else { view.waiting.to_string() });
    put("features", view.features.join(" "));
    put("store", view.store.clone());
    if let Some(health) = &view.health {
        let space = |mib: Option<u64>| mib.map(|mib| format!("{} GiB", mib >> 10)).unwrap_or_default();
        put("disk free", space(health.disk_free_mib));
        put("remote's", space(health.remote_disk_free_mib));
        let load = |load: u32| format!("{}.{:02}", load / 100, load % 100);
        put("load", health.load_centi.map(load).unwrap_or_default());
    }
    for warning in &view.warnings {
        put("warning", warning.clone());
    }
    rows
}

/// Prints what happened.
pub(super) fn logs(args: &Logs, home: &Home, context: &Context) -> Outcome {
    let request = Request::Logs { builder: args.builder.clone(), follow: args.follow };
    let failed = |error| home.failure(error);
    let mut asked = client::ask(&home.socket(), &request).map_err(failed)?;
    if args.follow {
        asked = asked.patiently().map_err(failed)?;
    }
    while let Some(reply) = asked.line().map_err(failed)? {
        if let Some(line) = reply.line {
            let at = i64::try_from(line.at).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
            let at = at.map(|at| at.to_string()).unwrap_or_default();
            context.screen.line(format!("{at} {}: {}", line.builder, line.text))?;
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::{View, table};

    #[test]
    fn a_builder_that_failed_says_why() {
        let reason =
            serde_json::from_str(r#"{"kind":"auth","message":"lender@h does not let us in"}"#).unwrap();
        let view = |name: &str, state: &str| View {
            name: name.into(),
            on: "lender@h".into(),
            system: "x86_64-linux".into(),
            state: state.into(),
            max_jobs: 4,
            ..View::default()
        };
        let failed = View { reason: Some(reason), ..view("b", "failed") };
        assert_eq!(
            table(&[view("a", "ready"), failed]),
            "BUILDER  ON        SYSTEM        STATE   UP  BUILDS  WAITING\n\
             a        lender@h  x86_64-linux  ready       0/4\n\
             b        lender@h  x86_64-linux  failed      0/4              lender@h does not let us in\n"
        );
    }
}

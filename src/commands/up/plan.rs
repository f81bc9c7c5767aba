//! What `up` would do, printed.

use crate::commands::Context;
use crate::commands::instance::failure;
use crate::lifecycle::{Plan, Site};
use crate::outcome::Outcome;

/// Prints the command that would be run, without creating or starting anything, and says what does not exist yet.
pub(super) fn print_command(plan: &Plan, site: &Site, context: &Context) -> Outcome {
    let (line, missing) = plan.command_line(site).map_err(failure)?;
    context.screen.line(line)?;
    if !missing.is_empty() {
        let words = missing.join(" and ");
        context.screen.note(format!("{words} will be created by the first `civm up {}`", plan.place.name));
    }
    context.screen.note("run by hand, the guest gets an empty share: no host key, users or secrets");
    Ok(0)
}

/// Prints what would be started, in the words of host.yaml.
pub(super) fn print(plan: &Plan, site: &Site, context: &Context) -> Outcome {
    let (_, missing) = plan.command_line(site).map_err(failure)?;
    let spec = &plan.spec;
    let ports: Vec<String> = spec
        .forwards
        .iter()
        .map(|forward| match forward.host_port {
            0 => format!("a free port -> {}", forward.guest_port),
            port => format!("{}:{port} -> {}", forward.address, forward.guest_port),
        })
        .collect();
    let secrets = match spec.secrets.len() {
        _ if plan.request.without_secrets => "none, as asked".to_owned(),
        count => count.to_string(),
    };
    let rows = [
        ("instance", plan.place.name.clone()),
        ("host", spec.name.clone()),
        ("arch", spec.arch.to_string()),
        ("cpus", spec.cpus.to_string()),
        ("memory", spec.memory.to_string()),
        ("disk", format!("{} ({})", plan.disk_path().display(), spec.disk)),
        ("ports", ports.join(", ")),
        ("secrets", secrets),
        ("to be made", if missing.is_empty() { "nothing".to_owned() } else { missing.join(", ") }),
    ];
    for (name, value) in rows {
        context.screen.line(format!("{name:<11} {value}"))?;
    }
    if let Some(disk) = plan.removes() {
        context.screen.line(format!("to be lost  the disk {}", disk.display()))?;
    }
    Ok(0)
}

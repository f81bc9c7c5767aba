//! `civm apply INSTANCE`.

use serde_json::json;

use super::Context;
use super::instance::{failure, site};
use super::up::Watch;
use crate::cli::instance::Apply;
use crate::lifecycle::{self, Applied};
use crate::outcome::Outcome;

/// Changes a running guest, and prints what was changed, a line each.
pub(super) fn run(args: &Apply, context: &Context) -> Outcome {
    let site = site(context)?;
    let mut watch = Watch::new(context.screen, &args.instance);
    let applied = lifecycle::apply(&site, &args.instance, args.dry_run, &mut watch);
    watch.finish();
    let applied = applied.map_err(failure)?;
    if args.json {
        let Applied { changes, restart_for } = &applied;
        let value = json!({
            "dry_run": changes.dry_run,
            "changes": changes.changes,
            "steps": changes.steps,
            "warnings": changes.warnings,
            "left_out": changes.left_out,
            "restart_for": restart_for,
        });
        context.screen.line(format!("{value:#}"))?;
    } else {
        print(args, &applied, context)?;
    }
    Ok(0)
}

fn print(args: &Apply, applied: &Applied, context: &Context) -> Result<(), std::io::Error> {
    let Applied { changes, restart_for } = applied;
    for change in &changes.changes {
        context.screen.line(format!("{} {} {}", change.how.name(), change.what.name(), change.name))?;
    }
    for step in &changes.steps {
        context.screen.line(format!("{} {}", step.verb.name(), step.unit))?;
    }
    if changes.left_out > 0 {
        context.screen.note(format!("{} more are not listed", changes.left_out));
    }
    for warning in &changes.warnings {
        context.screen.warn(warning);
    }
    for what in restart_for {
        context.screen.note(format!("`civm restart {}` brings: {what}", args.instance));
    }
    if changes.changes.is_empty() && changes.steps.is_empty() {
        context.screen.note(format!("`{}` is as its host.yaml says", args.instance));
    }
    Ok(())
}

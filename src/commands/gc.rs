//! `civm gc`: what nobody needs any more.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::image::{Images, bytes, short};
use super::instance::instance_failure;
use super::screen::counted;
use super::{Context, project};
use crate::cli::gc::Gc;
use crate::image::{debian, disk, stored, templates};
use crate::instance::Home;
use crate::instance::state::Limits;
use crate::lifecycle;
use crate::outcome::{Failure, Outcome};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Something that was removed, or would be.
pub(super) struct Gone {
    kind: &'static str,
    paths: Vec<PathBuf>,
    size: u64,
    reason: String,
}

pub(super) fn run(args: &Gc, context: &Context) -> Outcome {
    let limits =
        Limits { keep_logs: DAY * args.age.older_than, gone_hosts: true, gone_projects: args.gone_projects };
    let images = Images::find(context)?;
    let mut gone = leftovers(args.age.dry_run, limits, &images.cache, context)?;
    gone.extend(images.collect(args.age, context)?.into_iter().map(|image| Gone {
        kind: "image",
        reason: format!("the image {}, which no host of this project and no machine uses", short(&image.id)),
        paths: vec![images.cache.join("images").join(image.id)],
        size: image.size,
    }));
    gone.extend(images.collect_templates(args.age, context)?.into_iter().map(|template| Gone {
        kind: "template",
        reason: format!("the template {}, which no machine uses", short(&template.id)),
        paths: vec![images.cache.join("templates").join(template.id)],
        size: template.size,
    }));
    let artifacts =
        lifecycle::collect_artifacts(&context.environment, DAY * args.age.older_than, args.age.dry_run);
    gone.extend(artifacts.into_iter().map(|(path, size)| Gone {
        kind: "artifact",
        paths: vec![path],
        size,
        reason: format!("an artifact that no start has used for {} days", args.age.older_than),
    }));
    let home = Home::existing(&context.environment);
    let kept = home.map(|home| home.view().complaints()).unwrap_or_default();
    for complaint in &kept {
        context.screen.warn(format!("{complaint}: it is kept"));
    }
    if args.json {
        let list: Vec<Value> = gone.iter().map(describe).collect();
        let size: u64 = gone.iter().map(|one| one.size).sum();
        let report = json!({"dry_run": args.age.dry_run, "removed": list, "size": size, "kept": kept});
        context.screen.line(format!("{report:#}"))?;
        return Ok(0);
    }
    tell(&gone, args.age.dry_run, context)?;
    Ok(0)
}

fn describe(one: &Gone) -> Value {
    json!({"kind": one.kind, "paths": one.paths, "size": one.size, "reason": one.reason})
}

fn tell(gone: &[Gone], dry_run: bool, context: &Context) -> Result<(), Failure> {
    for one in gone {
        context.screen.line(format!("{}  {}", bytes(one.size), one.reason))?;
        for path in &one.paths {
            context.screen.detail(format!("    {}", path.display()));
        }
    }
    let size = bytes(gone.iter().map(|one| one.size).sum());
    let done = if dry_run { "would be freed" } else { "freed" };
    context.screen.note(match gone.len() {
        0 => "there is nothing to remove".to_owned(),
        count => format!("{}, {size} {done}", counted(count, "item")),
    });
    Ok(())
}

/// What killed processes and dead instances left, removed unless this is a dry run. No image is among it.
pub(super) fn leftovers(
    dry_run: bool,
    limits: Limits,
    cache: &Path,
    context: &Context,
) -> Result<Vec<Gone>, Failure> {
    let mut gone = Vec::new();
    let home = Home::existing(&context.environment);
    for one in home.map(|home| home.garbage(limits)).unwrap_or_default() {
        if dry_run || one.remove().map_err(instance_failure)? {
            gone.push(Gone { kind: "instance", paths: one.paths, size: one.size, reason: one.reason });
        }
    }
    let unfinished = stored::unfinished(cache, &context.environment)
        .map_err(|error| super::instance::image_failure(&error))?;
    gone.extend(unfinished.into_iter().map(|one| Gone {
        kind: "build",
        paths: vec![one.path],
        size: one.size,
        reason: "an image whose build was killed".to_owned(),
    }));
    let project = project::find(context).ok();
    let disks = project.as_ref().map(|project| disk::unfinished(project.root())).unwrap_or_default();
    gone.extend(disks.into_iter().map(|path| Gone {
        kind: "disk",
        size:
            std::fs::metadata(&path).map_or(0, |found| std::os::unix::fs::MetadataExt::blocks(&found) * 512),
        paths: vec![path],
        reason: "a new disk that was never finished".to_owned(),
    }));
    if !dry_run {
        debian::sweep(cache, &context.environment);
        templates::sweep(cache, &context.environment);
        if let Some(project) = &project {
            disk::sweep(project.root());
        }
        // What could not be removed is not reported as removed.
        gone.retain(|one| one.kind == "instance" || !one.paths.iter().any(|path| path.exists()));
    }
    Ok(gone)
}

impl Gone {
    /// One line on it.
    pub(super) fn line(&self) -> String {
        format!("{} ({})", self.reason, bytes(self.size))
    }
}

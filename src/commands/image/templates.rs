//! Templates of warm starts, as `civm image` shows, makes and removes them.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::{Images, JUST_NOW, Removed, ago, bytes, failure, life, seconds, short};
use crate::cli::image::{Age, Warm};
use crate::commands::up::Watch;
use crate::commands::{Context, project, screen};
use crate::host::parcel::Order;
use crate::host::spec::{Resources, Size, Spec};
use crate::image::Error;
use crate::image::templates::{self, Template};
use crate::lifecycle;
use crate::outcome::{Failure, Outcome};

/// Makes those of hosts.
pub(super) fn warm(args: &Warm, context: &Context) -> Outcome {
    let project = project::find(context)?;
    let resources = Resources {
        cpus: args.resources.cpus,
        memory: args.resources.memory.map(Size::mebibytes),
        disk: args.resources.disk.map(Size::mebibytes),
        forwards: Vec::new(),
    };
    let specs = args.hosts.iter().map(|host| {
        let impossible = |reason| life(lifecycle::Error::Resources(reason));
        project::load(&project, host)?.with_resources(&resources).map_err(impossible)
    });
    let specs = specs.collect::<Result<Vec<Spec>, Failure>>()?;
    if let Some(spec) = specs.iter().find(|spec| spec.nixos().is_some()) {
        let reason = format!("`{}` is a NixOS configuration, whose runner always boots it", spec.name);
        return Err(life(lifecycle::Error::NotWarm(reason)));
    }
    for spec in specs {
        let mut watch = Watch::new(context.screen, &spec.name);
        let (order, environment) = (Order::of(&spec), &context.environment);
        let made = lifecycle::make_template(&order, None, args.accel.into(), environment, &mut watch);
        watch.finish();
        context.screen.note(match made.map_err(life)? {
            true => format!("{}: the template is made", spec.name),
            false => format!("{}: there is a template already", spec.name),
        });
    }
    Ok(0)
}

/// All of them, as a table; nothing where there are none.
pub(super) fn table(list: &[Template]) -> String {
    if list.is_empty() {
        return String::new();
    }
    let mut rows = vec![["TEMPLATE", "IMAGE", "MACHINE", "SIZE", "LAST USED", "MACHINES"].map(str::to_owned)];
    for template in list {
        let shape = &template.description;
        let users = template.users();
        rows.push([
            short(&template.id).to_owned(),
            short(&shape.image).to_owned(),
            format!(
                "{} cpus, {} of memory, {} of disk, {}",
                shape.cpus,
                bytes(u64::from(shape.memory_mib) << 20),
                bytes(shape.disk_mib << 20),
                shape.accel
            ),
            bytes(template.size),
            ago(template.last_used),
            if users.is_empty() { String::new() } else { users.len().to_string() },
        ]);
    }
    format!("\n{}", screen::columns(&rows))
}

/// Those of an image.
pub(super) fn describe(image: &str, list: &[Template]) -> Vec<Value> {
    let of_image = list.iter().filter(|template| template.description.image == image);
    of_image
        .map(|template| {
            json!({
                "id": template.id,
                "directory": template.dir,
                "machine": template.description,
                "size": template.size,
                "last_used": seconds(template.last_used),
                "used_by": template.users(),
            })
        })
        .collect()
}

impl Images {
    /// Removes the templates that nobody has used for a while, and those whose image is gone; says which.
    pub(in crate::commands) fn collect_templates(
        &self,
        age: Age,
        context: &Context,
    ) -> Result<Vec<Removed>, Failure> {
        let oldest = SystemTime::now().checked_sub((super::DAY * age.older_than).max(JUST_NOW));
        let is_old = |template: &&Template| {
            let has_image = self.stored.iter().any(|image| image.id == template.description.image);
            !has_image || oldest.is_some_and(|oldest| template.last_used <= oldest)
        };
        let mut removed = Vec::new();
        for template in self.templates.iter().filter(is_old).filter(|one| one.users().is_empty()) {
            let size = match age.dry_run {
                true => template.size,
                false => match templates::remove(template, &self.cache, &context.environment) {
                    Err(Error::InUse { .. }) => continue,
                    size => size.map_err(|error| failure(&error))?,
                },
            };
            removed.push(Removed { id: template.id.clone(), size });
        }
        Ok(removed)
    }
}

//! `civm image …`: the images in the cache.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::instance::{failure as life, image_failure as failure};
use super::screen::counted;
use super::up::Watch;
use super::{Context, project};
use crate::cli::image::{Age, Build, Command, Image, Rm};
use crate::edge::terminal::{self, Prompt as _, Terminal};
use crate::host::parcel::Order;
use crate::host::spec::Spec;
use crate::image::Error;
use crate::image::stored::{self, Stored};
use crate::image::templates::Template;
use crate::lifecycle;
use crate::outcome::{Code, Failure, Outcome};

mod templates;

/// Digits by which an image is shown and known.
const SHORT: usize = 12;
/// Who has just asked for an image may not have begun to read it.
const JUST_NOW: Duration = Duration::from_secs(10 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn run(args: &Image, context: &Context) -> Outcome {
    match &args.command {
        Command::Ls(args) => ls(args.json, context),
        Command::Build(args) => build(args, context),
        Command::Warm(args) => templates::warm(args, context),
        Command::Rm(args) => rm(args, context),
        Command::Gc(args) => gc(args.age, args.json, context),
    }
}

/// The cache of images, and which hosts of the project need which image.
pub(super) struct Images {
    pub(super) cache: PathBuf,
    pub(super) stored: Vec<Stored>,
    pub(super) templates: Vec<Template>,
    /// By the image's name. Empty outside of a project.
    pub(super) hosts: HostsOfImage,
    /// Hosts that cannot be read, so that nobody knows what they need.
    unknown: Vec<String>,
}

/// An image that was removed, or would be.
pub(super) struct Removed {
    pub(super) id: String,
    pub(super) size: u64,
}

impl Images {
    pub(super) fn find(context: &Context) -> Result<Self, Failure> {
        let cache = cache(context)?;
        let stored = stored::list(&cache, &context.environment).map_err(|error| failure(&error))?;
        let templates = crate::image::templates::list(&cache, &context.environment);
        let templates = templates.map_err(|error| failure(&error))?;
        let (hosts, unknown) = needed(context)?;
        Ok(Self { cache, stored, templates, hosts, unknown })
    }

    /// The hosts of this project that start from an image.
    fn hosts_of(&self, image: &Stored) -> &[String] {
        self.hosts.get(&image.id).map_or(&[], Vec::as_slice)
    }

    /// Removes the images that nobody has used for a while, and that no host of this project needs; says which.
    pub(super) fn collect(&self, age: Age, context: &Context) -> Result<Vec<Removed>, Failure> {
        if !self.unknown.is_empty() {
            let hosts = self.unknown.join(", ");
            context
                .screen
                .warn(format!("no image is removed while it is not known what these hosts need: {hosts}"));
            return Ok(Vec::new());
        }
        let oldest = SystemTime::now().checked_sub((DAY * age.older_than).max(JUST_NOW));
        let is_old = |image: &&Stored| oldest.is_some_and(|oldest| image.last_used <= oldest);
        let unneeded = |image: &&Stored| self.hosts_of(image).is_empty() && image.users().is_empty();
        let mut removed = Vec::new();
        for image in self.stored.iter().filter(is_old).filter(unneeded) {
            let size = match age.dry_run {
                true => image.size,
                false => match stored::remove(image, &self.cache, &context.environment) {
                    // Somebody has begun to use it meanwhile.
                    Err(Error::InUse { .. }) => continue,
                    size => size.map_err(|error| failure(&error))?,
                },
            };
            removed.push(Removed { id: image.id.clone(), size });
        }
        Ok(removed)
    }
}

/// Hosts by the name of their image.
type HostsOfImage = BTreeMap<String, Vec<String>>;

/// The images of the project's hosts, and the hosts that cannot be read.
fn needed(context: &Context) -> Result<(HostsOfImage, Vec<String>), Failure> {
    let (mut needed, mut unknown) = (HostsOfImage::new(), Vec::new());
    let project = match project::find(context) {
        Ok(project) => project,
        Err(failure) if context.project.is_some() => return Err(failure),
        Err(_) => return Ok((needed, unknown)),
    };
    for host in project.hosts().map_err(project::failure)? {
        match project::load(&project, &host) {
            // Nix keeps what such a machine is made of.
            Ok(spec) if spec.nixos().is_some() => {}
            Ok(spec) => {
                let id = lifecycle::image_id(&Order::of(&spec), &context.environment).map_err(life)?;
                needed.entry(id).or_default().push(host);
            }
            Err(failure) => {
                context.screen.warn(failure.message);
                unknown.push(host);
            }
        }
    }
    Ok((needed, unknown))
}

fn ls(as_json: bool, context: &Context) -> Outcome {
    let images = Images::find(context)?;
    if as_json {
        let list: Vec<Value> = images.stored.iter().map(|image| describe(image, &images)).collect();
        context.screen.line(format!("{:#}", Value::Array(list)))?;
        return Ok(0);
    }
    if images.stored.is_empty() {
        context.screen.note(format!("no image is built in `{}`", images.cache.display()));
        return Ok(0);
    }
    let mut rows = vec![["IMAGE", "SUITE", "SIZE", "LAST USED", "HOSTS", "MACHINES"].map(str::to_owned)];
    for image in &images.stored {
        let suite = image.description.as_ref().map_or_else(
            || "unknown".to_owned(),
            |described| format!("{} {}", described.suite, described.arch),
        );
        let users = image.users();
        let state = if image.complete { "" } else { " (incomplete)" };
        rows.push([
            format!("{}{state}", short(&image.id)),
            suite,
            bytes(image.size),
            ago(image.last_used),
            images.hosts_of(image).join(" "),
            if users.is_empty() { String::new() } else { users.len().to_string() },
        ]);
    }
    let table = super::screen::columns(&rows) + &templates::table(&images.templates);
    context.screen.data(table.as_bytes())?;
    Ok(0)
}

fn describe(image: &Stored, images: &Images) -> Value {
    json!({
        "id": image.id,
        "directory": image.dir,
        "suite": image.description.as_ref().map(|described| &described.suite),
        "arch": image.description.as_ref().map(|described| &described.arch),
        "packages": image.description.as_ref().map(|described| &described.packages),
        "complete": image.complete,
        "size": image.size,
        "last_used": seconds(image.last_used),
        "hosts": images.hosts_of(image),
        "used_by": image.users(),
        "templates": templates::describe(&image.id, &images.templates),
    })
}

fn build(args: &Build, context: &Context) -> Outcome {
    let project = project::find(context)?;
    let specs = args.hosts.iter().map(|host| project::load(&project, host));
    let specs: Vec<Spec> = specs.collect::<Result<_, Failure>>()?;
    if let Some(spec) = specs.iter().find(|spec| spec.nixos().is_some()) {
        let name = &spec.name;
        return Err(Failure::new(
            Code::CouldNotReadInput,
            format!(
                "`{name}` is a NixOS configuration, which has no image: `civm up {name}` builds it with nix"
            ),
        ));
    }
    let mut built = Vec::new();
    for spec in &specs {
        let screen = context.screen;
        let (_, is_built) = lifecycle::locate_image(&Order::of(spec), &context.environment).map_err(life)?;
        let mut watch = Watch::new(screen, &spec.name);
        let image = lifecycle::build_image(&Order::of(spec), &context.environment, &mut watch);
        watch.finish();
        let (image, fresh) = (image.map_err(life)?, !is_built);
        if !fresh {
            screen.note(format!("{}: the image is built already", spec.name));
        }
        if !args.json {
            screen.line(format!("{} {}", short(&image.id), spec.name))?;
        }
        built.push(json!({"host": spec.name, "id": image.id, "built": fresh, "disk": image.disk}));
    }
    if args.json {
        context.screen.line(format!("{:#}", Value::Array(built)))?;
    }
    Ok(0)
}

fn rm(args: &Rm, context: &Context) -> Outcome {
    let images = Images::find(context)?;
    let (mut chosen, mut templates): (Vec<&Stored>, Vec<&Template>) = (Vec::new(), Vec::new());
    for word in &args.images {
        match choose(word, &images)? {
            Chosen::Image(image) if !chosen.contains(&image) => chosen.push(image),
            Chosen::Template(template) if !templates.contains(&template) => templates.push(template),
            _ => {}
        }
    }
    for image in &chosen {
        let users = image.users();
        if !users.is_empty() {
            return Err(failure(&Error::InUse { id: image.id.clone(), users: users.join(", ") }));
        }
        // They are of no use without it.
        let of_image = images.templates.iter().filter(|template| template.description.image == image.id);
        templates.extend(of_image.filter(|template| !templates.contains(template)).collect::<Vec<_>>());
    }
    let size: u64 = chosen.iter().map(|image| image.size).sum();
    let size = size + templates.iter().map(|template| template.size).sum::<u64>();
    for image in &chosen {
        let hosts = images.hosts_of(image);
        if !hosts.is_empty() {
            let hosts = hosts.join(", ");
            context.screen.note(format!("{}: the next new disk of {hosts} needs it again", short(&image.id)));
        }
    }
    let what = match (chosen.as_slice(), templates.as_slice()) {
        ([one], []) => short(&one.id).to_owned(),
        ([], [one]) => short(&one.id).to_owned(),
        (_, []) => counted(chosen.len(), "image"),
        ([], _) => counted(templates.len(), "template"),
        _ => format!("{} and {}", counted(chosen.len(), "image"), counted(templates.len(), "template")),
    };
    if !args.yes {
        if !terminal::can_ask() {
            return Err(Failure::new(
                Code::Generic,
                "cannot ask whether to remove them: this is not a terminal",
            )
            .help("--yes removes them without asking"));
        }
        let question = format!("remove {what} ({})?", bytes(size));
        if !Terminal.confirm(&question, false).unwrap_or(false) {
            return Err(Failure::new(Code::Generic, format!("{what} was not removed")));
        }
    }
    let (cache, environment) = (&images.cache, &context.environment);
    let removed = |id: &str, size| context.screen.note(format!("removed {} ({})", short(id), bytes(size)));
    for template in templates {
        let size = crate::image::templates::remove(template, cache, environment);
        removed(&template.id, size.map_err(|error| failure(&error))?);
    }
    for image in chosen {
        let size = stored::remove(image, cache, environment).map_err(|error| failure(&error))?;
        removed(&image.id, size);
    }
    Ok(0)
}

/// What is to be removed.
#[derive(Clone, Copy)]
enum Chosen<'a> {
    Image(&'a Stored),
    Template(&'a Template),
}

/// The image or template that a word means: its name, or as many of its first digits as tell it from the others.
fn choose<'a>(word: &str, images: &'a Images) -> Result<Chosen<'a>, Failure> {
    let begins = |id: &str| !word.is_empty() && id.starts_with(word);
    let of_images = images.stored.iter().filter(|image| begins(&image.id)).map(Chosen::Image);
    let templates = images.templates.iter().filter(|template| begins(&template.id)).map(Chosen::Template);
    let found: Vec<Chosen<'_>> = of_images.chain(templates).collect();
    let wrong = |message: String| {
        Err(Failure::new(Code::NoFileSpecified, message).help("`civm image ls` lists the images"))
    };
    match found.as_slice() {
        [one] => Ok(*one),
        [] => wrong(format!("there is no image `{word}`")),
        more => wrong(format!("`{word}` is the beginning of {} images", more.len())),
    }
}

fn gc(age: Age, as_json: bool, context: &Context) -> Outcome {
    let images = Images::find(context)?;
    let templates = images.collect_templates(age, context)?;
    let removed = images.collect(age, context)?;
    let total: u64 = removed.iter().chain(&templates).map(|one| one.size).sum();
    if as_json {
        let list = |list: &[Removed]| {
            list.iter().map(|one| json!({"id": one.id, "size": one.size})).collect::<Vec<Value>>()
        };
        let (images, templates) = (list(&removed), list(&templates));
        let report = json!({"dry_run": age.dry_run, "images": images, "templates": templates, "size": total});
        context.screen.line(format!("{report:#}"))?;
        return Ok(0);
    }
    for one in templates.iter().chain(&removed) {
        context.screen.line(format!("{}  {}", short(&one.id), bytes(one.size)))?;
    }
    let done = if age.dry_run { "would be removed" } else { "removed" };
    let images = counted(removed.len(), "image");
    context.screen.note(match (removed.len(), templates.len()) {
        (0, 0) => "there is no image to remove".to_owned(),
        (_, 0) => format!("{images} {done}, {}", bytes(total)),
        (_, count) => format!("{images} and {} {done}, {}", counted(count, "template"), bytes(total)),
    });
    Ok(0)
}

/// Where images are kept.
fn cache(context: &Context) -> Result<PathBuf, Failure> {
    lifecycle::image_cache(&context.environment).ok_or_else(|| life(lifecycle::Error::NoCache))
}

/// The first digits of an image's name.
pub(super) fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

/// A size for people: `1.4 GiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(size, _)| count >= *size) {
        Some((size, unit)) => {
            let tenths = u128::from(count) * 10 / u128::from(*size);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{count} bytes"),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn ago(time: SystemTime) -> String {
    let age = SystemTime::now().duration_since(time).unwrap_or_default().as_secs();
    format!("{} ago", super::status::age(age))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_short() {
        assert_eq!(
            [0, 1023, 1024, 1_500_000, 3 << 30].map(bytes),
            ["0 bytes", "1023 bytes", "1.0 KiB", "1.4 MiB", "3.0 GiB"]
        );
    }
}

//! Templates that are made unasked, and the room that all of them may take.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use nix::sys::statvfs::statvfs;
use nix::unistd::setsid;
use serde::{Deserialize, Serialize};

use crate::edge::environment::Environment;
use crate::edge::frame;
use crate::edge::hardening::forbid_core_dumps;
use crate::edge::lock::Lock;
use crate::edge::process;
use crate::host::parcel::Order;
use crate::host::spec::Size;
use crate::image::{Error as ImageError, GUEST_BINARY, templates};
use crate::instance::accel::AccelRequest;
use crate::instance::preflight::Resources;
use crate::lifecycle::{Error, Observer, Progress, image, warm};
use crate::secrets;

/// Names the room that templates may take in the cache, as `4G`. With `0` none is made unasked.
const LIMIT: &str = "CIVM_TEMPLATES";
const USUAL_LIMIT: u64 = 4 << 30;
/// What stays free on the disk when one is made unasked, besides what it may take at most.
const FREE: u64 = 4 << 30;
/// Hidden subcommand of who makes one.
const MAKER: &str = "__template";

/// How much room templates may take, in bytes.
pub(super) fn limit(environment: &Environment) -> u64 {
    let text = environment.non_empty(LIMIT).and_then(|text| text.to_str().map(str::to_owned));
    match text.as_deref().map(str::trim) {
        Some("0") => 0,
        Some(text) => Size::parse(text).map_or(USUAL_LIMIT, Size::bytes),
        None => USUAL_LIMIT,
    }
}

/// Removes those that were used least lately until all have room; the one named `newest` stays.
pub(super) fn make_room(newest: &str, cache: &Path, environment: &Environment) -> Result<(), ImageError> {
    let limit = Some(limit(environment)).filter(|limit| *limit > 0).unwrap_or(USUAL_LIMIT);
    let mut list = templates::list(cache, environment)?;
    list.sort_by_key(|template| template.last_used);
    let mut total: u64 = list.iter().map(|template| template.size).sum();
    for template in list.iter().filter(|template| template.id != newest) {
        if total <= limit {
            break;
        }
        match templates::remove(template, cache, environment) {
            Ok(size) => total = total.saturating_sub(size),
            Err(ImageError::InUse { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What the maker is told.
#[derive(Serialize, Deserialize)]
struct Task {
    order: Order,
    /// An image of the cache, where it is not the order's own.
    image: Option<String>,
    accel: AccelRequest,
}

/// Makes a template in a process of its own, which nobody waits for, where there is room for it, and memory for its
/// machine beside the one that runs.
pub(super) fn make_later(order: &Order, image: Option<&str>, accel: AccelRequest, environment: &Environment) {
    let Some(cache) = image::cache(environment) else { return };
    let most = (order.memory_mib << 20).saturating_add(1 << 30);
    if limit(environment) == 0
        || free(&cache).is_none_or(|free| free < FREE.saturating_add(most))
        || Resources::of_machine(None).available_mib < order.memory_mib
    {
        return;
    }
    // A machine starts without it just as well, so that nothing is said where this fails.
    let task = Task { order: order.clone(), image: image.map(str::to_owned), accel };
    let _ = spawn(&task, environment);
}

fn spawn(task: &Task, environment: &Environment) -> io::Result<()> {
    let civm = std::env::current_exe()?;
    let variables = for_maker(environment);
    // Whoever works on this machine comes first.
    let mut command = match environment.find_program("nice") {
        Some(nice) => {
            let mut command = process::command(nice, &variables);
            command.args(["-n", "19"]).arg(civm);
            command
        }
        None => process::command(civm, &variables),
    };
    command.arg(MAKER).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut to = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    frame::send(&mut to, task)?;
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// What the maker needs of the caller's variables: to build an image, and to find the cache. It lives on for minutes, and keys
/// are not among them.
fn for_maker(environment: &Environment) -> Environment {
    let own = ["XDG_CACHE_HOME", LIMIT, image::SOURCES, GUEST_BINARY];
    let given = own.into_iter().filter_map(|name| Some((name, environment.get(name)?)));
    given.fold(environment.for_package_tools(), |all, (name, value)| all.with(name, value))
}

fn free(path: &Path) -> Option<u64> {
    let found = statvfs(path).ok()?;
    found.blocks_available().checked_mul(found.fragment_size())
}

/// Runs the hidden subcommand, if the arguments (without the program's name) name it.
#[must_use]
pub fn hidden(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    (arguments.into_iter().next()? == MAKER).then(|| match make() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

fn make() -> Result<(), Error> {
    forbid_core_dumps();
    // Away from the caller's terminal and its signals.
    let _ = setsid();
    let failed = |source| Error::File { what: "cannot read", path: "/dev/stdin".into(), source };
    let Some(Task { order, image, accel }) = frame::receive(&mut io::stdin()).map_err(failed)? else {
        return Ok(());
    };
    let environment = Environment::of_process();
    let cache = image::cache(&environment).ok_or(Error::NoCache)?;
    // One at a time: the rest of the machine is somebody else's.
    let busy = |source| Error::File { what: "cannot lock", path: cache.clone(), source };
    let Some(_turn) = Lock::try_exclusive(&cache).map_err(busy)? else { return Ok(()) };
    warm::make_template(&order, image.as_deref(), accel, &environment, &mut Silent).map(drop)
}

/// Nobody.
struct Silent;

impl Observer for Silent {
    fn tell(&mut self, _: Progress<'_>) {}

    fn boots_without_secrets(&mut self, _: &str, _: &secrets::Error) -> Option<bool> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{LIMIT, USUAL_LIMIT, for_maker, limit};
    use crate::edge::environment::Environment;

    #[test]
    fn the_maker_finds_the_cache_and_is_given_no_key() {
        let caller =
            [("XDG_CACHE_HOME", "/c"), (LIMIT, "1G"), ("CIVM_APT_SOURCES", "/s"), ("SOPS_AGE_KEY", "a key")];
        let caller =
            caller.into_iter().fold(Environment::empty(), |all, (name, value)| all.with(name, value));
        let given = for_maker(&caller);
        assert!(
            ["XDG_CACHE_HOME", LIMIT, "CIVM_APT_SOURCES"]
                .iter()
                .all(|name| given.get(name) == caller.get(name))
        );
        assert_eq!(given.get("SOPS_AGE_KEY"), None);
    }

    #[test]
    fn the_room_for_templates_is_set_by_a_variable() {
        let set = |text: &str| limit(&Environment::empty().with(LIMIT, text));
        assert_eq!([set("0"), set("2G"), set("512M")], [0, 2 << 30, 512 << 20]);
        assert_eq!([set(""), set("much"), limit(&Environment::empty())], [USUAL_LIMIT; 3]);
    }
}

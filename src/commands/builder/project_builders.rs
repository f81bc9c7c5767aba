//! The builders of a project: what they are made of, and the keeper that holds them in the background.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use super::{Home, own_path};
use crate::builder::keeper::client;
use crate::builder::keeper::socket::Request;
use crate::builder::parcels::{KEY, ON_KEY};
use crate::builder::place::Place;
use crate::commands::Context;
use crate::commands::instance::{failure, site};
use crate::edge::{atomic, process};
use crate::host::parcel::{PARCEL, ROOTFS};
use crate::host::rootfs::{Entry, Kind};
use crate::image::GUEST_BINARY;
use crate::instance::deadline::scaled;
use crate::lifecycle::{self, Found, Packing};
use crate::outcome::{Code, Failure};

/// How long a keeper may take until it listens.
const BEGIN: Duration = Duration::from_secs(20);
/// How often it is looked for.
const POLL: Duration = Duration::from_millis(20);
/// Variables of the caller that a keeper in the background needs besides the ordinary ones.
const PASSED_ON: [&str; 3] = ["SSH_AUTH_SOCK", GUEST_BINARY, "XDG_CACHE_HOME"];

/// The builders of these names, or all, with their keys if `keys`. Where all are meant, a host.yaml that cannot be used
/// is told, and another exit code in the end.
pub(super) fn chosen(
    names: &[String],
    of: Option<&str>,
    keys: bool,
    context: &Context,
) -> Result<(Vec<Packing>, Option<Code>), Failure> {
    let Found { packings: found, unread } =
        lifecycle::builders(&site(context)?, names, of, keys).map_err(failure)?;
    let mut code = None;
    if names.is_empty() {
        for (host, error) in unread {
            let failure = failure(error);
            context.screen.warn(format!("the builders of host `{host}` are left out: {}", failure.message));
            code = code.or(Some(failure.code));
        }
    }
    if found.is_empty() {
        return Err(Failure::new(Code::Generic, "no host of this project deploys builders")
            .help("a builder is deployed by a host's `nix.builders.NAME` with `deploy:`, `on:` and `on_public_key:`"));
    }
    Ok((found, code))
}

/// Writes what a builder is made of where a keeper finds it.
pub(super) fn write(parcels: &Path, packing: &Packing) -> Result<(), String> {
    let parcel = &packing.packed.parcel;
    let dir = parcels.join(&parcel.builder.name);
    let failed = |error: io::Error| format!("cannot write {}: {error}", dir.display());
    let fresh = |path: &Path| match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    private(&dir).map_err(failed)?;
    let rootfs = dir.join(ROOTFS);
    fresh(&rootfs).and_then(|()| lay(&rootfs, &packing.packed.rootfs)).map_err(failed)?;
    for (name, key) in [(ON_KEY, &packing.on_key), (KEY, &packing.key)] {
        if let Some(key) = key {
            atomic::create(&dir.join(name), key, 0o600, true).map_err(|error| error.to_string())?;
        }
    }
    // The parcel comes last: a keeper takes what has one.
    let text = serde_json::to_vec_pretty(parcel).map_err(|error| error.to_string())?;
    atomic::update(&dir.join(PARCEL), &text, 0o600).map_err(|error| error.to_string())
}

fn private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn lay(rootfs: &Path, entries: &[Entry]) -> io::Result<()> {
    private(rootfs)?;
    for Entry { path, mode, kind } in entries {
        let path = rootfs.join(path);
        if let Some(parent) = path.parent() {
            private(parent)?;
        }
        match kind {
            Kind::Directory => private(&path)?,
            Kind::Link(target) => symlink(target, &path)?,
            Kind::File(bytes) => fs::write(&path, bytes)?,
        }
        if !matches!(kind, Kind::Link(_)) {
            // The keeper must be able to read it, whatever mode it has in the guest.
            fs::set_permissions(
                &path,
                fs::Permissions::from_mode(mode | if path.is_dir() { 0o700 } else { 0o600 }),
            )?;
        }
    }
    Ok(())
}

/// Makes sure that a keeper runs, and that it knows these builders.
pub(super) fn keep(home: &Home, packings: &[Packing], context: &Context) -> Result<(), Failure> {
    let Home::Project(root, place) = home else { return Ok(()) };
    if client::ask(&place.socket(), &Request::Version).is_err() {
        begin(root, place, context)?;
    }
    for packing in packings {
        write(&place.parcels(), packing).map_err(|error| Failure::new(Code::Generic, error))?;
    }
    Ok(())
}

fn begin(root: &Path, place: &Place, context: &Context) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(Code::Generic, format!("cannot start the keeper: {error}"));
    let environment = &context.environment;
    let (log, path) = open_log(place, context).map_err(failed)?;
    let mut command = process::command(own_path().map_err(failed)?, &environment.for_tools());
    for name in PASSED_ON {
        if let Some(value) = environment.get(name) {
            command.env(name, value);
        }
    }
    command.arg("--project").arg(root).args(["builder", "run", "--background"]);
    let errors = log.try_clone().map_err(failed)?;
    // In a group of its own it does not hear the terminal's signals, which are for the caller.
    command.process_group(0).current_dir("/").stdin(Stdio::null()).stdout(log).stderr(errors);
    let mut child = command.spawn().map_err(failed)?;
    let until = Instant::now() + scaled(BEGIN, environment);
    loop {
        if client::ask(&place.socket(), &Request::Version).is_ok() {
            return Ok(());
        }
        let ended = child.try_wait().map_err(failed)?;
        if ended.is_some_and(|status| !status.success())
            && client::ask(&place.socket(), &Request::Version).is_err()
        {
            let said = fs::read_to_string(&path).unwrap_or_default();
            let said =
                said.lines().last().unwrap_or("it says nothing").trim_start_matches("error: ").to_owned();
            // Another one may just be beginning.
            if !said.contains("runs already") {
                return Err(Failure::new(
                    Code::MachineUnavailable,
                    format!("the keeper did not start: {said}"),
                ));
            }
        }
        if Instant::now() >= until {
            return Err(Failure::new(Code::MachineUnavailable, "the keeper did not start in time")
                .help(format!("its log is {}", path.display())));
        }
        thread::sleep(POLL);
    }
}

/// The log of a keeper in the background: it stays when the keeper is gone.
fn open_log(place: &Place, context: &Context) -> io::Result<(File, PathBuf)> {
    let missing = || io::Error::other("this account has no home directory");
    let dir = context.environment.state_dir().ok_or_else(missing)?.join("civm");
    private(&dir)?;
    let name = place.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = dir.join(format!("{name}.log"));
    let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path)?;
    Ok((file, path))
}

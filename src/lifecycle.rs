//! The life of an instance, from host.yaml to its end. The one room where secrets and machines meet.
//!
//! A [`Site`] is a project and this user's state of it. A [`Request`] is what somebody asks for; a [`Plan`] is what
//! follows from it and from host.yaml, and can be looked at before anything is done. [`up`] carries it out, tells an
//! [`Observer`] how far it has come, and asks it where a person must decide. `commands` and the keeper of builders call
//! this room; nothing in it prints.

use std::time::Duration;

use crate::host::parcel::Order;
use crate::host::spec::SSH_PORT;
use crate::instance::{self, Running, launch, ssh};
use crate::lifecycle::split::Watched;

mod accounts;
mod apply;
mod artifacts;
mod builder_keys;
mod builders;
mod disk;
mod error;
mod files;
mod identity;
mod image;
mod kept;
mod lent;
mod nixos;
mod plan;
mod progress;
mod remove;
mod request;
mod restart;
mod shape;
mod share;
mod site;
mod split;
mod templates;
mod turn;
mod warm;

pub use apply::{Applied, Drift, apply};
pub use artifacts::collect as collect_artifacts;
pub use builders::{Found, Packing, builders};
pub use error::Error;
pub use image::{
    cache as image_cache, check as check_guest_binary, ensure as build_image, id as image_id,
    locate as locate_image, outlook as image_outlook,
};
pub use lent::{Lent, Prepared};
pub use nixos::configurations;
pub use plan::Plan;
pub use progress::{Observer, Progress};
pub use remove::{remains, remove};
pub use request::Request;
pub use restart::restart;
pub use shape::Shape;
pub use site::Site;
pub use split::{Split, Step, Timed};
pub use templates::hidden;
pub use warm::{Warm, make_template, try_template};

/// How long a guest may take to be ready, before `CIVM_TIMEOUT_SCALE`: a large machine without KVM needs a
/// minute.
const READY: Duration = Duration::from_secs(240);

/// What became of a request for a running instance.
#[derive(Debug)]
pub enum Up {
    /// It was ready already; nothing was done.
    WasRunning {
        /// What has changed in the project since it was started.
        drift: Drift,
    },
    /// It was started. This process holds it until it is detached.
    Started(Running),
}

/// Brings an instance up: its key is opened, its image and disk are made if need be, its files staged; then it boots,
/// and a login proves that it is ready.
///
/// # Errors
/// What stands in the way. Nothing has been started then, or it has been stopped again.
pub fn up(site: &Site, plan: Plan, observer: &mut dyn Observer) -> Result<Up, Error> {
    up_as(site, plan, None, observer)
}

/// The same with a key that is open already.
fn up_as(
    site: &Site,
    plan: Plan,
    opened: Option<identity::Identity>,
    observer: &mut dyn Observer,
) -> Result<Up, Error> {
    let mut watched = Watched::new(observer, plan.begun);
    let observer = &mut watched;
    let environment = &site.environment;
    let (turn, has_waited) = turn::take(&plan.place, observer)?;
    // Whoever had it may have made the disk, or removed it.
    let plan = if has_waited { Plan { begun: plan.begun, ..Plan::of(site, plan.request)? } } else { plan };
    if turn::is_ready(&plan.place, environment, observer)? {
        let is_ephemeral = || plan.place.record().is_some_and(|record| record.ephemeral);
        if plan.request.fresh || (plan.request.ephemeral && !is_ephemeral()) {
            // Its disk stays: to say that it is up would be to say that the disk is new.
            return Err(instance::Error::Running(plan.place.name.clone()).into());
        }
        let drift = apply::drift(site, plan).or_else(|error| match error {
            // That it runs is true all the same.
            Error::Damaged { .. } => {
                observer.tell(Progress::Warning(error.to_string()));
                Ok(Drift::default())
            }
            error => Err(error),
        });
        return Ok(Up::WasRunning { drift: drift? });
    }
    let Plan { begun, request, mut spec, place, disk, shape, nixos } = plan;
    // Impossible requests are refused first; then come the steps that may need a person, and then those that take minutes.
    let fit = |machine, built: Option<&_>| match &nixos {
        Some(nixos) => nixos.machine(machine, &place, built),
        None => machine,
    };
    let draft = fit(plan::machine(&spec, &place, None, &disk, &request), None);
    launch::check(&site.home, &draft, environment)?;
    if spec.forwards.iter().any(|forward| forward.guest_port == SSH_PORT) {
        // Readiness is proved by a login.
        ssh::find_ssh(environment)?;
    }
    let order = Order::of(&spec);
    if nixos.is_none() {
        image::check(&order, environment)?;
    }
    let files = files::Files::read(site, &spec)?;
    observer.done(Step::Plan);
    let identity = match opened {
        Some(identity) => identity.for_spec(&mut spec),
        None => identity::host_key(site, &request, &mut spec, &place, observer)?,
    };
    observer.done(Step::Key);
    let (image, built) = match &nixos {
        None => (Some(image::ensure(&order, environment, observer)?), None),
        Some(nixos) => (None, Some(nixos.build(site, &place, !disk.will_be_kept(), observer)?)),
    };
    files.fetch(environment, observer)?;
    observer.done(Step::Image);
    let machine = fit(plan::machine(&spec, &place, image.as_ref(), &disk, &request), built.as_ref());
    let (image, template, accel, is_missing) = match image {
        Some(image) => {
            accounts::check(&spec, &image, &files.rootfs, disk.will_be_kept(), observer)?;
            let candidate = warm::Candidate {
                machine: &machine,
                image: &image,
                place: &place,
                accel: request.accel,
                qemu_as_root: request.qemu_as_root,
                environment,
            };
            let chosen = candidate.choose(request.warm, disk.will_be_kept(), observer)?;
            (Some(chosen.image), chosen.template, chosen.accel, chosen.is_missing)
        }
        None if request.warm == Warm::Require => {
            return Err(Error::NotWarm("the runner of a NixOS configuration always boots it".to_owned()));
        }
        None => (None, None, request.accel, false),
    };
    let made = match &image {
        Some(image) => disk.make(&order, image, &place, environment, observer)?,
        None => disk.leave_to_runner(&order, &place, observer)?,
    };
    observer.done(Step::Disk);
    ssh::pin(&place, &identity.public)?;
    let fingerprint = share::fingerprint(&spec, &place, &files, identity.secrets.as_deref())?;
    let staged = match &nixos {
        Some(nixos) => nixos.staged(site, &place, identity)?,
        None => share::staged(site, &spec, &place, identity, files, !disk.will_be_kept(), observer)?,
    };
    request.save(&place)?;
    shape.with_share(fingerprint).save(&place)?;
    Split::forget(&place);
    observer.done(Step::Share);
    let start = instance::Request {
        home: &site.home,
        place: &place,
        host: &spec.name,
        machine,
        accel,
        qemu_as_root: request.qemu_as_root,
        staged,
        template,
        mode: None,
        environment,
    };
    let login = || ssh::Login::new(&site.state, &place, &place.record()?, "root").ok();
    let by = if nixos.is_some() { Proof::Login } else { Proof::Report };
    let running = boot(start, made, login, by, request.ready_within.unwrap_or(READY), observer)?;
    observer.done(Step::Login);
    let split = std::mem::take(&mut observer.split);
    if let Err(error) = split.save(&place) {
        observer.tell(Progress::Warning(error.to_string()));
    }
    if is_missing {
        templates::make_later(&order, None, request.accel, environment);
    }
    observer.tell(Progress::Ready { name: &place.name, after: begun.elapsed(), split: &split });
    drop(turn);
    Ok(Up::Started(running))
}

/// What proves that a guest is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// It says so, and then a login.
    Report,
    /// A login alone, for a guest that may have no agent.
    Login,
}

/// Starts a machine whose image and disk are there, and waits until its guest is ready and, where there is a way to log
/// in, one can.
fn boot(
    start: instance::Request<'_>,
    disk: disk::Ephemeral,
    login: impl FnOnce() -> Option<ssh::Login>,
    proof: Proof,
    within: Duration,
    observer: &mut dyn Observer,
) -> Result<Running, Error> {
    let logs = start.place.path.clone();
    let mut running = instance::start(start, &mut |event| observer.tell(Progress::Instance(event)))?;
    drop(disk);
    let mut tell = |event: &instance::Event| observer.tell(Progress::Instance(event));
    let ready = match (proof, login()) {
        (Proof::Login, Some(login)) => running.wait_login(within, &login, &mut tell),
        (_, login) => running.wait_ready(within, login.as_ref(), &mut tell),
    };
    ready.map_err(|error| Error::NotReady { error, logs })?;
    Ok(running)
}

//! An instance that starts anew, with its disk and its ports.

use std::time::Duration;

use crate::host::parcel::Order;
use crate::instance::stop::{self, Patience};
use crate::lifecycle::files::Files;
use crate::lifecycle::{Error, Observer, Plan, Progress, Request, Site, Up, identity, image, up_as};

/// Stops an instance and starts it again as it was asked for, on the same disk and ports. Changes to its host.yaml and
/// its secrets take effect. One that is not running is only started.
///
/// # Errors
/// What stands in the way of its next start, before it is stopped; or it could not be stopped, or does not start again.
pub fn restart(
    site: &Site,
    name: &str,
    patience: Option<Duration>,
    observer: &mut dyn Observer,
) -> Result<Up, Error> {
    let place = site.place(name)?;
    let request = Request::last(&place)?.unwrap_or_else(|| Request {
        host: place.record().map_or(name.to_owned(), |record| record.host),
        ..Request::default()
    });
    let host = request.host.clone();
    let plan =
        || Plan::of(site, Request { host: host.clone(), name: Some(name.to_owned()), ..request.clone() });
    let Plan { request: asked, mut spec, nixos, .. } = plan()?;
    // What may fail or takes minutes comes before the running one is stopped.
    let opened = if place.is_alive() {
        let identity = identity::host_key(site, &asked, &mut spec, &place, observer)?;
        match &nixos {
            Some(nixos) => drop(nixos.build(site, &place, false, observer)?),
            None => drop(image::ensure(&Order::of(&spec), &site.environment, observer)?),
        }
        Files::read(site, &spec)?.fetch(&site.environment, observer)?;
        Some(identity)
    } else {
        None
    };
    let patience = patience.map_or(Patience::Usual(stop::GUEST), Patience::AtMost);
    let stopped = stop::down(&place, patience, &site.environment, &mut |event| {
        observer.tell(Progress::Instance(event));
    });
    match stopped {
        Ok(_) | Err(crate::instance::Error::NotRunning(_)) => {}
        Err(error) => return Err(error.into()),
    }
    up_as(site, plan()?, opened, observer)
}

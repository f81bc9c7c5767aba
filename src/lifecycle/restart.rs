//! An instance that starts anew, with its disk and its ports.

use std::time::Duration;

use crate::instance::stop::{self, Patience};
use crate::lifecycle::{Error, Observer, Plan, Progress, Request, Site, Up, up};

/// Stops an instance and starts it again as it was asked for, on the same disk and ports. Changes to its host.yaml and
/// its secrets take effect. One that is not running is only started.
///
/// # Errors
/// It was never started, could not be stopped, or does not start again.
pub fn restart(
    site: &Site,
    name: &str,
    patience: Option<Duration>,
    observer: &mut dyn Observer,
) -> Result<Up, Error> {
    let place = site.place(name)?;
    let request = Request::last(&place).unwrap_or_else(|| Request {
        host: place.record().map_or(name.to_owned(), |record| record.host),
        ..Request::default()
    });
    let host = request.host.clone();
    // Known to be possible before the running one is stopped.
    let plan =
        || Plan::of(site, Request { host: host.clone(), name: Some(name.to_owned()), ..request.clone() });
    plan()?;
    let patience = patience.map_or(Patience::Usual(stop::GUEST), Patience::AtMost);
    let stopped = stop::down(&place, patience, &site.environment, &mut |event| {
        observer.tell(Progress::Instance(event));
    });
    match stopped {
        Ok(_) | Err(crate::instance::Error::NotRunning(_)) => {}
        Err(error) => return Err(error.into()),
    }
    up(site, plan()?, observer)
}

//! The image of a host: where it is, and how it is built.

use std::path::PathBuf;

use crate::edge::environment::Environment;
use crate::host::parcel::Order;
use crate::host::spec::Arch;
use crate::image::{Image, ImageSpec, debian};
use crate::lifecycle::{Error, Observer, Progress};

/// Names a file with apt sources for images, instead of this machine's own.
pub(super) const SOURCES: &str = "CIVM_APT_SOURCES";

/// The inputs of a host's image, and the cache.
fn wanted(order: &Order, environment: &Environment) -> Result<(ImageSpec, PathBuf), Error> {
    let image = ImageSpec {
        suite: order.suite.clone(),
        arch: order.arch,
        packages: order.packages.clone(),
        sources: environment.non_empty(SOURCES).map(PathBuf::from),
        guest_binary: None,
    };
    Ok((image, cache(environment).ok_or(Error::NoCache)?))
}

/// Where images are kept; `None` for an account without a home directory.
#[must_use]
pub fn cache(environment: &Environment) -> Option<PathBuf> {
    environment.cache_dir().map(|dir| dir.join("civm"))
}

/// The name of a host's image, whether it is built or not.
///
/// # Errors
/// There is nowhere to keep images, or this machine has none of what the image is made of.
pub fn id(order: &Order, environment: &Environment) -> Result<String, Error> {
    let (wanted, _) = wanted(order, environment)?;
    Ok(debian::id(&wanted)?)
}

/// Whether there is a guest's side for a host of another architecture than this machine's, which is a binary of its own.
///
/// # Errors
/// There is none.
pub fn check(order: &Order, environment: &Environment) -> Result<(), Error> {
    if Arch::native() != Some(order.arch) {
        locate(order, environment)?;
    }
    Ok(())
}

/// The image of a host, and whether it is built.
///
/// # Errors
/// As [`id`].
pub fn locate(order: &Order, environment: &Environment) -> Result<(Image, bool), Error> {
    let (wanted, cache) = wanted(order, environment)?;
    Ok(debian::locate(&wanted, &cache, environment)?)
}

/// The image of a host, from the cache or built now.
///
/// # Errors
/// It cannot be built.
pub fn ensure(order: &Order, environment: &Environment, observer: &mut dyn Observer) -> Result<Image, Error> {
    let (wanted, cache) = wanted(order, environment)?;
    Ok(debian::ensure(&wanted, &cache, environment, &mut |event| observer.tell(Progress::Image(&event)))?)
}

/// An image of the cache by its name; none where it is not there, not all of it, or of an older civm.
///
/// # Errors
/// It is of another architecture, or cannot be booted by this civm.
fn find(id: &str, order: &Order, environment: &Environment) -> Result<Option<Image>, Error> {
    let cache = cache(environment).ok_or(Error::NoCache)?;
    Ok(debian::find(id, order.arch, &cache, environment)?)
}

/// The image of that name, where the cache has it; else the order's own.
///
/// # Errors
/// As [`find`] and [`ensure`].
pub(super) fn named_or_own(
    named: Option<&str>,
    order: &Order,
    environment: &Environment,
    observer: &mut dyn Observer,
) -> Result<Image, Error> {
    let found = match named {
        Some(id) => find(id, order, environment)?,
        None => None,
    };
    found.map_or_else(|| ensure(order, environment, observer), Ok)
}

/// Whether the image of an order is in the cache, under that name or its own, and not only can be built here.
///
/// # Errors
/// Why it cannot be built.
pub fn outlook(order: &Order, named: Option<&str>, environment: &Environment) -> Result<bool, Error> {
    let (wanted, cache) = wanted(order, environment)?;
    if named.is_some_and(|id| debian::is_known(id, &cache, environment))
        || debian::is_built(&wanted, &cache, environment)
    {
        return Ok(true);
    }
    debian::check_build(&wanted, environment)?;
    Ok(false)
}

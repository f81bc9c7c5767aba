//! The image of a host: where it is, and how it is built.

use std::path::PathBuf;

use crate::edge::environment::Environment;
use crate::host::spec::{Arch, Spec};
use crate::image::{Image, ImageSpec, debian};
use crate::lifecycle::{Error, Observer, Progress};

/// Names a file with apt sources for images, instead of this machine's own.
const SOURCES: &str = "CIVM_APT_SOURCES";

/// The inputs of a host's image, and the cache.
fn wanted(spec: &Spec, environment: &Environment) -> Result<(ImageSpec, PathBuf), Error> {
    let image = ImageSpec {
        suite: spec.image.suite.clone(),
        arch: spec.arch,
        packages: spec.image.packages.clone(),
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
pub fn id(spec: &Spec, environment: &Environment) -> Result<String, Error> {
    let (wanted, _) = wanted(spec, environment)?;
    Ok(debian::id(&wanted)?)
}

/// Whether there is a guest's side for a host of another architecture than this machine's, which is a binary of its own.
pub(super) fn check(spec: &Spec, environment: &Environment) -> Result<(), Error> {
    if Arch::native() != Some(spec.arch) {
        locate(spec, environment)?;
    }
    Ok(())
}

/// The image of a host, and whether it is built.
///
/// # Errors
/// As [`id`].
pub fn locate(spec: &Spec, environment: &Environment) -> Result<(Image, bool), Error> {
    let (wanted, cache) = wanted(spec, environment)?;
    Ok(debian::locate(&wanted, &cache, environment)?)
}

/// The image of a host, from the cache or built now.
///
/// # Errors
/// It cannot be built.
pub fn ensure(spec: &Spec, environment: &Environment, observer: &mut dyn Observer) -> Result<Image, Error> {
    let (wanted, cache) = wanted(spec, environment)?;
    Ok(debian::ensure(&wanted, &cache, environment, &mut |event| observer.tell(Progress::Image(&event)))?)
}

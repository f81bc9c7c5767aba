//! The image of a host: where it is, and how it is built.

use std::path::PathBuf;

use crate::edge::environment::Environment;
use crate::host::spec::Spec;
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

/// The image of a host, and whether it is built.
pub(super) fn locate(spec: &Spec, environment: &Environment) -> Result<(Image, bool), Error> {
    let (wanted, cache) = wanted(spec, environment)?;
    Ok(debian::locate(&wanted, &cache, environment)?)
}

/// The image of a host, from the cache or built now.
pub(super) fn ensure(
    spec: &Spec,
    environment: &Environment,
    observer: &mut dyn Observer,
) -> Result<Image, Error> {
    let (wanted, cache) = wanted(spec, environment)?;
    Ok(debian::ensure(&wanted, &cache, environment, &mut |event| observer.tell(Progress::Image(&event)))?)
}

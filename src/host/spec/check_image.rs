//! What a host boots: the image's provider, release and packages.

use super::check::Checked;
use super::load::Sources;
use super::units::Either;
use super::{Image, Provider, raw};

/// Providers of images.
const DEBIAN: &str = "debian";

pub(super) fn image(
    image: Option<Either<String, raw::Image>>,
    packages: Option<Vec<String>>,
    sources: &Sources,
) -> Checked<Image> {
    let (provider, suite, path) = match image {
        None => (None, None, &["image"][..]),
        Some(Either::Short(provider)) => (Some(provider), None, &["image"][..]),
        Some(Either::Long(image)) => (image.provider, image.suite, &["image", "provider"][..]),
    };
    let provider = match provider.as_deref() {
        None | Some(DEBIAN) => Provider::Debian,
        Some(other) => {
            let message = format!("unknown image provider `{other}`: it can be `{DEBIAN}`");
            return Err(sources.error(path, message));
        }
    };
    if let Some(suite) = suite.as_deref().filter(|suite| !is_suite(suite)) {
        let message = format!("`{suite}` is not the name of a Debian release, such as bookworm");
        return Err(sources.error(&["image", "suite"], message));
    }
    let packages = packages.unwrap_or_default();
    if let Some((at, package)) = packages.iter().enumerate().find(|(_, package)| !is_package(package)) {
        let message = format!(
            "`{package}` is not a package name: it has two or more lower-case letters, digits, `+`, `-` or `.`"
        );
        return Err(sources.error(&["packages", &at.to_string()], message));
    }
    Ok(Image { provider, suite, packages })
}

/// Whether a name can be a Debian release's: nothing that a program could take for an option.
pub(super) fn is_suite(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Whether a name can be a package's: Debian policy 5.6.7; a final `-` would ask apt to remove it.
pub(super) fn is_package(name: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(good)
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_would_take_for_something_else_is_not_a_package() {
        for bad in ["-o", "x", "foo-", "a b", "a=1", "?all", "A", "../x", "foo/sid", "foo:arm64", "", "foo_"]
        {
            assert!(!is_package(bad), "{bad}");
        }
        for good in ["g++", "libc6.1", "0ad", "nix-bin"] {
            assert!(is_package(good), "{good}");
        }
    }

    #[test]
    fn a_release_that_could_be_an_option_is_refused() {
        for bad in ["--mode=root", "", "Bookworm", "bookworm/updates", "../x", "12"] {
            assert!(!is_suite(bad), "{bad}");
        }
        for good in ["trixie", "sid", "bookworm-backports"] {
            assert!(is_suite(good), "{good}");
        }
    }
}

//! What a host boots: the image's provider, release and packages.

use super::check::Checked;
use super::load::Sources;
use super::units::Either;
use super::{Image, Nixos, Provider, Resources, raw};

/// Providers of images.
const DEBIAN: &str = "debian";
const NIXOS: &str = "nixos";
/// The flake of a host that names none: the project's own.
const FLAKE: &str = ".";

pub(super) fn image(
    image: Option<Either<String, raw::Image>>,
    packages: Option<Vec<String>>,
    sources: &Sources,
) -> Checked<Image> {
    let (image, path) = match image {
        None => (raw::Image::default(), &["image"][..]),
        Some(Either::Short(provider)) => {
            (raw::Image { provider: Some(provider), ..raw::Image::default() }, &["image"][..])
        }
        Some(Either::Long(image)) => (image, &["image", "provider"][..]),
    };
    let raw::Image { provider, suite, flake, configuration } = image;
    let provider = match (provider.as_deref(), configuration) {
        (None | Some(DEBIAN), None) if flake.is_none() => Provider::Debian,
        (None | Some(DEBIAN), _) => {
            let message = format!("a flake's configuration needs `provider: {NIXOS}`");
            return Err(sources.error(&["image"], message));
        }
        (Some(NIXOS), Some(configuration)) if suite.is_none() => Provider::Nixos(Box::new(Nixos {
            flake: flake.unwrap_or_else(|| FLAKE.to_owned()),
            configuration,
            given: Resources::default(),
            sops: None,
        })),
        (Some(NIXOS), Some(_)) => {
            let message = "suite is the release of a Debian image: NixOS's is its flake's nixpkgs".to_owned();
            return Err(sources.error(&["image", "suite"], message));
        }
        (Some(NIXOS), None) => {
            let message =
                format!("`{NIXOS}` needs `configuration`: a name among the flake's nixosConfigurations");
            return Err(sources.error(path, message));
        }
        (Some(other), _) => {
            let message = format!("unknown image provider `{other}`: it can be `{DEBIAN}` or `{NIXOS}`");
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

/// What a configuration of NixOS says itself.
pub(super) fn only_debian(host: &raw::Host, sources: &Sources) -> Checked<()> {
    let Some(Either::Long(raw::Image { provider: Some(provider), .. })) = &host.image else { return Ok(()) };
    let given = [
        ("packages", host.packages.is_some()),
        ("machine", host.machine.is_some()),
        ("secrets", host.secrets.is_some()),
        ("templates", host.templates.is_some()),
        ("users", host.users.is_some()),
        ("services", host.services.is_some()),
        ("units", host.units.is_some()),
        ("files", host.files.is_some()),
        ("artifacts", host.artifacts.is_some()),
        ("sysctls", host.sysctls.is_some()),
        ("zram", host.zram.is_some()),
        ("nix", host.nix.is_some()),
        ("known_hosts", host.known_hosts.is_some()),
        ("hostname", host.hostname.is_some()),
        ("timezone", host.timezone.is_some()),
        ("console_login", host.console_login.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given && provider == NIXOS) {
        Some((key, _)) => {
            let message =
                format!("`{key}` is for Debian guests: here it belongs in the flake's configuration");
            Err(sources.error(&[key], message))
        }
        None => Ok(()),
    }
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

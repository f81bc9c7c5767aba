//! Which apt sources an image is made from: a given file, else this machine's own, for whatever suite.

use std::fs;
use std::path::Path;

use super::{Error, ImageSpec, run};
use crate::edge::environment::Environment;
use crate::edge::os_release;
use crate::host::spec::is_suite;

/// The suite where neither the specification nor this machine names one.
const DEFAULT_SUITE: &str = "bookworm";
/// The keyring of package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// What apt is asked for; it leaves fields that it does not know as they are.
const FORMAT: &str = "$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)";

/// Apt sources as a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sources {
    /// The content.
    pub(super) text: String,
    /// `sources` (deb822) or `list` (one-line), as apt wants the file to be called.
    pub(super) extension: &'static str,
}

/// The suite of the image.
pub(super) fn suite(spec: &ImageSpec) -> Result<String, Error> {
    let suite = match &spec.suite {
        Some(suite) => suite.clone(),
        None => debian_codename(&os_release::read()).unwrap_or_else(|| DEFAULT_SUITE.to_owned()),
    };
    if is_suite(&suite) { Ok(suite) } else { Err(Error::Invalid { value: suite, what: "a Debian release" }) }
}

/// The sources of a suite.
pub(super) fn find(spec: &ImageSpec, suite: &str, environment: &Environment) -> Result<Sources, Error> {
    if let Some(file) = &spec.sources {
        return given(file);
    }
    let keyring = Path::new(KEYRING).exists().then_some(KEYRING);
    let targets = own_targets(environment).unwrap_or_default();
    let own = render(&targets, suite, keyring);
    let text = if own.is_empty() { of_other_suite(&targets, suite, keyring) } else { Some(own) };
    text.map(|text| Sources { text, extension: "list" }).ok_or_else(|| Error::NoSources {
        suite: suite.to_owned(),
        reason: "this machine uses no mirror of Debian; name a file of apt sources in CIVM_APT_SOURCES"
            .to_owned(),
    })
}

/// A file that the specification names.
pub(super) fn given(file: &Path) -> Result<Sources, Error> {
    let text = fs::read_to_string(file).map_err(Error::io("read", file))?;
    let deb822 = text.lines().any(|line| line.to_ascii_lowercase().starts_with("types:"));
    Ok(Sources { text, extension: if deb822 { "sources" } else { "list" } })
}

fn debian_codename(os_release: &str) -> Option<String> {
    let field = |name| os_release::field(os_release, name);
    (field("ID")? == "debian").then(|| field("VERSION_CODENAME"))?
}

fn own_targets(environment: &Environment) -> Option<String> {
    let program = environment.find_program("apt-get")?;
    let output =
        run::plain(&program, environment).args(["indextargets", "--format", FORMAT]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// One-line sources for the targets that are Debian's own and of that suite.
fn render(targets: &str, suite: &str, keyring: Option<&str>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for target in targets.lines() {
        let fields: Vec<&str> = target.split('|').collect();
        let [created_by, uri, release, component, origin] = fields[..] else { continue };
        if created_by == "Packages" && of_suite(release, suite) && of_debian(origin, uri) {
            let signed = keyring.map(|path| format!("[signed-by={path}] ")).unwrap_or_default();
            let line = format!("deb {signed}{uri} {release} {component}\n");
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    // Updates alone make no system.
    let whole = lines.iter().any(|line| line.contains(&format!(" {suite} ")));
    if whole { lines.concat() } else { String::new() }
}

fn of_suite(release: &str, suite: &str) -> bool {
    match release.strip_prefix(suite) {
        Some(rest) => matches!(rest, "" | "-updates" | "-security" | "/updates"),
        None => false,
    }
}

/// By the origin in the release file; where apt has not fetched one yet, by the archive's name.
fn of_debian(origin: &str, uri: &str) -> bool {
    if origin.is_empty() || origin.starts_with("$(") {
        let path = uri.trim_end_matches('/');
        path.ends_with("/debian") || path.ends_with("/debian-security")
    } else {
        origin == "Debian"
    }
}

/// The sources of a suite that this machine does not use itself, from the mirrors that it uses.
fn of_other_suite(targets: &str, suite: &str, keyring: Option<&str>) -> Option<String> {
    let debian = targets.lines().filter_map(|target| {
        let fields: Vec<&str> = target.split('|').collect();
        let [created_by, uri, release, _, origin] = fields[..] else { return None };
        (created_by == "Packages" && of_debian(origin, uri)).then_some((uri, release))
    });
    let is_security = |release: &str| release.ends_with("-security") || release.ends_with("/updates");
    let (security, main): (Vec<_>, Vec<_>) = debian.partition(|(_, release)| is_security(release));
    let signed = keyring.map(|path| format!("[signed-by={path}] ")).unwrap_or_default();
    let line = |uri: &str, release: &str| format!("deb {signed}{uri} {release} main\n");
    let (mirror, _) = main.first()?;
    let mut text = line(mirror, suite);
    // The moving suites have no updates of their own.
    if !matches!(suite, "sid" | "unstable" | "testing") {
        text += &line(mirror, &format!("{suite}-updates"));
        text.extend(security.first().map(|(uri, _)| line(uri, &format!("{suite}-security"))));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "Packages|http://mirror/debian/|bookworm|main|Debian\n\
        Translations|http://mirror/debian/|bookworm|main|Debian\n\
        Packages|http://mirror/debian/|bookworm-updates|main|Debian\n\
        Packages|http://mirror/debian/|bookworm-backports|main|Debian\n\
        Packages|http://vendor/linux|bookworm|stable|Vendor\n\
        Packages|http://mirror/debian-security|bookworm-security|main|$(ORIGIN)\n\
        Packages|http://vendor/apt|bookworm|main|$(ORIGIN)\n";

    #[test]
    fn only_debians_own_targets_of_the_suite_are_taken() {
        assert_eq!(
            render(TARGETS, "bookworm", None),
            "deb http://mirror/debian/ bookworm main\n\
             deb http://mirror/debian/ bookworm-updates main\n\
             deb http://mirror/debian-security bookworm-security main\n"
        );
        assert_eq!(render(TARGETS, "trixie", None), "");
    }

    #[test]
    fn another_suite_comes_from_the_same_mirrors() {
        assert_eq!(
            of_other_suite(TARGETS, "trixie", None).as_deref(),
            Some(
                "deb http://mirror/debian/ trixie main\n\
                 deb http://mirror/debian/ trixie-updates main\n\
                 deb http://mirror/debian-security trixie-security main\n"
            )
        );
        assert_eq!(of_other_suite("Packages|http://vendor/linux|noble|main|Vendor\n", "trixie", None), None);
    }

    #[test]
    fn a_suite_without_its_main_archive_is_no_source() {
        let only_updates = "Packages|http://mirror/debian|bookworm-updates|main|Debian\n";
        assert_eq!(render(only_updates, "bookworm", Some("/k")), "");
    }

    #[test]
    fn the_codename_is_taken_from_debian_alone() {
        assert_eq!(debian_codename("ID=debian\nVERSION_CODENAME=trixie\n").as_deref(), Some("trixie"));
        assert_eq!(debian_codename("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(debian_codename(""), None);
    }

    #[test]
    fn a_given_file_keeps_its_form() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("x");
        fs::write(&file, "Types: deb\nURIs: http://m\n").expect("write");
        assert_eq!(given(&file).expect("given").extension, "sources");
        fs::write(&file, "deb http://m s main\n").expect("write");
        assert_eq!(given(&file).expect("given").extension, "list");
    }
}

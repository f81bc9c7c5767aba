//! Which apt sources an image is made from: a given file, else this machine's own, else Debian's.

use std::fs;
use std::path::Path;

use super::{Error, ImageSpec, run, tools};

/// The suite where neither the specification nor this machine names one.
const DEFAULT_SUITE: &str = "bookworm";
/// Debian's own mirrors, for a machine that runs something else.
const DEFAULT_MIRROR: &str = "http://mirror.example/debian";
const DEFAULT_SECURITY: &str = "http://mirror.example/debian-security";
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
        None => debian_codename(&fs::read_to_string("/etc/os-release").unwrap_or_default())
            .unwrap_or_else(|| DEFAULT_SUITE.to_owned()),
    };
    let mut chars = suite.chars();
    let good = chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if good { Ok(suite) } else { Err(Error::Invalid { value: suite, what: "Debian suite" }) }
}

/// The sources of a suite.
pub(super) fn find(spec: &ImageSpec, suite: &str) -> Result<Sources, Error> {
    if let Some(file) = &spec.sources {
        return given(file);
    }
    let keyring = Path::new(KEYRING).exists().then_some(KEYRING);
    let own = own_targets().map(|targets| render(&targets, suite, keyring)).unwrap_or_default();
    if !own.is_empty() {
        return Ok(Sources { text: own, extension: "list" });
    }
    let Some(keyring) = keyring else {
        return Err(Error::NoSources {
            suite: suite.to_owned(),
            reason: format!(
                "this machine has none and {KEYRING} is missing (apt package debian-archive-keyring)"
            ),
        });
    };
    Ok(Sources { text: default_sources(suite, keyring), extension: "list" })
}

/// A file that the specification names.
pub(super) fn given(file: &Path) -> Result<Sources, Error> {
    let text = fs::read_to_string(file).map_err(Error::io("read", file))?;
    let deb822 = text.lines().any(|line| line.to_ascii_lowercase().starts_with("types:"));
    Ok(Sources { text, extension: if deb822 { "sources" } else { "list" } })
}

fn debian_codename(os_release: &str) -> Option<String> {
    let field = |name: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(line.trim().trim_matches(['"', '\'']).to_owned())
    };
    (field("ID")? == "debian").then(|| field("VERSION_CODENAME"))?
}

fn own_targets() -> Option<String> {
    let output =
        run::plain(&tools::find("apt-get")?).args(["indextargets", "--format", FORMAT]).output().ok()?;
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

fn default_sources(suite: &str, keyring: &str) -> String {
    let line = |uri: &str, release: &str| format!("deb [signed-by={keyring}] {uri} {release} main\n");
    let mut text = line(DEFAULT_MIRROR, suite);
    // The moving suites have no updates of their own.
    if !matches!(suite, "sid" | "unstable" | "testing") {
        text += &line(DEFAULT_MIRROR, &format!("{suite}-updates"));
        text += &line(DEFAULT_SECURITY, &format!("{suite}-security"));
    }
    text
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

    #[test]
    fn a_suite_that_could_be_an_option_is_refused() {
        let spec = |suite: &str| ImageSpec {
            suite: Some(suite.to_owned()),
            arch: crate::host::spec::Arch::X86_64,
            packages: Vec::new(),
            sources: None,
            guest_binary: None,
        };
        assert!(suite(&spec("--mode=root")).is_err());
        assert_eq!(suite(&spec("trixie")).expect("suite"), "trixie");
    }
}

//! An apt of an image's own: it reads the image's sources and keeps its lists in the build's directory. No state of
//! this machine is read but its keyrings, none is changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::run::{Job, Tool};
use super::sources::Sources;
use super::{Error, debian_name};
use crate::host::error::alike;
use crate::host::spec::Arch;

/// What apt says of a package that it cannot install, around its name.
const UNKNOWN: [(&str, &str); 4] = [
    ("E: Unable to locate package ", ""),
    ("E: Package '", "' has no installation candidate"),
    ("E: Couldn't find any package by glob '", "'"),
    ("E: Couldn't find any package by regex '", "'"),
];

/// A private apt, whose lists are up to date.
#[derive(Debug)]
pub(super) struct Apt {
    config: PathBuf,
}

impl Apt {
    /// Makes it below `dir` and fetches its lists.
    ///
    /// # Errors
    /// No source can be reached.
    pub(super) fn update(dir: &Path, arch: Arch, sources: &Sources, job: &Job) -> Result<Self, Error> {
        let apt = Self { config: configure(dir, arch, sources)? };
        let updated =
            apt.tool("fetching the lists of packages", "apt-get", job)?.args(["-q", "update"]).run();
        updated.map_err(|error| unreachable(&job.text()).map_or(error, Error::Unreachable))?;
        Ok(apt)
    }

    /// A program of apt, with these sources.
    pub(super) fn tool<'a>(
        &self,
        step: &'static str,
        program: &'static str,
        job: &'a Job,
    ) -> Result<Tool<'a>, Error> {
        Ok(Tool::leashed(step, program, job)?.env("APT_CONFIG", &self.config))
    }

    /// Whether the packages can be installed, before half a minute is spent on it.
    ///
    /// # Errors
    /// [`Error::NoPackages`], or apt's own words where something else is wrong.
    pub(super) fn check(&self, packages: &[String], suite: &str, job: &Job) -> Result<(), Error> {
        let step = "looking for the packages";
        let simulated = self
            .tool(step, "apt-get", job)?
            .args(["-q", "--simulate", "--no-install-recommends", "install", "--"])
            .args(packages)
            .run();
        let Err(error) = simulated else { return Ok(()) };
        let names = unknown(&job.text());
        // To apt an update has not failed where an archive does not answer: it then knows of no packages.
        if let Some(reason) = unreachable(&job.text()) {
            return Err(Error::Unreachable(without(&reason, &names)));
        }
        if names.is_empty() {
            return Err(error);
        }
        let known = self.tool(step, "apt-cache", job)?.arg("pkgnames").output().unwrap_or_default();
        let known: BTreeSet<&str> = known.lines().collect();
        let missing = names.into_iter().map(|name| {
            let meant = alike(&name, known.iter().copied());
            (name, meant)
        });
        Err(Error::NoPackages { suite: suite.to_owned(), missing: missing.collect() })
    }
}

/// Which archive does not answer, and why, from apt's words.
fn unreachable(text: &str) -> Option<String> {
    let rest =
        |line: &str| Some(line.strip_prefix(['W', 'E'])?.strip_prefix(": Failed to fetch ")?.to_owned());
    let line = text.lines().find_map(rest)?;
    Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Why an archive does not answer, and what the others do not have: that may be a misspelled name.
fn without(reason: &str, names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return reason.to_owned();
    }
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("{reason}; no other archive has {}", names.join(", "))
}

/// The packages that apt does not know, from its words.
fn unknown(text: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        UNKNOWN.iter().find_map(|(before, after)| {
            let rest = line.strip_prefix(before)?;
            let end = if after.is_empty() { rest.len() } else { rest.find(after)? };
            Some(rest[..end].trim().to_owned())
        })
    };
    text.lines().filter_map(name).collect()
}

/// The configuration of an apt whose directories lie below `dir`.
fn configure(dir: &Path, arch: Arch, sources: &Sources) -> Result<PathBuf, Error> {
    let apt = dir.join("apt");
    for sub in ["state/lists/partial", "cache/archives/partial", "etc/sources.list.d", "etc/preferences.d"] {
        let sub = apt.join(sub);
        fs::create_dir_all(&sub).map_err(Error::io("create", &sub))?;
    }
    let write = |name: String, text: &str| {
        let path = apt.join(name);
        fs::write(&path, text).map_err(Error::io("write", &path)).map(|()| path)
    };
    write("state/status".into(), "")?;
    write(format!("etc/sources.list.d/image.{}", sources.extension), &sources.text)?;
    let (root, name) = (apt.display(), debian_name(arch));
    // The sandbox user could not enter a private directory.
    let config = format!(
        "Dir \"{root}\";\nDir::State \"{root}/state\";\nDir::State::status \"{root}/state/status\";\n\
         Dir::Cache \"{root}/cache\";\nDir::Etc \"{root}/etc\";\n\
         Dir::Etc::Trusted \"/etc/apt/trusted.gpg\";\nDir::Etc::TrustedParts \"/etc/apt/trusted.gpg.d\";\n\
         APT::Architecture \"{name}\";\nAPT::Architectures {{ \"{name}\"; }};\n\
         APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n"
    );
    write("apt.conf".into(), &config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_apt_does_not_know_are_found_in_its_words() {
        let text = "Reading package lists...\nE: Unable to locate package zhs\n\
            Package awk is a virtual package provided by:\nE: Package 'awk' has no installation candidate\n\
            E: Unable to locate package zhs\nE: Couldn't find any package by glob 'x.y'\n";
        assert_eq!(unknown(text).into_iter().collect::<Vec<_>>(), ["awk", "x.y", "zhs"]);
        assert!(unknown("E: Unmet dependencies\n").is_empty());
        let text = "Err:1 http://h bookworm InRelease\n\
            W: Failed to fetch http://h/dists/bookworm/InRelease  Could not connect to h:80 (192.0.2.1). - connect (111)\n\
            W: Some index files failed to download.\n";
        let why = "http://h/dists/bookworm/InRelease Could not connect to h:80 (192.0.2.1). - connect (111)";
        assert_eq!(unreachable(text).as_deref(), Some(why));
        assert_eq!(unreachable("W: Some index files failed to download.\n"), None);
        assert_eq!(without(why, &BTreeSet::new()), why);
        let names = BTreeSet::from(["zhs".to_owned()]);
        assert_eq!(without(why, &names), format!("{why}; no other archive has `zhs`"));
    }
}

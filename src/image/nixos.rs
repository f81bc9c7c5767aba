//! The provider `nixos`: a configuration of a flake, evaluated and built by the user's own Nix.
//!
//! What civm gets from it is a runner: a program that makes the machine's disk and ends as its QEMU. Everything that is
//! in the guest is the configuration's own; a module on top of it, which changes nothing else, gives the machine a share
//! that civm fills.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Error, Event, Progress};
use crate::edge::environment::Environment;
use crate::edge::process::{self, ProcessError};

/// The expression that is evaluated.
const EVALUATE: &str = include_str!("nixos/evaluate.nix");
/// What flakes need, whatever nix.conf says.
const FEATURES: [&str; 2] = ["--extra-experimental-features", "nix-command flakes"];
/// The first release of Nix in which a derivation's path alone does not stand for what it builds.
const OUTPUTS_NAMED: (u32, u32) = (2, 15);
/// Lines of Nix's messages that an error quotes.
const QUOTED_LINES: usize = 12;
/// The most bytes of a runner that are read.
const SCRIPT_MAX: usize = 1 << 20;

/// A flake's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The flake, as nix is told it.
    pub flake: String,
    /// The name of the configuration.
    pub configuration: String,
}

/// What a configuration says of its machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Found {
    /// The derivation of its runner.
    pub drv: String,
    /// What that builds.
    out: PathBuf,
    program: Option<String>,
    /// The kind of machine, such as `x86_64-linux`.
    pub system: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Size of the disk that the runner makes, in MiB.
    pub disk_mib: u64,
    /// Whether it has a disk: without one everything is in memory.
    pub has_disk: bool,
    /// Ports of this machine that lead into it.
    pub forwards: Vec<Port>,
    /// The share with its host key.
    pub share: Share,
    /// The encrypted file of its secrets.
    pub sops: Option<Sops>,
}

/// A forward of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Port {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The address of this machine; empty for all of them.
    pub address: String,
    /// The port of this machine.
    pub host: u16,
    /// The port of the guest.
    pub guest: u16,
}

/// The share of a machine that has its host key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Share {
    /// Its mount tag.
    pub tag: String,
    /// The path of the key in it.
    pub key: String,
    /// Whether civm has added it, since the configuration looks for its key elsewhere.
    pub added: bool,
}

/// An encrypted file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Sops {
    /// Its path below the flake's source, or an absolute one.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Found {
    /// The name of what is built, which its hash is part of.
    #[must_use]
    pub fn name(&self) -> String {
        self.out.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Whether it is built.
    #[must_use]
    pub fn is_built(&self) -> bool {
        self.out.exists()
    }

    /// Its program, if that is what the runner says; the name is certain only once it is built.
    #[must_use]
    pub fn expected_program(&self) -> PathBuf {
        program(self)
            .unwrap_or_else(|_| self.out.join("bin").join(self.program.as_deref().unwrap_or("run-nixos-vm")))
    }

    /// One for tests.
    #[cfg(test)]
    pub(crate) fn sample(forwards: Vec<Port>, share: Share) -> Self {
        Self {
            drv: "/nix/store/d.drv".into(),
            out: "/nix/store/o".into(),
            program: None,
            system: "x86_64-linux".into(),
            cpus: 1,
            memory_mib: 1024,
            disk_mib: 1024,
            has_disk: true,
            forwards,
            share,
            sops: None,
        }
    }
}

/// A runner that is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The program.
    pub program: PathBuf,
    /// The QEMU that it runs, as far as its text says.
    pub qemu: Option<PathBuf>,
}

/// Nix, and what it is run with.
struct Nix<'a> {
    program: PathBuf,
    environment: Environment,
    directory: &'a Path,
}

impl<'a> Nix<'a> {
    /// Nix, in the directory that a flake's relative path counts from.
    fn find(directory: &'a Path, environment: &Environment) -> Result<Self, Error> {
        let program = environment.find_program("nix").ok_or(Error::NoNix)?;
        Ok(Self { program, environment: environment.for_nix(), directory })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = process::command(&self.program, &self.environment);
        command.args(FEATURES).args(args).current_dir(self.directory).stdin(Stdio::null());
        command
    }

    /// What it answers in JSON; `what` is for messages.
    fn ask<T: DeserializeOwned>(&self, what: &str, args: &[&str]) -> Result<T, Error> {
        let failed = |reason: String| Error::Nix { what: what.to_owned(), reason };
        let output = process::capture(&mut self.command(args), None).map_err(|error| match error {
            ProcessError::Failed { stderr, .. } => failed(shortened(&stderr)),
            other => failed(other.to_string()),
        })?;
        serde_json::from_slice(&output).map_err(|error| failed(format!("its answer: {error}")))
    }

    /// Its release.
    fn release(&self) -> Option<(u32, u32)> {
        let output = process::capture(&mut self.command(&["--version"]), None).ok()?;
        release(&String::from_utf8_lossy(&output))
    }

    /// The flake's URL with what it comes from, as `builtins.getFlake` takes it.
    fn url(&self, flake: &str) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Metadata {
            url: String,
        }
        let found: Metadata = self.ask(
            &format!("the flake `{flake}`"),
            &["flake", "metadata", "--json", "--no-write-lock-file", flake],
        )?;
        Ok(found.url)
    }

    fn evaluate<T: DeserializeOwned>(&self, what: &str, expression: &str) -> Result<T, Error> {
        self.ask(what, &["eval", "--json", "--impure", "--expr", expression])
    }
}

/// The names of a flake's configurations. Relative paths count from `directory`.
///
/// # Errors
/// There is no Nix, or no such flake.
pub fn configurations(
    flake: &str,
    directory: &Path,
    environment: &Environment,
) -> Result<Vec<String>, Error> {
    let nix = Nix::find(directory, environment)?;
    let url = nix.url(flake)?;
    let names = "builtins.attrNames (f.nixosConfigurations or { })";
    let expression = format!("let f = builtins.getFlake {}; in {names}", string(&url));
    nix.evaluate(&format!("the configurations of `{flake}`"), &expression)
}

/// Evaluates a configuration for a client key that may log in, with another disk size where one is given. Its runner's derivation is in Nix's store afterwards.
///
/// # Errors
/// There is no Nix, no such flake, no such configuration, or it is not valid.
pub fn evaluate(
    reference: &Reference,
    client_key: &str,
    disk_mib: Option<u64>,
    directory: &Path,
    environment: &Environment,
) -> Result<Found, Error> {
    let nix = Nix::find(directory, environment)?;
    let url = nix.url(&reference.flake)?;
    let expression = format!(
        "({EVALUATE}) {{ url = {}; configuration = {}; clientKey = {}; diskSize = {}; }}",
        string(&url),
        string(&reference.configuration),
        string(client_key),
        disk_mib.map_or_else(|| "null".to_owned(), |size| size.to_string())
    );
    nix.evaluate(&reference.to_string(), &expression)
}

/// Builds a runner and keeps Nix from collecting it as long as one of the links `roots` is there; Nix's messages go to
/// `log`.
///
/// # Errors
/// It cannot be built, or there is no program in it.
pub fn build(
    reference: &Reference,
    found: &Found,
    roots: &[PathBuf],
    log: &Path,
    environment: &Environment,
    progress: Progress<'_>,
) -> Result<Built, Error> {
    let nix = Nix::find(Path::new("/"), environment)?;
    let failed = |reason: String| Error::Nix { what: reference.to_string(), reason };
    let installable = match nix.release() {
        Some(release) if release < OUTPUTS_NAMED => found.drv.clone(),
        _ => format!("{}^*", found.drv),
    };
    if !found.is_built() {
        progress(Event::BuildingWithNix { log: log.to_owned() });
    }
    let file = File::create(log).map_err(Error::io("create", log))?;
    for root in roots {
        let status = nix
            .command(&["build", "--print-build-logs", "--out-link"])
            .arg(root)
            .arg(&installable)
            .stdout(Stdio::null())
            .stderr(file.try_clone().map_err(Error::io("open", log))?)
            .status()
            .map_err(Error::io("run", &nix.program))?;
        if !status.success() {
            let text = shortened(&String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()));
            return Err(failed(format!("{text}\n(all of it is in {})", log.display())));
        }
    }
    let program = program(found).map_err(failed)?;
    let qemu = std::fs::read(&program).ok().and_then(|text| qemu(&String::from_utf8_lossy(&text)));
    Ok(Built { program, qemu })
}

/// The program of a runner: the one that its package names, else the only one.
fn program(found: &Found) -> Result<PathBuf, String> {
    let bin = found.out.join("bin");
    if let Some(name) = &found.program
        && bin.join(name).is_file()
    {
        return Ok(bin.join(name));
    }
    let entries =
        std::fs::read_dir(&bin).map_err(|error| format!("cannot read `{}`: {error}", bin.display()))?;
    let mut programs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    // run-nixos-vm is another name of the one that it links to.
    programs.sort_by_key(|path| path.is_symlink());
    programs.into_iter().next().ok_or_else(|| format!("there is no program in `{}`", bin.display()))
}

/// The QEMU of a runner's text: the first absolute path that is one's.
fn qemu(script: &str) -> Option<PathBuf> {
    let script = script.get(..SCRIPT_MAX).unwrap_or(script);
    let words = script.split(|c: char| c.is_whitespace() || "\"'`$(){};&|".contains(c));
    let is_qemu = |word: &&str| {
        let name = word.rsplit('/').next().unwrap_or_default();
        word.starts_with('/') && (name.starts_with("qemu-system-") || name == "qemu-kvm")
    };
    words.filter(is_qemu).map(PathBuf::from).find(|path| path.is_file())
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.flake, self.configuration)
    }
}

/// A text as a string of Nix's language.
fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '$') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted + "\""
}

/// The release in `nix (Nix) 2.8.0`, or in what other builds of it print.
fn release(version: &str) -> Option<(u32, u32)> {
    let word = version.split_whitespace().next_back()?;
    let mut numbers = word.split('.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    Some((numbers.next()??, numbers.next()??))
}

/// The end of Nix's messages, without the trace that leads to an error.
fn shortened(messages: &str) -> String {
    let lines: Vec<&str> = messages.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.iter().rposition(|line| line.trim_start().starts_with("error:")).unwrap_or(0);
    let lines = &lines[from..];
    let lines = lines[lines.len().saturating_sub(QUOTED_LINES)..].iter().map(|line| line.trim_end());
    let text = lines.collect::<Vec<_>>().join("\n");
    // civm's own message says that it is one.
    text.trim_start().trim_start_matches("error:").trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_itself_in_nixs_language() {
        assert_eq!(string(r#"a"b\c${d}"#), r#""a\"b\\c\${d}""#);
    }

    #[test]
    fn releases_are_read_from_what_nix_prints() {
        for (text, wanted) in [
            ("nix (Nix) 2.8.0\n", Some((2, 8))),
            ("nix (Nix) 2.34.8", Some((2, 34))),
            ("nix (Lix, like Nix) 2.93.0-dev", Some((2, 93))),
            ("nix (Nix) 2.15pre20230101_abc", Some((2, 15))),
            ("", None),
        ] {
            assert_eq!(release(text), wanted, "{text}");
        }
    }

    #[test]
    fn an_error_of_nix_is_told_without_its_trace() {
        let text = "warning: x\nerror:\n       … while a\n\n       error: there is no `y`\n       at z";
        assert_eq!(shortened(text), "there is no `y`\n       at z");
    }

    #[test]
    fn the_qemu_of_a_runner_is_found_in_its_text() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("qemu-system-x86_64");
        std::fs::write(&file, "").unwrap();
        let script = format!(
            "#!/bin/sh\nPATH=/nix/store/coreutils/bin\nexec {} -machine accel=kvm:tcg \\\n",
            file.display()
        );
        assert_eq!(qemu(&script), Some(file));
        assert_eq!(qemu("exec /nowhere/qemu-kvm -cpu max"), None);
        assert_eq!(qemu("exec qemu-system-x86_64"), None);
    }
}

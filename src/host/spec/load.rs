//! From the text of a host.yaml, and of those that it extends, to a [`Spec`].
//!
//! `extends:` works as a merge patch does (RFC 7396): mappings are merged key by key, every other value (lists
//! too) replaces the one of the extended host, and `null` takes it away.

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use serde::Deserialize;
use serde_yaml::Value;

use super::raw::Host;
use super::{Arch, Spec, bounded, check, locate};
use crate::host::error::{Error, SpecError, alike};
use crate::sops::tree::Tree;

/// A host.yaml.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path, for messages.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
}

/// A file of secrets, as far as it can be read without a key.
#[derive(Clone, Debug)]
pub struct SecretsFile {
    /// Its path, for messages.
    pub path: PathBuf,
    /// The names in it, and the types of the values; `None` where it cannot be read, which whoever opens it will say.
    pub tree: Option<Tree>,
    /// The other files of the project.
    pub project: ProjectFiles,
}

/// Reads a file of the project by its path below it, or says why it cannot be read.
type Read = dyn Fn(&str) -> Result<Vec<u8>, String>;

/// The files of the project, by their paths below it.
#[derive(Clone, Default)]
pub struct ProjectFiles(Option<Rc<Read>>);

impl ProjectFiles {
    /// Those that a function reads.
    pub fn new(read: impl Fn(&str) -> Result<Vec<u8>, String> + 'static) -> Self {
        Self(Some(Rc::new(read)))
    }

    /// The content of one.
    ///
    /// # Errors
    /// It cannot be read, or its path leads out of the project.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let plain = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        if !plain {
            return Err(format!(
                "`{path}` is not a path below the project, without `.`, `..` or empty parts"
            ));
        }
        self.0.as_ref().map_or_else(|| Err(format!("`{path}` cannot be read")), |read| read(path))
    }
}

impl fmt::Debug for ProjectFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProjectFiles")
    }
}

/// The most hosts that stand in one chain of `extends`.
const CHAIN_MAX: usize = 16;

/// Reads a host and those that it extends, merges them and checks the result.
///
/// `read` gives the host.yaml of a name, `secrets` the file of secrets of a host that has one. `native` is the
/// architecture of a host that names none: this machine's.
///
/// # Errors
/// What `read` fails with; an unknown key, a value that is not possible, or hosts that extend each other, with the line.
pub fn load(
    name: &str,
    native: Arch,
    secrets: &dyn Fn(&str) -> Option<SecretsFile>,
    read: &dyn Fn(&str) -> Result<Source, Error>,
) -> Result<Spec, Error> {
    let deployed = |host: &str, arch: Arch| load_one(host, arch, secrets, read, None);
    load_one(name, native, secrets, read, Some(&deployed))
}

/// The same for a host whose builders are made of what `builders` gives; without it, it may deploy none.
fn load_one(
    name: &str,
    native: Arch,
    secrets: &dyn Fn(&str) -> Option<SecretsFile>,
    read: &dyn Fn(&str) -> Result<Source, Error>,
    builders: Option<check::Builders<'_>>,
) -> Result<Spec, Error> {
    let mut names = vec![name.to_owned()];
    let mut sources = Sources(Vec::new());
    let mut layers = Vec::new();
    while let Some(current) = names.get(layers.len()).cloned() {
        let source = read(&current).map_err(|error| sources.blame(error, &current))?;
        let raw = parse(&source)?;
        sources.0.push(source);
        if let Some(next) = raw.1.extends {
            if names.contains(&next) {
                let round = format!("`{current}` extends `{next}`, which extends it in turn");
                let message = if next == current { format!("`{next}` extends itself") } else { round };
                return Err(sources.last_at(&["extends"], message));
            }
            if names.len() == CHAIN_MAX {
                return Err(sources.last_at(
                    &["extends"],
                    format!("more than {CHAIN_MAX} hosts in one chain of `extends`"),
                ));
            }
            names.push(next);
        }
        layers.push(raw.0);
    }
    let mut merged = Value::Null;
    for layer in layers.into_iter().rev() {
        let mut empty = Vec::new();
        merged = patch(merged, layer, &mut Vec::new(), &mut empty);
        if let Some(path) = empty.first() {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let (name, key) = (path.join("."), path.last().copied().unwrap_or_default());
            let message = match path[..] {
                // What can have settings, and has none.
                ["secrets" | "users" | "units" | "files" | "services", _] | ["nix", "builders", _] => {
                    format!("`{name}` has no value; write `{key}: {{}}` for all defaults")
                }
                _ => format!("`{name}` has no value, and no extended host has one to take away"),
            };
            return Err(Error::Spec(sources.error(&path, message)));
        }
    }
    let host = if merged.is_null() { Ok(Host::default()) } else { Host::deserialize(merged) };
    let host = host.map_err(|error| sources.error(&[], error.to_string()))?;
    let secrets = names.iter().find_map(|name| secrets(name).map(|file| (name.as_str(), file)));
    let arch = check::arch(host.arch.as_deref(), native, &sources).map_err(Error::Spec)?;
    let facts = check::Facts { name, extends: &names[1..], arch, secrets, builders };
    check::check(host, &facts, &sources).map_err(Error::Spec)
}

/// The text as a value, for merging, and as a host, for its keys.
fn parse(source: &Source) -> Result<(Value, Host), Error> {
    let at = |error: serde_yaml::Error| Error::Spec(explain(source, &error));
    // Only aliases can make more of a text than it is; without them the types find what is wrong, in better words.
    if source.text.contains('*') {
        bounded::check(&source.text).map_err(at)?;
    }
    let host: Host = serde_yaml::from_str(&source.text).map_err(at)?;
    let value = serde_yaml::from_str(&source.text).map_err(at)?;
    Ok((value, host))
}

/// An error of the YAML reader in plain words: the line in front, and the key that was perhaps meant.
fn explain(source: &Source, error: &serde_yaml::Error) -> SpecError {
    let place = error.location();
    let mut message = error.to_string();
    if let Some(place) = &place {
        let suffix = format!(" at line {} column {}", place.line(), place.column());
        message.truncate(message.strip_suffix(&suffix).map_or(message.len(), str::len));
    }
    for number in ["u16", "u32"] {
        if let Some(start) = message.strip_suffix(&format!("expected {number}")) {
            message = match start.split_once("invalid value: integer `").zip(start.rsplit_once('`')) {
                Some(((before, _), (whole, _))) => {
                    let digits = whole.rsplit('`').next().unwrap_or_default();
                    format!("{before}{digits} is out of range")
                }
                None => format!("{start}expected a whole number"),
            };
        }
    }
    let mut suggestion = None;
    if let Some((before, after)) = message.split_once("unknown field `")
        && let Some((key, offered)) = after.split_once('`')
    {
        suggestion = alike(key, offered.split('`').skip(1).step_by(2));
        message = format!("{before}unknown key `{key}`");
    }
    SpecError { file: source.file.clone(), line: place.map(|place| place.line()), message, suggestion }
}

/// RFC 7396, section 2. Paths of `null` that take nothing away are noted in `empty`: they are forgotten values.
fn patch(mut target: Value, change: Value, path: &mut Vec<String>, empty: &mut Vec<Vec<String>>) -> Value {
    let Value::Mapping(change) = change else { return change };
    if !target.is_mapping() {
        target = Value::Mapping(serde_yaml::Mapping::new());
    }
    if let Value::Mapping(entries) = &mut target {
        for (key, value) in change {
            path.push(key.as_str().unwrap_or_default().to_owned());
            let old = entries.remove(&key);
            if !value.is_null() {
                entries.insert(key, patch(old.unwrap_or(Value::Null), value, path, empty));
            } else if old.is_none() {
                empty.push(path.clone());
            }
            path.pop();
        }
    }
    target
}

/// The files of a chain of hosts, the host itself first.
pub(super) struct Sources(Vec<Source>);

impl Sources {
    /// An error about what a path of keys leads to: its line in the first file that has it. Where none has,
    /// shorter paths are tried.
    pub(super) fn error(&self, path: &[&str], message: impl Into<String>) -> SpecError {
        let message = message.into();
        for end in (1..=path.len()).rev() {
            for source in &self.0 {
                if let Some(line) = locate::line(&source.text, &path[..end]) {
                    return SpecError {
                        file: source.file.clone(),
                        line: Some(line),
                        message,
                        suggestion: None,
                    };
                }
            }
        }
        let file = self.0.first().map(|source| source.file.clone()).unwrap_or_default();
        SpecError { file, line: None, message, suggestion: None }
    }

    /// The same about the file that was read last.
    fn last_at(&self, path: &[&str], message: String) -> Error {
        let last = Self(self.0.last().cloned().into_iter().collect());
        Error::Spec(last.error(path, message))
    }

    /// A host that is extended and does not exist is an error of the line that names it.
    fn blame(&self, error: Error, name: &str) -> Error {
        match error {
            Error::NoHost { suggestion, .. } if !self.0.is_empty() => {
                match self.last_at(&["extends"], format!("there is no host `{name}` to extend")) {
                    Error::Spec(error) => Error::Spec(SpecError { suggestion, ..error }),
                    other => other,
                }
            }
            Error::BadName { .. } if !self.0.is_empty() => self.last_at(&["extends"], error.to_string()),
            other => other,
        }
    }
}

//! Finding identities and decrypting with them.
//!
//! Identities are searched for in the same places and order as in sops. All places are read once per run; a passphrase
//! is asked for only if it can help, and only once. An ed25519 ssh key is used both as an ssh and as an age key.

/// What sops would make of the places.
mod as_sops;
/// age's questions, passed on to a prompt.
pub(crate) mod callbacks;
/// Identities that the caller already has.
mod given;
/// The file of native identities at its default path.
pub mod keys_file;
/// Reading the places.
mod load;
/// Passphrase-protected keys.
mod locked;
/// One armored file opened with all identities.
mod open;
/// Parsing identities.
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub(super) use self::as_sops::AsSops;
use self::locked::{LockedFile, LockedSsh};
use super::native::AgeIdentity;
use super::recipient::{SameKey, same_key};
use super::ssh::private::SshKey;
use crate::edge::environment::Environment;
use crate::edge::terminal::{Nobody, Prompt};

pub use self::given::Given;
pub use self::open::{OpenError, Part};

/// A place where sops looks for identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A variable that holds identities.
    Variable(&'static str),
    /// A file given by a variable.
    NamedFile(&'static str, PathBuf),
    /// A command given by a variable.
    Command(&'static str),
    /// A file at its default path.
    File(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(formatter, "${name}"),
            Self::NamedFile(name, path) => write!(formatter, "{} (${name})", path.display()),
            Self::Command(name) => write!(formatter, "the command in ${name}"),
            Self::File(path) => write!(formatter, "{}", path.display()),
        }
    }
}

/// What was found in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The variable is not set.
    NotSet,
    /// There is no such file.
    NoFile,
    /// A command that is run only when needed.
    NotAskedYet,
    /// It was read; each entry is the public key of an identity, or what is known of it.
    Found(Vec<Half>),
}

/// The public half of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Half {
    /// A native age identity: `age1…`.
    Age(String),
    /// An ssh key: its public line, and for ed25519 the age recipient derived from it.
    Ssh {
        /// `ssh-ed25519 …` or `ssh-rsa …`.
        line: String,
        /// `age1…`.
        age: Option<String>,
        /// True if a passphrase protects the private half.
        locked: bool,
    },
    /// Known only to a plugin.
    Plugin(String),
    /// Protected by the passphrase of an identity file or key.
    Hidden,
}

/// A place and what was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Where.
    pub place: Place,
    /// What.
    pub finding: Finding,
    /// Problems found there; never contains any part of a key.
    pub problems: Vec<String>,
}

/// Whether one of the identities belongs to a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Belongs {
    /// No.
    No,
    /// A plugin, a command or a locked file may hold it.
    Perhaps,
    /// Yes.
    Yes,
}

/// All identities of this run.
pub struct Identities {
    slots: Vec<Slot>,
    prompt: Arc<dyn Prompt>,
    environment: Environment,
    /// One plugin talks to the user at a time.
    plugins: Mutex<()>,
}

/// A place in the order of sops.
enum Slot {
    Read(Arc<Source>),
    /// Runs once for each recipient that is tried, with the recipient in its environment.
    Command(load::CommandSource, Mutex<BTreeMap<String, Arc<Source>>>),
}

/// A place that has been read.
#[derive(Default)]
struct Source {
    place: Option<Place>,
    presence: Presence,
    keys: Vec<Key>,
    problems: Vec<String>,
    sops: as_sops::Reading,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Presence {
    #[default]
    Present,
    NotSet,
    NoFile,
}

/// One identity.
enum Key {
    Native(AgeIdentity),
    Ssh(Box<OpenSshKey>),
    LockedSsh(Arc<LockedSsh>),
    LockedFile(Arc<LockedFile>),
    Plugin(age::plugin::Identity),
}

/// An ssh key in every form that can open something.
struct OpenSshKey {
    line: String,
    age: age::ssh::Identity,
    converted: Option<AgeIdentity>,
}

impl OpenSshKey {
    /// `None` for a type that age does not use.
    fn new(key: &SshKey) -> Option<Self> {
        let age = key.to_ssh_identity()?;
        Some(Self { line: key.public_line()?, age, converted: key.to_age().ok() })
    }
}

impl Key {
    fn half(&self) -> Half {
        match self {
            Self::Native(key) => Half::Age(key.recipient().to_owned()),
            Self::Ssh(key) => Half::Ssh {
                line: key.line.clone(),
                age: key.converted.as_ref().map(|key| key.recipient().to_owned()),
                locked: false,
            },
            Self::LockedSsh(key) => key.half(),
            Self::LockedFile(_) => Half::Hidden,
            Self::Plugin(key) => Half::Plugin(key.plugin().to_owned()),
        }
    }
}

impl Half {
    /// Whether a recipient is this half, in either form.
    #[must_use]
    pub fn belongs(&self, key: &SameKey) -> Belongs {
        let same = |text: &String| same_key(text) == *key;
        match self {
            Self::Age(text) | Self::Ssh { line: text, .. } if same(text) => Belongs::Yes,
            Self::Age(_) | Self::Ssh { .. } => Belongs::No,
            Self::Plugin(_) | Self::Hidden => Belongs::Perhaps,
        }
    }
}

impl Identities {
    /// Reads all places. The user is not asked and no command is run yet; read errors are reported later.
    #[must_use]
    pub fn load(environment: &Environment, prompt: Arc<dyn Prompt>) -> Self {
        Self {
            slots: load::all(environment),
            prompt,
            environment: environment.clone(),
            plugins: Mutex::new(()),
        }
    }

    /// The identities that need no interaction: using them never runs a command or asks the user.
    #[must_use]
    pub fn at_hand(environment: &Environment) -> Self {
        let environment = load::COMMANDS.iter().fold(environment.clone(), |rest, name| rest.without(name));
        Self::load(&environment, Arc::new(Nobody))
    }

    /// What was found in each place, in sops' order. For commands, what they have returned so far.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        let mut reports = Vec::new();
        for slot in &self.slots {
            match slot {
                Slot::Read(source) => reports.extend(source.report()),
                Slot::Command(command, answers) => {
                    let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                    let mut given: Vec<Report> = Vec::new();
                    for report in answers.values().filter_map(|source| source.report()) {
                        if !given.contains(&report) {
                            given.push(report);
                        }
                    }
                    if given.is_empty() {
                        given.push(Report {
                            place: Place::Command(command.variable()),
                            finding: Finding::NotAskedYet,
                            problems: Vec::new(),
                        });
                    }
                    reports.extend(given);
                }
            }
        }
        reports
    }

    /// The public keys of all identities that are known without asking, each with its place.
    #[must_use]
    pub fn public_halves(&self) -> Vec<(Half, Place)> {
        let halves = self.reports().into_iter().filter_map(|report| match report.finding {
            Finding::Found(halves) => Some(halves.into_iter().map(move |half| (half, report.place.clone()))),
            _ => None,
        });
        halves.flatten().collect()
    }

    /// Whether one of the identities belongs to a recipient. The user is not asked and no command is run.
    #[must_use]
    pub fn belongs(&self, recipient: &str) -> Belongs {
        let key = same_key(recipient);
        let known = self.public_halves().iter().map(|(half, _)| half.belongs(&key)).max();
        let command = self.slots.iter().any(|slot| matches!(slot, Slot::Command(..)));
        let rest = if command { Belongs::Perhaps } else { Belongs::No };
        known.unwrap_or(Belongs::No).max(rest)
    }

    /// The places for a given recipient: commands are run for it, once per run of civm.
    fn sources_for(&self, recipient: &str) -> Vec<Arc<Source>> {
        let sources = self.slots.iter().map(|slot| match slot {
            Slot::Read(source) => Arc::clone(source),
            Slot::Command(command, answers) => {
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                let answer = answers
                    .entry(recipient.to_owned())
                    .or_insert_with(|| Arc::new(command.run(recipient, &self.environment)));
                Arc::clone(answer)
            }
        });
        sources.collect()
    }

    /// What sops would have found in the places for this recipient.
    pub(super) fn as_sops(&self, recipient: &str) -> AsSops {
        let sources = self.sources_for(recipient);
        let plugin = sources.iter().flat_map(|source| &source.keys).find_map(|key| match key {
            Key::Plugin(identity) => Some(identity.plugin().to_owned()),
            _ => None,
        });
        let mut whole = AsSops::of(sources.iter().map(|source| &source.sops));
        whole.plugin = plugin;
        whole
    }
}

impl Source {
    fn report(&self) -> Option<Report> {
        let finding = match self.presence {
            Presence::NotSet => Finding::NotSet,
            Presence::NoFile => Finding::NoFile,
            Presence::Present => Finding::Found(self.keys.iter().map(Key::half).collect()),
        };
        Some(Report { place: self.place.clone()?, finding, problems: self.problems.clone() })
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.reports()).finish()
    }
}

/// The default place of an ssh key in a home directory.
#[must_use]
pub fn ssh_key_file(home: &Path, name: &str) -> PathBuf {
    home.join(".ssh").join(name)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

//! The rules file that a command changes, and the recipient to add.

use std::fs;
use std::path::{Path, PathBuf};

use crate::commands::{Context, secrets};
use crate::edge::atomic;
use crate::edge::lock::Lock;
use crate::keys::recipient::{Recipient, same_key, shown};
use crate::keys::ssh::public::{self, Ed25519Public, PublicLine};
use crate::outcome::{Code, Failure};
use crate::rules::{Config, edit};
use crate::secrets::Session;

/// The rules file of a run, locked until this is dropped.
pub(super) struct RulesFile {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What it holds.
    pub(super) text: String,
    /// What that says.
    pub(super) config: Config,
    _lock: Lock,
}

impl RulesFile {
    /// The rules file found from the current directory.
    pub(super) fn find(session: &Session) -> Result<Self, Failure> {
        let rules = session.own_rules().map_err(secrets::failure)?;
        let path = rules.map(|rules| rules.path.clone()).ok_or_else(|| {
            Failure::new(Code::Generic, "there is no .sops.yaml in the current directory or above it")
                .help("`civm init` creates a project with rules")
        })?;
        let lock =
            Lock::exclusive(path.parent().unwrap_or(Path::new("/"))).map_err(|error| wrong(&path, &error))?;
        // Read again: the previous holder of the lock may have changed it.
        let bytes = fs::read(&path).map_err(|error| wrong(&path, &error))?;
        let text = edit::decode(&bytes).map_err(|error| wrong(&path, &error))?;
        let config = Config::parse(&text).map_err(|error| wrong(&path, &error))?;
        Ok(Self { path, text, config, _lock: lock })
    }

    /// The name of a key, in whatever form the key is given.
    pub(super) fn name_of(&self, recipient: &str) -> Option<String> {
        let key = same_key(recipient);
        crate::rules::names(&self.text)
            .into_iter()
            .find(|(known, _)| same_key(known) == key)
            .map(|(_, name)| name)
    }

    /// The recipient that has a name.
    pub(super) fn recipient_of(&self, name: &str) -> Option<String> {
        crate::rules::recipient_of(&self.text, name)
    }

    /// Replaces the file's text.
    pub(super) fn replace(&self, text: &str) -> Result<(), Failure> {
        atomic::replace(&self.path, text.as_bytes(), 0o644)
            .map_err(|error| Failure::new(Code::CouldNotWriteOutput, error.to_string()))
    }

    /// What is wrong with it.
    pub(super) fn wrong(&self, error: &dyn std::fmt::Display) -> Failure {
        wrong(&self.path, error)
    }
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Code::Generic, format!("`{}`: {error}", path.display()))
}

/// A recipient as it is written to the rules file: the given text, or the content of a public key file. An ssh
/// ed25519 key is converted to its age recipient.
pub(super) fn recipient(given: &str, context: &Context) -> Result<String, Failure> {
    let given = given.trim();
    let is_text = ["age1", "ssh-", "AGE-"].iter().any(|start| given.starts_with(start));
    if !is_text && !Path::new(given).exists() {
        let message = format!("`{}` is neither a recipient nor a file", shown(given));
        return Err(Failure::new(Code::NoFileSpecified, message).help(
            "a recipient starts with age1 or ssh-; a file must hold a public key, like ~/.ssh/id_ed25519.pub",
        ));
    }
    let text = if is_text { given.to_owned() } else { of_file(Path::new(given))? };
    let recipient = match Ed25519Public::from_line(&text) {
        Ok(key) => {
            let recipient = key.recipient();
            context.screen.note(format!("the ssh key's age recipient is {recipient}"));
            recipient
        }
        Err(_) => text,
    };
    Recipient::parse(&recipient).map_err(|error| {
        Failure::new(Code::Generic, format!("recipient `{}`: {error}", shown(&recipient)))
    })?;
    Ok(recipient)
}

/// The one key of a file: an ssh public key, or an age recipient.
fn of_file(path: &Path) -> Result<String, Failure> {
    let failed =
        |reason: String| Failure::new(Code::CouldNotReadInput, format!("`{}`: {reason}", path.display()));
    let content = super::read(Some(path))?;
    let text = std::str::from_utf8(&content).map_err(|_| failed("it is not a text file".to_owned()))?;
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let [line] = lines.as_slice() else {
        return Err(failed(format!("it has {} lines; it must contain exactly one key", lines.len())));
    };
    if line.starts_with("age1") {
        return Ok((*line).to_owned());
    }
    match public::lines(line.as_bytes()).next() {
        Some(Ok(PublicLine::Key(key))) => Ok(key.recipient()),
        Some(Ok(PublicLine::Skipped { .. })) => Ok((*line).to_owned()),
        Some(Err(error)) => Err(failed(error.error.to_string())),
        None => Err(failed("it contains no key".to_owned())),
    }
}

//! Sops files, opened with the identities of a manifest and those that sops itself would look for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::manifest::Format;
use super::opener::{Cause, Imported, Opener};
use crate::edge::environment::Environment;
use crate::edge::terminal::Nobody;
use crate::keys::identity::{Finding, Half, Identities, Place};
use crate::keys::native::AgeIdentity;
use crate::keys::retrieval::{Reason, RetrievalError};
use crate::keys::ssh::private::{self, PrivateKey};
use crate::secrets::{Error as SecretsError, file};
use crate::sops::document::{self, MacCheck};
use crate::sops::tree::Tree;
use crate::store::Store;
use crate::store::yaml::Yaml;

/// The variable that a manifest's key file takes the place of.
const KEY_FILE: &str = "SOPS_AGE_KEY_FILE";

/// Opens sops files.
#[derive(Debug)]
pub struct SopsFiles {
    environment: Environment,
}

impl SopsFiles {
    /// With the variables of a run: what sops would find through them counts besides the manifest's keys.
    #[must_use]
    pub fn new(environment: Environment) -> Self {
        Self { environment }
    }

    fn identities(&self, given: &[Identity]) -> Result<Identities, Cause> {
        let mut environment = self.environment.clone();
        if !given.is_empty() {
            environment = environment.without(KEY_FILE);
        }
        for identity in given {
            if let Identity::File(path) = identity {
                environment = environment.with(KEY_FILE, path);
            }
        }
        let mut identities = Identities::load(&environment, Arc::new(Nobody));
        for identity in given {
            if let Identity::Key(path, key) = identity {
                let key = AgeIdentity::parse(&key.to_text())?;
                identities = identities.with_key(Place::File(path.clone()), key);
            }
        }
        Ok(identities)
    }
}

/// An identity of a manifest, kept in memory.
#[derive(Debug)]
pub enum Identity {
    /// Converted from the ssh key of a file.
    Key(PathBuf, AgeIdentity),
    /// A file of age identities.
    File(PathBuf),
}

impl Opener for SopsFiles {
    type Identity = Identity;

    fn ssh_key(&self, file: &Path, text: &[u8]) -> Result<Imported<Identity>, Cause> {
        let identity = match private::parse(text)?.key {
            PrivateKey::Plain(key) => key.to_age()?,
            PrivateKey::Locked(_) => return Err("it is protected by a passphrase".into()),
        };
        let recipient = identity.recipient().to_owned();
        Ok(Imported { identity: Identity::Key(file.to_owned(), identity), recipient })
    }

    fn age_keys(&self, file: &Path, _: &[u8]) -> Result<Vec<Identity>, Cause> {
        Ok(vec![Identity::File(file.to_owned())])
    }

    fn read(&self, _: &Path, text: &[u8], format: Format) -> Result<Tree, Cause> {
        Ok(document::split(store(format)?.load(text)?)?.0)
    }

    fn decrypt(&self, file: &Path, text: &[u8], format: Format, given: &[Identity]) -> Result<Tree, Cause> {
        let (tree, metadata) = document::split(store(format)?.load(text)?)?;
        let key = match file::data_key(file, &metadata, &self.identities(given)?) {
            Ok(key) => key,
            Err(SecretsError::Locked { locked, .. }) => return Err(describe(&locked).into()),
            Err(error) => return Err(error.into()),
        };
        Ok(document::decrypt(tree, &metadata, &key, MacCheck::Verify)?.tree)
    }

    fn emit(&self, tree: &Tree, format: Format) -> Result<Zeroizing<Vec<u8>>, Cause> {
        Ok(Zeroizing::new(store(format)?.emit(tree)?))
    }
}

/// The store of a format.
fn store(format: Format) -> Result<impl Store, Cause> {
    match format {
        Format::Yaml => Ok(Yaml::default()),
        other => Err(format!("files of the format {} are not read yet", other.name()).into()),
    }
}

/// Why no identity opens a file, for a journal: its recipients, what was tried, and what was wrong with keys.
fn describe(locked: &RetrievalError) -> String {
    let mut lines = vec![locked.to_string()];
    for key in locked.groups.iter().flat_map(|group| &group.keys) {
        lines.push(match &key.reason {
            Reason::Age(error) => format!("recipient {}: {error}", key.name),
            Reason::OtherKind(kind) => format!("{kind} key {}: not of a kind that is opened here", key.name),
        });
    }
    for report in &locked.identities {
        let place = &report.place;
        if let Finding::Found(halves) = &report.finding {
            lines.extend(halves.iter().map(|half| match half {
                Half::Age(public) | Half::Ssh { age: Some(public), .. } => {
                    format!("tried {public} ({place})")
                }
                Half::Ssh { line, age: None, .. } => format!("tried {line} ({place})"),
                Half::Plugin(name) => format!("tried an identity of age-plugin-{name} ({place})"),
                Half::Hidden => format!("not tried, since a passphrase is needed: {place}"),
            }));
        }
        lines.extend(report.problems.iter().map(|problem| format!("{place}: {problem}")));
    }
    lines.dedup();
    lines.join("\n  ")
}

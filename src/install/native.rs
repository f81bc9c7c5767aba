//! Opening sops files with civm's own rooms.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::opener::{Cause, Imported, Locked, Opener};
use crate::edge::environment::Environment;
use crate::keys::identity::{Finding, Given, Half, Identities};
use crate::keys::retrieval::{Reason, RetrievalError};
use crate::keys::ssh::private::{self, PrivateKey};
use crate::secrets::Error as SecretsError;
use crate::secrets::file::SopsFile;
use crate::sops::document::MacCheck;
use crate::sops::tree::Tree;
use crate::store::{Format, Indents, Store};

/// sops' variable for a file of identities.
const KEY_FILE: &str = "SOPS_AGE_KEY_FILE";

/// Opens files with the identities that the manifest names and, where an environment is given, with those that sops would
/// find there.
#[derive(Clone, Debug, Default)]
pub struct Native {
    /// Where sops would look for further identities.
    pub environment: Option<Environment>,
}

/// All identities, and the public halves of those that the manifest names.
pub struct Keys {
    identities: Identities,
    named: Vec<String>,
}

fn store(format: Format) -> Arc<dyn Store> {
    format.store(Indents::default())
}

/// The installation says itself which file it speaks of.
fn without_path(error: SecretsError) -> Cause {
    match error {
        SecretsError::Store { error, .. } => error.into(),
        SecretsError::Sops { error, .. } => error.into(),
        other => other.into(),
    }
}

impl Opener for Native {
    type Identity = Given;
    type Keys = Keys;
    type File = SopsFile;

    fn ssh_key(&self, text: &[u8]) -> Result<Imported<Given>, Cause> {
        let PrivateKey::Plain(key) = private::parse(text)?.key else {
            return Err("the key is protected by a passphrase, and nobody can be asked for it".into());
        };
        let identity = key.to_age()?;
        Ok(Imported { recipient: identity.recipient().to_owned(), identity: identity.into() })
    }

    fn age_keys(&self, text: &[u8]) -> (Vec<Given>, Vec<String>) {
        Given::parse(text)
    }

    fn keys(&self, named: Vec<Given>) -> Keys {
        let halves = named.iter().map(|identity| described(&identity.half())).collect();
        let identities = match &self.environment {
            None => Identities::of(named),
            // The manifest's file of identities takes the place of the one that the variable names, as in sops-nix.
            Some(environment) if named.is_empty() => Identities::with_places(named, environment),
            Some(environment) => Identities::with_places(named, &environment.clone().without(KEY_FILE)),
        };
        Keys { identities, named: halves }
    }

    fn read(&self, file: &Path, text: &[u8], format: Format) -> Result<SopsFile, Cause> {
        SopsFile::of_any_version(store(format), file, text).map_err(without_path)
    }

    fn tree<'a>(&self, file: &'a SopsFile) -> &'a Tree {
        &file.tree
    }

    fn decrypt(&self, file: SopsFile, keys: &Keys) -> Result<Tree, Cause> {
        match file.open_to_read(&keys.identities, MacCheck::Verify) {
            Ok(open) => Ok(open.tree),
            Err(SecretsError::Locked { locked, .. }) => Err(Locked(describe(&locked, keys)).into()),
            Err(error) => Err(without_path(error)),
        }
    }

    fn emit(&self, tree: &Tree, format: Format) -> Result<Zeroizing<Vec<u8>>, Cause> {
        Ok(store(format).emit_plain(tree).map(Zeroizing::new)?)
    }
}

/// Why no identity opens a file, for a journal: its recipients, and the public halves of what was tried.
fn describe(locked: &RetrievalError, keys: &Keys) -> String {
    let mut lines = vec![locked.to_string()];
    for key in locked.groups.iter().flat_map(|group| &group.keys) {
        lines.push(match &key.reason {
            Reason::Age(error) => format!("recipient {}: {error}", key.name),
            Reason::OtherKind(kind) => format!("{kind} key {}: not of a kind that is opened here", key.name),
        });
    }
    lines.extend(keys.named.iter().map(|half| format!("tried {half}")));
    for report in &locked.identities {
        if let Finding::Found(halves) = &report.finding {
            lines
                .extend(halves.iter().map(|half| format!("tried {} from {}", described(half), report.place)));
        }
        lines.extend(report.problems.iter().map(|problem| format!("{}: {problem}", report.place)));
    }
    lines.join("\n  ")
}

/// A public half in a word.
fn described(half: &Half) -> String {
    match half {
        Half::Age(recipient) => recipient.clone(),
        Half::Ssh { line, age, .. } => age.clone().unwrap_or_else(|| line.clone()),
        Half::Plugin(name) => format!("an identity of the plugin {name}"),
        Half::Hidden => "an identity behind a passphrase".into(),
    }
}

//! Opening sops files with civm's own rooms.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::opener::{Cause, Imported, Opener};
use crate::keys::identity::Identities;
use crate::keys::native::AgeIdentity;
use crate::keys::retrieval::{Reason, RetrievalError};
use crate::keys::ssh::private::{self, PrivateKey};
use crate::secrets::Error as SecretsError;
use crate::secrets::file::SopsFile;
use crate::sops::document::MacCheck;
use crate::sops::tree::Tree;
use crate::store::{Format, Indents, Store};

/// Identities are those that the manifest names, and no others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

fn store(format: Format) -> Arc<dyn Store> {
    format.store(Indents::default())
}

fn parse(file: &Path, text: &[u8], format: Format) -> Result<SopsFile, Cause> {
    SopsFile::of_any_version(store(format), file, text).map_err(without_path)
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
    type Identity = AgeIdentity;

    fn ssh_key(&self, text: &[u8]) -> Result<Imported<AgeIdentity>, Cause> {
        let PrivateKey::Plain(key) = private::parse(text)?.key else {
            return Err("the key is protected by a passphrase, and nobody can be asked for it".into());
        };
        let identity = key.to_age()?;
        Ok(Imported { recipient: identity.recipient().to_owned(), identity })
    }

    fn age_keys(&self, text: &[u8]) -> Result<Vec<AgeIdentity>, Cause> {
        let text = std::str::from_utf8(text)?;
        let lines = text.lines().map(str::trim).enumerate();
        lines
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(at, line)| {
                AgeIdentity::parse(line).map_err(|error| format!("line {}: {error}", at + 1).into())
            })
            .collect()
    }

    fn read(&self, file: &Path, text: &[u8], format: Format) -> Result<Tree, Cause> {
        Ok(parse(file, text, format)?.tree)
    }

    fn decrypt(
        &self,
        file: &Path,
        text: &[u8],
        format: Format,
        identities: &[AgeIdentity],
    ) -> Result<Tree, Cause> {
        match parse(file, text, format)?.open(&Identities::of(identities.iter().cloned()), MacCheck::Verify) {
            Ok(open) => Ok(open.tree),
            Err(SecretsError::Locked { locked, .. }) => Err(describe(&locked, identities).into()),
            Err(error) => Err(without_path(error)),
        }
    }

    fn emit(&self, tree: &Tree, format: Format) -> Result<Zeroizing<Vec<u8>>, Cause> {
        Ok(store(format).emit_plain(tree).map(Zeroizing::new)?)
    }
}

/// Why no identity opens a file, for a journal: its recipients, and the public halves of what was tried.
fn describe(locked: &RetrievalError, identities: &[AgeIdentity]) -> String {
    let mut lines = vec![locked.to_string()];
    for key in locked.groups.iter().flat_map(|group| &group.keys) {
        lines.push(match &key.reason {
            Reason::Age(error) => format!("recipient {}: {error}", key.name),
            Reason::OtherKind(kind) => format!("{kind} key {}: not of a kind that is opened here", key.name),
        });
    }
    lines.extend(identities.iter().map(|identity| format!("tried {}", identity.recipient())));
    lines.join("\n  ")
}

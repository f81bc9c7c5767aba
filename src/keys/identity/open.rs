//! Decrypting a wrapped key with all identities: first those that need no interaction, then those that ask.

use std::io::Read;
use std::sync::{Arc, PoisonError};

use age::armor::ArmoredReader;
use age::{DecryptError, Decryptor};
use thiserror::Error;
use zeroize::Zeroizing;

use super::callbacks::Asking;
use super::locked::LockedError;
use super::{Identities, Key, OpenSshKey, Source};
use crate::keys::bridge::Bridge;
use crate::keys::native::AgeIdentity;
use crate::keys::recipient::same_key;
use crate::keys::ssh::public::Ed25519Public;

/// The most that a wrapped key can hold: a data key or share is 32 or 33 bytes.
const KEY_LIMIT: u64 = 1024;

/// A part of an age file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The header: the recipients.
    Header,
    /// The header's MAC.
    Mac,
    /// The encrypted content.
    Payload,
}

/// Why a wrapped key was not opened. Never holds a part of a key.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// No identity belongs to the recipient.
    #[error("no identity matched")]
    NoMatch,
    /// The age file is damaged, or of a kind that is not known.
    #[error("the wrapped key is damaged: {reason}")]
    Damaged {
        /// Where.
        part: Part,
        /// How that shows.
        reason: String,
    },
    /// A key stayed behind its passphrase.
    #[error("{name}: {reason}")]
    Locked {
        /// The file.
        name: String,
        /// True for an ssh key, false for an identity file.
        ssh: bool,
        /// Why.
        reason: String,
    },
    /// A plugin is missing or failed.
    #[error("age-plugin-{name}: {}", .reason.as_deref().unwrap_or("not found in PATH"))]
    Plugin {
        /// Its name, without `age-plugin-`.
        name: String,
        /// What it says; `None` if it is not installed.
        reason: Option<String>,
    },
}

impl Identities {
    /// Decrypts what was wrapped for a recipient, with the identities that need no interaction.
    ///
    /// # Errors
    ///
    /// None of them matches, or the wrapped key is damaged.
    pub fn open_silently(&self, recipient: &str, enc: &str) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        open_with_keys(recipient, enc, keys(&self.sources_for(recipient)))
    }

    /// Decrypts what was wrapped for a recipient, asking for passphrases and running plugins where that can
    /// help.
    ///
    /// # Errors
    ///
    /// No identity matches, the right one stays locked, or the wrapped key is damaged.
    pub fn open(&self, recipient: &str, enc: &str) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        match self.open_silently(recipient, enc) {
            Err(OpenError::NoMatch) => self.open_asking(recipient, enc, &self.sources_for(recipient)),
            outcome => outcome,
        }
    }

    fn open_asking(
        &self,
        recipient: &str,
        enc: &str,
        sources: &[Arc<Source>],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let wanted = same_key(recipient);
        let mut first_error = OpenError::NoMatch;
        for key in keys(sources) {
            let outcome = match key {
                Key::Native(_) | Key::Ssh(_) => continue,
                Key::LockedSsh(locked) if !locked.may_be(&wanted) => continue,
                Key::LockedSsh(locked) => match locked.unlock(&*self.prompt) {
                    Ok(key) => open_with_ssh(enc, &key),
                    Err(error) => Err(locked_error(locked.name(), true, &error)),
                },
                Key::LockedFile(file) => match file.unlock(&*self.prompt) {
                    Ok(keys) => match open_with_keys(recipient, enc, keys.iter()) {
                        Err(OpenError::NoMatch) => self.open_with_plugins(enc, keys.iter()),
                        outcome => outcome,
                    },
                    Err(error) => Err(locked_error(file.name(), false, &error)),
                },
                Key::Plugin(_) => self.open_with_plugins(enc, std::iter::once(key)),
            };
            match outcome {
                Ok(opened) => return Ok(opened),
                Err(error) if first_error == OpenError::NoMatch => first_error = error,
                Err(_) => {}
            }
        }
        Err(first_error)
    }

    fn open_with_plugins<'a>(
        &self,
        enc: &str,
        keys: impl Iterator<Item = &'a Key>,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let mut last = OpenError::NoMatch;
        for key in keys {
            let Key::Plugin(identity) = key else { continue };
            let _one_at_a_time = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
            let plugin = age::plugin::IdentityPluginV1::new(
                identity.plugin(),
                std::slice::from_ref(identity),
                Asking::new(Arc::clone(&self.prompt)),
            );
            let name = identity.plugin().to_owned();
            let outcome = match plugin {
                Ok(plugin) => decrypt(enc, &[&plugin]),
                Err(_) => Err(OpenError::Plugin { name: name.clone(), reason: None }),
            };
            match outcome {
                Ok(opened) => return Ok(opened),
                Err(OpenError::NoMatch) => {}
                Err(OpenError::Plugin { reason, .. }) => last = OpenError::Plugin { name, reason },
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn keys(sources: &[Arc<Source>]) -> impl Iterator<Item = &Key> {
    sources.iter().flat_map(|source| &source.keys)
}

/// Native identities first, then ssh keys, then native identities in the role of the recipient's ssh key.
fn open_with_keys<'a>(
    recipient: &str,
    enc: &str,
    keys: impl Iterator<Item = &'a Key>,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let mut natives: Vec<&AgeIdentity> = Vec::new();
    let mut ssh: Vec<&dyn age::Identity> = Vec::new();
    for key in keys {
        match key {
            Key::Native(identity) => natives.push(identity),
            Key::Ssh(key) => {
                ssh.push(&key.age);
                natives.extend(key.converted.as_ref());
            }
            Key::LockedSsh(_) | Key::LockedFile(_) | Key::Plugin(_) => {}
        }
    }
    let key = Ed25519Public::from_line(recipient).ok();
    let bridges: Vec<Bridge<'_>> =
        key.iter().flat_map(|key| natives.iter().filter_map(|identity| Bridge::new(identity, key))).collect();
    let mut identities: Vec<&dyn age::Identity> = natives.iter().map(|identity| identity.as_age()).collect();
    identities.append(&mut ssh);
    identities.extend(bridges.iter().map(|bridge| bridge as &dyn age::Identity));
    decrypt(enc, &identities)
}

fn open_with_ssh(enc: &str, key: &OpenSshKey) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let native = key.converted.as_ref().map(AgeIdentity::as_age);
    let identities: Vec<&dyn age::Identity> =
        native.into_iter().chain([&key.age as &dyn age::Identity]).collect();
    decrypt(enc, &identities)
}

fn decrypt(enc: &str, identities: &[&dyn age::Identity]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let armor = ArmoredReader::new(enc.trim().as_bytes());
    let decryptor = Decryptor::new_buffered(armor).map_err(|error| damaged(&error))?;
    let reader = decryptor.decrypt(identities.iter().copied()).map_err(|error| match error {
        DecryptError::NoMatchingKeys => OpenError::NoMatch,
        DecryptError::Plugin(errors) => {
            let said = errors.iter().map(|error| plugin_message(&error.to_string()));
            of_plugin(said.collect::<Vec<_>>().join("; "))
        }
        // The header has already been read, so this is a plugin that does not follow the protocol. Only the first line says so;
        // the others are for who writes one.
        DecryptError::Io(error) => {
            of_plugin(plugin_message(error.to_string().lines().next().unwrap_or_default()))
        }
        error => damaged(&error),
    })?;
    let mut key = Zeroizing::new(Vec::with_capacity(enc.len()));
    let payload = |reason| OpenError::Damaged { part: Part::Payload, reason };
    let size = reader.take(KEY_LIMIT + 1).read_to_end(&mut key);
    if size.map_err(|error| payload(error.to_string()))? as u64 > KEY_LIMIT {
        return Err(payload("what it holds is too long for a key".into()));
    }
    Ok(key)
}

/// The caller knows the plugin's name.
fn of_plugin(said: String) -> OpenError {
    OpenError::Plugin { name: String::new(), reason: Some(said) }
}

/// A plugin's own words: age puts the kind of the error and where it happened before them, in parentheses, or a
/// sentence that has them in marks of direction at its end.
fn plugin_message(text: &str) -> String {
    let text = one_line(text);
    let in_marks = text.strip_suffix('\u{2069}').and_then(|text| text.rsplit_once('\u{2068}'));
    let after_kind = text.strip_prefix('(').and_then(|rest| rest.split_once(") "));
    match in_marks.or(after_kind) {
        Some((_, said)) => said.to_owned(),
        None => text.replace(['\u{2068}', '\u{2069}'], ""),
    }
}

fn damaged(error: &DecryptError) -> OpenError {
    let part = if matches!(error, DecryptError::InvalidMac) { Part::Mac } else { Part::Header };
    OpenError::Damaged { part, reason: one_line(&error.to_string()) }
}

fn locked_error(name: &str, ssh: bool, error: &LockedError) -> OpenError {
    let reason = match error {
        LockedError::NoAnswer(error) => error.to_string(),
        LockedError::WrongPassphrase => "incorrect passphrase".into(),
        LockedError::Useless(reason) => reason.clone(),
    };
    OpenError::Locked { name: name.to_owned(), ssh, reason }
}

pub(super) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

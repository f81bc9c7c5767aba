//! Passphrase-protected keys. Each is asked for once per run, by whichever thread needs it first; the others wait.

use std::io::{BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use age::armor::ArmoredReader;
use age::secrecy::SecretString;
use zeroize::Zeroizing;

use super::open::one_line;
use super::{Half, Key, OpenSshKey, text};
use crate::edge::terminal::{Prompt, PromptError};
use crate::keys::recipient::SameKey;
use crate::keys::ssh::private::{LockedKey, PrivateKeyError};
use crate::keys::ssh::public::Ed25519Public;

/// How many times a passphrase is asked for.
const ATTEMPTS: usize = 3;
/// The largest scrypt work factor accepted, as a power of two; age's own limit.
const WORK_FACTOR_LIMIT: u8 = 22;
/// The most that a passphrase-protected identity file may hold; sops' limit.
pub(super) const FILE_LIMIT: u64 = 16 << 20;

/// Why something stayed locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LockedError {
    /// No passphrase was given.
    NoAnswer(PromptError),
    /// None of the given ones is correct.
    WrongPassphrase,
    /// It is correct, but the unlocked content cannot be used.
    Useless(String),
}

/// The outcome of asking, cached for the rest of the run.
type Answer<T> = Mutex<Option<Result<Arc<T>, LockedError>>>;

/// A passphrase-protected ssh key.
pub(super) struct LockedSsh {
    /// How the question names it.
    name: String,
    key: LockedKey,
    /// From the key itself, or from the file `NAME.pub` beside it.
    line: Option<String>,
    answer: Answer<OpenSshKey>,
}

impl LockedSsh {
    pub(super) fn new(name: String, key: LockedKey, public_file: Option<String>) -> Self {
        let line = key.public_line().or(public_file);
        Self { name, key, line, answer: Mutex::new(None) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn half(&self) -> Half {
        match &self.line {
            Some(line) => {
                let age = Ed25519Public::from_line(line).ok().map(|key| key.recipient());
                Half::Ssh { line: line.clone(), age, locked: true }
            }
            None => Half::Hidden,
        }
    }

    /// False if the public key is known and is not this recipient's: then there is no point in asking.
    pub(super) fn may_be(&self, recipient: &SameKey) -> bool {
        self.half().belongs(recipient) != super::Belongs::No
    }

    pub(super) fn unlock(&self, prompt: &dyn Prompt) -> Result<Arc<OpenSshKey>, LockedError> {
        once(&self.answer, || {
            let question = format!("Enter passphrase for \"{}\":", self.name);
            ask(prompt, &question, |passphrase| match self.key.unlock(passphrase) {
                Ok(key) => Ok(OpenSshKey::new(&key).ok_or_else(|| {
                    LockedError::Useless(format!("age does not use {} keys", key.algorithm()))
                })),
                Err(PrivateKeyError::WrongPassphrase) => Err(()),
                Err(error) => Ok(Err(LockedError::Useless(error.to_string()))),
            })
        })
    }
}

/// An identity file that age encrypted with a passphrase.
pub(super) struct LockedFile {
    name: String,
    content: Vec<u8>,
    answer: Answer<Vec<Key>>,
}

impl LockedFile {
    pub(super) fn new(name: String, content: Vec<u8>) -> Self {
        Self { name, content, answer: Mutex::new(None) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// True if the content is an age file, in armor or not.
    pub(super) fn is_one(content: &[u8]) -> bool {
        content.starts_with(b"age-encryption") || content.starts_with(b"-----BEGIN AGE")
    }

    pub(super) fn unlock(&self, prompt: &dyn Prompt) -> Result<Arc<Vec<Key>>, LockedError> {
        once(&self.answer, || {
            let is_scrypt = self.decryptor().is_ok_and(|decryptor| decryptor.is_scrypt());
            if !is_scrypt {
                return Err(LockedError::Useless("it is not encrypted with a passphrase".into()));
            }
            let question = format!("Enter passphrase for identity '{}':", self.name);
            ask(prompt, &question, |passphrase| match self.decrypt(passphrase) {
                Ok(plain) => {
                    let found = text::parse(&plain, false);
                    Ok(match found.problems.first() {
                        Some(problem) if found.keys.is_empty() => Err(LockedError::Useless(problem.clone())),
                        _ => Ok(found.keys),
                    })
                }
                Err(age::DecryptError::ExcessiveWork { .. }) => {
                    Ok(Err(LockedError::Useless("its scrypt work factor is too high".into())))
                }
                Err(age::DecryptError::DecryptionFailed) => Err(()),
                Err(error) => Ok(Err(LockedError::Useless(one_line(&error.to_string())))),
            })
        })
    }

    fn decryptor(&self) -> Result<age::Decryptor<ArmoredReader<BufReader<&[u8]>>>, age::DecryptError> {
        age::Decryptor::new_buffered(ArmoredReader::new(self.content.trim_ascii_end()))
    }

    fn decrypt(&self, passphrase: &str) -> Result<Zeroizing<Vec<u8>>, age::DecryptError> {
        let mut identity = age::scrypt::Identity::new(SecretString::from(passphrase.to_owned()));
        identity.set_max_work_factor(WORK_FACTOR_LIMIT);
        let identity: &dyn age::Identity = &identity;
        let reader = self.decryptor()?.decrypt(std::iter::once(identity))?;
        // Large enough from the start: a buffer that grows would leave copies behind.
        let mut plain = Zeroizing::new(Vec::with_capacity(self.content.len()));
        reader.take(FILE_LIMIT).read_to_end(&mut plain)?;
        Ok(plain)
    }
}

/// Passphrase-protected identity files, each asked for only once even if several places refer to it.
#[derive(Default)]
pub(super) struct LockedFiles(Mutex<Vec<Arc<LockedFile>>>);

impl LockedFiles {
    /// The file with this content, named after the first place that refers to it.
    pub(super) fn file(&self, name: &str, content: &[u8]) -> Arc<LockedFile> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = files.iter().find(|file| file.content == content).cloned();
        known.unwrap_or_else(|| {
            let file = Arc::new(LockedFile::new(name.to_owned(), content.to_vec()));
            files.push(Arc::clone(&file));
            file
        })
    }
}

fn once<T>(answer: &Answer<T>, ask: impl FnOnce() -> Result<T, LockedError>) -> Result<Arc<T>, LockedError> {
    let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
    answer.get_or_insert_with(|| ask().map(Arc::new)).clone()
}

/// Asks until the passphrase is correct; `open` returns `Err(())` if it is not.
fn ask<T>(
    prompt: &dyn Prompt,
    question: &str,
    open: impl Fn(&str) -> Result<Result<T, LockedError>, ()>,
) -> Result<T, LockedError> {
    for _ in 0..ATTEMPTS {
        let passphrase = prompt.passphrase(question).map_err(LockedError::NoAnswer)?;
        if let Ok(opened) = open(&passphrase) {
            return opened;
        }
        prompt.tell("incorrect passphrase");
    }
    Err(LockedError::WrongPassphrase)
}

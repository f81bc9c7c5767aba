//! The file of native identities at its default path, `sops/age/keys.txt` in the configuration directory.

use std::path::PathBuf;

use thiserror::Error;
use zeroize::Zeroizing;

use super::locked::LockedFile;
use super::{Key, text};
use crate::edge::environment::Environment;
use crate::keys::native::AgeIdentity;

/// Why nothing can be added to a file.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeysFileError {
    /// It is encrypted with a passphrase.
    #[error("it is encrypted with a passphrase, so civm cannot add to it")]
    Locked,
    /// It is not text.
    #[error("it is not a text file")]
    NotText,
}

/// Where sops looks for it; `None` without a home directory.
#[must_use]
pub fn path(environment: &Environment) -> Option<PathBuf> {
    environment.config_dir().map(|directory| directory.join("sops/age/keys.txt"))
}

/// The first post-quantum identity of the file.
#[must_use]
pub fn post_quantum(existing: &[u8]) -> Option<AgeIdentity> {
    text::parse(existing, false).keys.into_iter().find_map(|key| match key {
        Key::Native(key) if key.is_post_quantum() => Some(key),
        _ => None,
    })
}

/// The file's text with an identity added at its end, or `None` if it holds that identity already.
///
/// Every byte of the existing text stays. `origin` says in a comment where the identity comes from.
///
/// # Errors
///
/// The text is not one that identities can be added to.
pub fn add(
    existing: &[u8],
    identity: &AgeIdentity,
    origin: &str,
) -> Result<Option<Zeroizing<String>>, KeysFileError> {
    if LockedFile::is_one(existing.trim_ascii_start()) {
        return Err(KeysFileError::Locked);
    }
    let existing_text = std::str::from_utf8(existing).map_err(|_| KeysFileError::NotText)?;
    let same = |key: &Key| matches!(key, Key::Native(key) if key.recipient() == identity.recipient());
    if text::parse(existing, false).keys.iter().any(same) {
        return Ok(None);
    }
    let origin: String = origin.chars().filter(|character| !character.is_control()).collect();
    let secret = identity.to_text();
    let mut whole = Zeroizing::new(String::with_capacity(existing.len() + secret.len() + origin.len() + 200));
    whole.push_str(existing_text);
    if !existing_text.is_empty() && !existing_text.ends_with('\n') {
        whole.push('\n');
    }
    for part in ["# from ", &origin, "\n# public key: ", identity.recipient(), "\n", &secret, "\n"] {
        whole.push_str(part);
    }
    Ok(Some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_added_below_what_is_there_and_only_once() {
        let (old, new) = (AgeIdentity::generate(), AgeIdentity::generate());
        let existing = format!("# mine\n{}", *old.to_text());
        let added = add(existing.as_bytes(), &new, "~/.ssh/id_ed25519").expect("a text").expect("added");
        assert_eq!(
            *added,
            format!(
                "{existing}\n# from ~/.ssh/id_ed25519\n# public key: {}\n{}\n",
                new.recipient(),
                *new.to_text()
            )
        );
        assert!(add(added.as_bytes(), &new, "elsewhere").expect("a text").is_none());
        assert!(add(added.as_bytes(), &old, "elsewhere").expect("a text").is_none());
    }

    #[test]
    fn a_locked_file_and_bytes_are_left_alone() {
        let key = AgeIdentity::generate();
        assert_eq!(add(b"age-encryption.org/v1\n", &key, "").expect_err("locked"), KeysFileError::Locked);
        assert_eq!(add(b"\xff\xfe", &key, "").expect_err("bytes"), KeysFileError::NotText);
    }

    #[test]
    fn an_origin_cannot_break_out_of_its_comment() {
        let key = AgeIdentity::generate();
        let added = add(b"", &key, "a\nAGE-SECRET-KEY-1").expect("a text").expect("added");
        assert!(added.starts_with("# from aAGE-SECRET-KEY-1\n# public key: "));
    }
}

//! Keys of a keeper's life: the one that logs in to builders, and the host key of each. They are made in memory before
//! any builder boots, so that nobody trusts a key because it came first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::OsRng;
use sha2::{Digest as _, Sha256};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use crate::edge::hex;
use crate::keys::ssh::private;

/// A key pair.
#[derive(Clone)]
pub struct Pair {
    /// The private half, as OpenSSH writes it.
    pub private: Zeroizing<Vec<u8>>,
    /// `ssh-ed25519 AAAA…`; empty for a secret key of a kind that only ssh knows.
    pub public: String,
}

impl Pair {
    /// A new ed25519 key.
    ///
    /// # Errors
    /// There is no randomness to be had.
    pub fn make(comment: &str) -> Result<Self, String> {
        let mut key =
            PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(|error| error.to_string())?;
        key.set_comment("");
        let public = key.public_key().to_openssh().map_err(|error| error.to_string())?;
        key.set_comment(comment);
        let private = key.to_openssh(LineEnding::LF).map_err(|error| error.to_string())?;
        Ok(Self { private: Zeroizing::new(private.as_bytes().to_vec()), public: public.trim().to_owned() })
    }

    /// A private key that is somebody's secret, of any kind that ssh can use by itself. A final newline that it lacks is added: ssh cannot read a key without
    /// one.
    ///
    /// # Errors
    /// It is not a private key, or there would have to be somebody to type its passphrase.
    pub fn secret(text: &[u8]) -> Result<Self, String> {
        let public = match private::parse(text).map(|found| found.key) {
            Ok(private::PrivateKey::Plain(key)) => key.public_line().unwrap_or_default(),
            Ok(private::PrivateKey::Locked(_)) => return Err("it is protected by a passphrase".to_owned()),
            // A kind that only ssh knows: it logs in, but nobody here can tell its public half.
            Err(private::PrivateKeyError::Unsupported(_)) => String::new(),
            Err(error) => return Err(error.to_string()),
        };
        let mut whole = Zeroizing::new(Vec::with_capacity(text.len() + 1));
        whole.extend_from_slice(text.trim_ascii_end());
        whole.push(b'\n');
        let words: Vec<&str> = public.split_whitespace().take(2).collect();
        Ok(Self { private: whole, public: words.join(" ") })
    }
}

/// The keys of one keeper.
pub struct Identity {
    /// What logs in to builders.
    pub client: Pair,
    hosts: Mutex<BTreeMap<String, Arc<Pair>>>,
}

impl Identity {
    /// Makes the client's key.
    ///
    /// # Errors
    /// There is no randomness to be had.
    pub fn make() -> Result<Self, String> {
        Ok(Self { client: Pair::make("civm builders")?, hosts: Mutex::default() })
    }

    /// The host key of a builder: the same for all of its boots.
    ///
    /// # Errors
    /// There is no randomness to be had.
    pub fn host(&self, builder: &str) -> Result<Arc<Pair>, String> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hosts.get(builder) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(Pair::make(builder)?);
        hosts.insert(builder.to_owned(), Arc::clone(&made));
        Ok(made)
    }
}

/// A machine ID that is as stable as a host key, and as unique.
#[must_use]
pub fn machine_id(public: &str) -> String {
    hex::encode(&Sha256::digest(format!("civm machine-id {public}"))[..16])
}

/// The fingerprint of a public key as ssh prints it.
///
/// # Errors
/// It is not a public key.
pub fn fingerprint(public: &str) -> Result<String, String> {
    let key = PublicKey::from_openssh(public).map_err(|error| error.to_string())?;
    Ok(key.fingerprint(HashAlg::Sha256).to_string())
}

#[cfg(test)]
mod tests {
    use super::{Identity, Pair, fingerprint, machine_id};

    #[test]
    fn a_builder_keeps_its_key_and_shares_it_with_nobody() {
        let identity = Identity::make().unwrap();
        let public = |name| identity.host(name).unwrap().public.clone();
        assert_eq!(public("a"), public("a"));
        assert_ne!(public("a"), public("b"));
        assert_ne!(public("a"), identity.client.public);
        assert_eq!(public("a").split(' ').count(), 2, "no comment");
        assert!(fingerprint(&public("a")).unwrap().starts_with("SHA256:"));
        assert!(fingerprint("ssh-ed25519 x").is_err());
        assert_eq!(machine_id("a").len(), 32);
    }

    #[test]
    fn a_secret_key_without_a_final_newline_is_mended() {
        let made = Pair::make("x").unwrap();
        let read = Pair::secret(made.private.trim_ascii_end()).unwrap();
        assert_eq!((read.public, &read.private[..]), (made.public.clone(), &made.private[..]));
        assert!(Pair::secret(made.public.as_bytes()).is_err());
        assert!(Pair::secret(b"").is_err());
    }
}

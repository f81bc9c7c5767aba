//! An `ssh-ed25519` recipient opened with the age identity derived from that ssh key.
//!
//! The stanza of an `ssh-ed25519` recipient is made with the Montgomery form of the ssh key and a tweak that
//! is a hash of its public wire form. The converted age identity holds the secret of the former, and the
//! public wire form is the recipient itself, which a sops file keeps beside the stanza.
//! The stanza: <https://github.com/FiloSottile/age/blob/main/agessh/agessh.go>.

use age::DecryptError;
use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use age_core::primitives::{aead_decrypt, hkdf};
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use sha2::{Digest, Sha256};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};
use zeroize::Zeroizing;

use super::native::{AgeIdentity, KEY_BYTES};
use super::ssh::public::Ed25519Public;

/// The stanza's name, which also is the ssh key's.
pub(super) const STANZA: &str = "ssh-ed25519";
/// Separates these hashes from all others of age.
const LABEL: &[u8] = b"age-encryption.org/v1/ssh-ed25519";
/// Bytes of the hash of a public key that a stanza carries.
const TAG_BYTES: usize = 4;

/// An age identity in the role of the ssh key it was derived from.
pub(super) struct Bridge<'a> {
    identity: &'a AgeIdentity,
    ssh_public: Vec<u8>,
}

impl<'a> Bridge<'a> {
    /// The bridge from this identity to this ssh key, if the one was derived from the other.
    pub(super) fn new(identity: &'a AgeIdentity, key: &Ed25519Public) -> Option<Self> {
        (key.recipient() == identity.recipient()).then(|| Self { identity, ssh_public: key.wire() })
    }

    fn open(&self, share: [u8; KEY_BYTES], body: &[u8]) -> Option<FileKey> {
        let secret = self.identity.secret().ok()?;
        let own = x25519(*secret, X25519_BASEPOINT_BYTES);
        let inner = Zeroizing::new(x25519(*secret, share));
        let tweak = Zeroizing::new(hkdf(&self.ssh_public, LABEL, &[]));
        let shared = Zeroizing::new(x25519(*tweak, *inner));
        let mut salt = [0; 2 * KEY_BYTES];
        salt[..KEY_BYTES].copy_from_slice(&share);
        salt[KEY_BYTES..].copy_from_slice(&own);
        let key = Zeroizing::new(hkdf(&salt, LABEL, &shared[..]));
        let opened = Zeroizing::new(aead_decrypt(&key, FILE_KEY_BYTES, body).ok()?);
        Some(FileKey::init_with_mut(|file_key| file_key.copy_from_slice(&opened)))
    }
}

impl age::Identity for Bridge<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if stanza.tag != STANZA || stanza.args.first() != Some(&tag(&self.ssh_public)) {
            return None;
        }
        let share = BASE64_STANDARD_NO_PAD.decode(stanza.args.get(1)?).ok()?;
        let share: [u8; KEY_BYTES] = share.try_into().ok()?;
        Some(self.open(share, &stanza.body).ok_or(DecryptError::DecryptionFailed))
    }
}

/// How a stanza names an ssh key: a short hash of its public wire form.
pub(super) fn tag(ssh_public: &[u8]) -> String {
    BASE64_STANDARD_NO_PAD.encode(&Sha256::digest(ssh_public)[..TAG_BYTES])
}

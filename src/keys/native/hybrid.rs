//! Post-quantum age keys: `age1pq1…` and `AGE-SECRET-KEY-PQ-1…`, the stanza `mlkem768x25519`.
//!
//! The stanza is one HPKE message that holds the file key:
//! <https://github.com/C2SP/C2SP/blob/main/age.md>.

use std::collections::HashSet;
use std::io;

use age::secrecy::ExposeSecret;
use age::{DecryptError, EncryptError};
use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use age_core::primitives::{bech32_encode, hpke_open};
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bech32::Hrp;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::{Deserializable, HpkeError, Kem as _, OpModeS, Serializable};
use rand::rngs::OsRng;
use zeroize::Zeroizing;

use super::kem::{Encapsulated, Kem, Private, Public};
use super::{NativeKeyError, decode};

/// What a recipient's text begins with.
pub(in crate::keys) const RECIPIENT_START: &str = "age1pq1";
/// What an identity's text begins with.
pub(in crate::keys) const IDENTITY_START: &str = "AGE-SECRET-KEY-PQ-1";
const RECIPIENT: Hrp = Hrp::parse_unchecked("age1pq");
const IDENTITY: Hrp = Hrp::parse_unchecked("age-secret-key-pq-");
/// The stanza's name.
const STANZA: &str = "mlkem768x25519";
/// Separates these messages from all others.
const INFO: &[u8] = b"age-encryption.org/mlkem768x25519";
/// Keeps recipients that a quantum computer could break out of the same age file.
const LABEL: &str = "postquantum";
/// Bytes that the cipher adds to a file key.
const TAG_BYTES: usize = 16;

/// The private half.
#[derive(Clone)]
pub(super) struct Identity(Private);

/// The public half.
#[derive(Clone)]
pub(in crate::keys) struct Recipient(Box<Public>);

impl Identity {
    pub(super) fn generate() -> Self {
        Self(Private::generate())
    }

    pub(super) fn parse(text: &str) -> Result<Self, NativeKeyError> {
        let seed = decode(text, IDENTITY)?;
        Private::from_bytes(&seed).map(Self).map_err(|_| NativeKeyError::Length)
    }

    pub(super) fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(bech32_encode(IDENTITY, self.0.seed()));
        text.make_ascii_uppercase();
        text
    }

    pub(super) fn recipient(&self) -> String {
        bech32_encode(RECIPIENT, &Kem::sk_to_pk(&self.0).to_bytes())
    }
}

impl Recipient {
    /// From `age1pq1…`.
    pub(in crate::keys) fn parse(text: &str) -> Result<Self, NativeKeyError> {
        let public = Public::from_bytes(&decode(text, RECIPIENT)?);
        public.map(Box::new).map(Self).map_err(|error| match error {
            HpkeError::IncorrectInputLength(..) => NativeKeyError::Length,
            _ => NativeKeyError::Unsound,
        })
    }
}

impl age::Recipient for Recipient {
    fn wrap_file_key(&self, key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let sealed = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, Kem, _>(
            &OpModeS::Base,
            &self.0,
            INFO,
            key.expose_secret(),
            &[],
            &mut OsRng,
        );
        let (encapsulated, body) =
            sealed.map_err(|error| EncryptError::Io(io::Error::other(error.to_string())))?;
        let args = vec![BASE64_STANDARD_NO_PAD.encode(encapsulated.to_bytes())];
        let stanza = Stanza { tag: STANZA.to_owned(), args, body };
        Ok((vec![stanza], HashSet::from([LABEL.to_owned()])))
    }
}

impl age::Identity for Identity {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if stanza.tag != STANZA {
            return None;
        }
        let Some(encapsulated) = encapsulated(stanza) else { return Some(Err(DecryptError::InvalidHeader)) };
        match hpke_open::<Kem>(&encapsulated, &self.0, INFO, &stanza.body).map(Zeroizing::new) {
            Ok(key) => Some(FileKey::try_init_with_mut(|file_key| {
                *file_key = key.as_slice().try_into().map_err(|_| DecryptError::InvalidHeader)?;
                Ok(())
            })),
            // Made for another key.
            Err(HpkeError::OpenError) => None,
            Err(_) => Some(Err(DecryptError::InvalidHeader)),
        }
    }
}

/// `None` for a stanza that no recipient could have made.
fn encapsulated(stanza: &Stanza) -> Option<Encapsulated> {
    let [argument] = stanza.args.as_slice() else { return None };
    if stanza.body.len() != FILE_KEY_BYTES + TAG_BYTES {
        return None;
    }
    Encapsulated::from_bytes(&BASE64_STANDARD_NO_PAD.decode(argument).ok()?).ok()
}

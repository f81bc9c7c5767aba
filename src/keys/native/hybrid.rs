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

#[cfg(test)]
mod tests {
    use age::{Identity as _, Recipient as _};

    use super::*;

    const FILE_KEY: [u8; FILE_KEY_BYTES] = *b"a key of a file.";

    fn wrap(identity: &Identity) -> Stanza {
        let recipient = Recipient::parse(&identity.recipient()).expect("its own recipient");
        let key = FileKey::init_with_mut(|key| *key = FILE_KEY);
        let (mut stanzas, labels) = recipient.wrap_file_key(&key).expect("wrapped");
        assert_eq!((stanzas.len(), labels), (1, HashSet::from(["postquantum".to_owned()])));
        stanzas.remove(0)
    }

    #[track_caller]
    fn invalid(identity: &Identity, stanza: &Stanza) {
        let outcome = identity.unwrap_stanza(stanza).map(|outcome| outcome.map(|_| ()));
        assert!(matches!(outcome, Some(Err(DecryptError::InvalidHeader))), "{outcome:?}");
    }

    fn stanza(args: &[&str], body: &[u8]) -> Stanza {
        let args = args.iter().map(|&argument| argument.to_owned()).collect();
        Stanza { tag: STANZA.to_owned(), args, body: body.to_vec() }
    }

    /// The stanza with other bytes in its argument.
    fn changed(of: &Stanza, change: impl FnOnce(&mut Vec<u8>)) -> Stanza {
        let mut bytes = BASE64_STANDARD_NO_PAD.decode(&of.args[0]).expect("base64");
        change(&mut bytes);
        stanza(&[&BASE64_STANDARD_NO_PAD.encode(bytes)], &of.body)
    }

    #[test]
    fn a_file_key_comes_back_to_its_own_identity_only() {
        let (own, other) = (Identity::generate(), Identity::generate());
        let mut wrapped = wrap(&own);
        let key = own.unwrap_stanza(&wrapped).expect("its own").expect("sound");
        assert_eq!(key.expose_secret(), &FILE_KEY);
        assert!(other.unwrap_stanza(&wrapped).is_none());
        assert_ne!(wrap(&own).args, wrapped.args);
        wrapped.tag = "X25519".into();
        assert!(own.unwrap_stanza(&wrapped).is_none());
    }

    #[test]
    fn a_stanza_that_nobody_could_have_made_is_an_error() {
        let identity = Identity::generate();
        let wrapped = wrap(&identity);
        let (argument, body) = (wrapped.args[0].as_str(), wrapped.body.as_slice());
        invalid(&identity, &stanza(&[], body));
        invalid(&identity, &stanza(&[argument, argument], body));
        invalid(&identity, &stanza(&[&format!("{argument}=")], body));
        invalid(&identity, &stanza(&[argument], &body[1..]));
        invalid(&identity, &stanza(&[argument], &[body, &[0]].concat()));
        invalid(&identity, &changed(&wrapped, |bytes| bytes.push(0)));
        invalid(&identity, &changed(&wrapped, |bytes| bytes.truncate(bytes.len() - 1)));
        invalid(&identity, &changed(&wrapped, Vec::clear));
    }

    #[test]
    fn a_share_of_low_order_is_an_error() {
        let identity = Identity::generate();
        let wrapped = wrap(&identity);
        for first in [0, 1] {
            let of_low_order = changed(&wrapped, |bytes| {
                bytes[1088..].fill(0);
                bytes[1088] = first;
            });
            invalid(&identity, &of_low_order);
        }
    }

    #[test]
    fn a_changed_stanza_is_no_longer_ours() {
        let identity = Identity::generate();
        let mut wrapped = wrap(&identity);
        for at in [0, 500, 1087, 1088, 1119] {
            assert!(identity.unwrap_stanza(&changed(&wrapped, |bytes| bytes[at] ^= 1)).is_none(), "{at}");
        }
        wrapped.body[7] ^= 1;
        assert!(identity.unwrap_stanza(&wrapped).is_none());
    }

    #[test]
    fn the_text_of_an_identity_is_the_identity() {
        let identity = Identity::generate();
        let text = identity.to_text();
        assert!(text.starts_with(IDENTITY_START) && text.len() == 77, "{} characters", text.len());
        let again = Identity::parse(&text).expect("its own text");
        assert_eq!(again.recipient(), identity.recipient());
        assert!(again.recipient().starts_with(RECIPIENT_START));
        assert_eq!(again.recipient().len(), 1959);
    }

    #[test]
    fn texts_of_another_length_or_kind_are_refused() {
        let refused = |text: &str| Identity::parse(text).map(|_| ()).expect_err(text);
        assert_eq!(refused(&bech32_encode(IDENTITY, &[7; 31])), NativeKeyError::Length);
        assert_eq!(refused(&bech32_encode(IDENTITY, &[7; 33])), NativeKeyError::Length);
        assert_eq!(refused(&bech32_encode(RECIPIENT, &[7; 32])), NativeKeyError::OtherKind);
        let refused = |text: &str| Recipient::parse(text).map(|_| ()).expect_err(text);
        assert_eq!(refused(&bech32_encode(RECIPIENT, &[7; 1215])), NativeKeyError::Length);
        assert_eq!(refused(&bech32_encode(RECIPIENT, &[7; 1217])), NativeKeyError::Length);
        assert_eq!(refused(&bech32_encode(IDENTITY, &[7; 1216])), NativeKeyError::OtherKind);
        let text = Identity::generate().recipient();
        assert_eq!(refused(&text[..text.len() - 1]), NativeKeyError::Encoding);
        assert_eq!(refused(&text.replace("1pq1", "1pq1q")), NativeKeyError::Encoding);
    }

    #[test]
    fn a_recipient_whose_halves_are_no_keys_is_refused() {
        let sound = decode(&Identity::generate().recipient(), RECIPIENT).expect("its own");
        let refused = |change: &dyn Fn(&mut [u8])| {
            let mut bytes = sound.to_vec();
            change(&mut bytes);
            Recipient::parse(&bech32_encode(RECIPIENT, &bytes)).map(|_| ()).expect_err("changed")
        };
        // A number at the modulus of ML-KEM or above it.
        assert_eq!(refused(&|bytes| bytes[..3].fill(0xff)), NativeKeyError::Unsound);
        assert_eq!(refused(&|bytes| bytes[1149..1152].fill(0xff)), NativeKeyError::Unsound);
        // A point of low order.
        assert_eq!(refused(&|bytes| bytes[1184..].fill(0)), NativeKeyError::Unsound);
    }
}

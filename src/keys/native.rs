//! The native age key, X25519: its text, its bytes, its recipient.

use std::fmt;

use age::secrecy::ExposeSecret;
use bech32::{Bech32, Hrp};
use thiserror::Error;
use zeroize::Zeroizing;

/// The prefix of a recipient's text.
const RECIPIENT: Hrp = Hrp::parse_unchecked("age");
/// The prefix of an identity's text.
const IDENTITY: Hrp = Hrp::parse_unchecked("age-secret-key-");
/// Bytes of either half.
pub(super) const KEY_BYTES: usize = 32;

/// A text that is no native age key. The text itself is never repeated.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NativeKeyError {
    /// The checksum or an earlier part of the text is wrong.
    #[error("not a valid age key: a character is wrong or missing")]
    Encoding,
    /// Another kind of text in the same encoding.
    #[error("not a native age key")]
    OtherKind,
    /// Not 32 bytes.
    #[error("not a valid age key: its length is wrong")]
    Length,
    /// No file could ever be encrypted to it.
    #[error("not a usable age recipient: a point of low order")]
    LowOrder,
}

/// A native age identity. Wiped when dropped; `Debug` shows its recipient only.
#[derive(Clone)]
pub struct AgeIdentity {
    identity: age::x25519::Identity,
    recipient: String,
}

impl AgeIdentity {
    /// A new one, from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self::of(age::x25519::Identity::generate())
    }

    /// From `AGE-SECRET-KEY-1…`.
    ///
    /// # Errors
    ///
    /// The text is no such key.
    pub fn parse(text: &str) -> Result<Self, NativeKeyError> {
        decode(text, IDENTITY)?;
        text.parse().map(Self::of).map_err(|_| NativeKeyError::Encoding)
    }

    /// From a secret scalar; age clamps it itself.
    pub(super) fn from_secret(secret: &[u8; KEY_BYTES]) -> Result<Self, NativeKeyError> {
        let text = bech32::encode_upper::<Bech32>(IDENTITY, secret).map(Zeroizing::new);
        Self::parse(&text.map_err(|_| NativeKeyError::Encoding)?)
    }

    fn of(identity: age::x25519::Identity) -> Self {
        let recipient = identity.to_public().to_string();
        Self { identity, recipient }
    }

    /// The public half, `age1…`.
    #[must_use]
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// The private half, `AGE-SECRET-KEY-1…`.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(self.identity.to_string().expose_secret().to_owned())
    }

    pub(super) fn as_age(&self) -> &age::x25519::Identity {
        &self.identity
    }

    pub(super) fn secret(&self) -> Result<Zeroizing<[u8; KEY_BYTES]>, NativeKeyError> {
        decode(&self.to_text(), IDENTITY)
    }
}

impl fmt::Debug for AgeIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("AgeIdentity").field(&self.recipient).finish()
    }
}

/// `age1…` of a public key.
pub(super) fn recipient_text(public: &[u8; KEY_BYTES]) -> String {
    // 32 bytes always fit: the code's limit is 90 characters.
    bech32::encode::<Bech32>(RECIPIENT, public).unwrap_or_default()
}

/// The public key of `age1…`; refused if age could never encrypt to it.
pub(super) fn recipient_bytes(text: &str) -> Result<[u8; KEY_BYTES], NativeKeyError> {
    let public = *decode(text, RECIPIENT)?;
    // Every scalar is a multiple of the cofactor, so any of them finds a point of low order.
    let shared = x25519_dalek::x25519([1; KEY_BYTES], public);
    if shared == [0; KEY_BYTES] { Err(NativeKeyError::LowOrder) } else { Ok(public) }
}

fn decode(text: &str, kind: Hrp) -> Result<Zeroizing<[u8; KEY_BYTES]>, NativeKeyError> {
    let decoded = bech32::primitives::decode::CheckedHrpstring::new::<Bech32>(text);
    let decoded = decoded.map_err(|_| NativeKeyError::Encoding)?;
    if decoded.hrp() != kind {
        return Err(NativeKeyError::OtherKind);
    }
    let bytes = Zeroizing::new(decoded.byte_iter().collect::<Vec<_>>());
    let array: [u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| NativeKeyError::Length)?;
    Ok(Zeroizing::new(array))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_are_the_same_key() {
        let identity = AgeIdentity::generate();
        let again = AgeIdentity::parse(&identity.to_text()).expect("its own text");
        assert_eq!(again.recipient(), identity.recipient());
        let from_bytes = AgeIdentity::from_secret(&identity.secret().expect("32 bytes")).expect("32 bytes");
        assert_eq!(from_bytes.recipient(), identity.recipient());
        let public = recipient_bytes(identity.recipient()).expect("its own recipient");
        assert_eq!(recipient_text(&public), identity.recipient());
    }

    #[test]
    fn damaged_and_foreign_texts_are_refused() {
        let identity = AgeIdentity::generate();
        let mut text = identity.to_text().to_string();
        assert_eq!(AgeIdentity::parse(identity.recipient()).expect_err("public"), NativeKeyError::OtherKind);
        text.replace_range(20..21, if &text[20..21] == "Q" { "P" } else { "Q" });
        assert_eq!(AgeIdentity::parse(&text).expect_err("changed"), NativeKeyError::Encoding);
        assert_eq!(recipient_bytes(&identity.to_text()), Err(NativeKeyError::OtherKind));
    }

    #[test]
    fn a_recipient_of_low_order_is_refused() {
        for (first, rest) in [(0, 0), (1, 0)] {
            let mut point = [rest; KEY_BYTES];
            point[0] = first;
            assert_eq!(recipient_bytes(&recipient_text(&point)), Err(NativeKeyError::LowOrder));
        }
    }

    #[test]
    fn debug_shows_the_public_half_only() {
        let identity = AgeIdentity::generate();
        let shown = format!("{identity:?}");
        assert!(shown.contains(identity.recipient()));
        assert!(!shown.contains("SECRET"));
    }
}

//! Native age keys, X25519 and post-quantum: their text, their bytes, their recipients.

/// Post-quantum keys.
pub(super) mod hybrid;
/// The key encapsulation that they rest on.
mod kem;

use std::fmt;
use std::sync::OnceLock;

use age::secrecy::ExposeSecret;
use age_core::primitives::{bech32_decode, bech32_encode};
use bech32::Hrp;
use thiserror::Error;
use zeroize::Zeroizing;

/// The prefix of a recipient's text.
const RECIPIENT: Hrp = Hrp::parse_unchecked("age");
/// The prefix of an identity's text.
const IDENTITY: Hrp = Hrp::parse_unchecked("age-secret-key-");
/// Bytes of either half.
pub(super) const KEY_BYTES: usize = 32;

/// Why a text is not a native age key. The text itself is never repeated.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NativeKeyError {
    /// The checksum or an earlier part of the text is wrong.
    #[error("not a valid age key: a character is wrong or missing")]
    Encoding,
    /// Another kind of text in the same encoding.
    #[error("not a native age key")]
    OtherKind,
    /// Not as many bytes as the key has.
    #[error("not a valid age key: its length is wrong")]
    Length,
    /// No file could ever be encrypted to it.
    #[error("not a usable age recipient: a point of low order")]
    LowOrder,
    /// A post-quantum recipient to which no file could ever be encrypted.
    #[error("not a usable age recipient: one of its parts is not a public key")]
    Unsound,
}

/// A native age identity. Wiped when dropped; `Debug` shows its recipient only.
#[derive(Clone)]
pub struct AgeIdentity {
    kind: Kind,
    /// Made when it is asked for. Decrypting does without it, and it takes half as long as unwrapping a data key.
    recipient: OnceLock<String>,
}

#[derive(Clone)]
enum Kind {
    X25519(age::x25519::Identity),
    Hybrid(hybrid::Identity),
}

impl AgeIdentity {
    /// A new X25519 one, from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self::of(Kind::X25519(age::x25519::Identity::generate()))
    }

    /// A new post-quantum one, from the system's randomness.
    #[must_use]
    pub fn generate_post_quantum() -> Self {
        Self::of(Kind::Hybrid(hybrid::Identity::generate()))
    }

    /// From `AGE-SECRET-KEY-1…` or `AGE-SECRET-KEY-PQ-1…`.
    ///
    /// # Errors
    ///
    /// The text is not such a key.
    pub fn parse(text: &str) -> Result<Self, NativeKeyError> {
        if text.starts_with(hybrid::IDENTITY_START) {
            return hybrid::Identity::parse(text).map(Kind::Hybrid).map(Self::of);
        }
        array(&decode(text, IDENTITY)?)?;
        text.parse().map(Kind::X25519).map(Self::of).map_err(|_| NativeKeyError::Encoding)
    }

    /// From a secret scalar; age clamps it itself.
    pub(super) fn from_secret(secret: &[u8; KEY_BYTES]) -> Result<Self, NativeKeyError> {
        let mut text = Zeroizing::new(bech32_encode(IDENTITY, secret));
        text.make_ascii_uppercase();
        Self::parse(&text)
    }

    fn of(kind: Kind) -> Self {
        Self { kind, recipient: OnceLock::new() }
    }

    /// The public half, `age1…`.
    #[must_use]
    pub fn recipient(&self) -> &str {
        self.recipient.get_or_init(|| match &self.kind {
            Kind::X25519(identity) => identity.to_public().to_string(),
            Kind::Hybrid(identity) => identity.recipient(),
        })
    }

    /// Whether it is one that no quantum computer is known to break.
    #[must_use]
    pub fn is_post_quantum(&self) -> bool {
        matches!(self.kind, Kind::Hybrid(_))
    }

    /// The private half, `AGE-SECRET-KEY-…`.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        match &self.kind {
            Kind::X25519(identity) => Zeroizing::new(identity.to_string().expose_secret().to_owned()),
            Kind::Hybrid(identity) => identity.to_text(),
        }
    }

    pub(super) fn as_age(&self) -> &dyn age::Identity {
        match &self.kind {
            Kind::X25519(identity) => identity,
            Kind::Hybrid(identity) => identity,
        }
    }

    /// The secret scalar of an X25519 identity.
    pub(super) fn secret(&self) -> Result<Zeroizing<[u8; KEY_BYTES]>, NativeKeyError> {
        array(&decode(&self.to_text(), IDENTITY)?).map(Zeroizing::new)
    }
}

impl fmt::Debug for AgeIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("AgeIdentity").field(&self.recipient()).finish()
    }
}

/// `age1…` of a public key.
pub(super) fn recipient_text(public: &[u8; KEY_BYTES]) -> String {
    bech32_encode(RECIPIENT, public)
}

/// The public key of `age1…`; refused if age could never encrypt to it.
pub(super) fn recipient_bytes(text: &str) -> Result<[u8; KEY_BYTES], NativeKeyError> {
    let public = array(&decode(text, RECIPIENT)?)?;
    // Every scalar is a multiple of the cofactor, so any of them finds a point of low order.
    let shared = x25519_dalek::x25519([1; KEY_BYTES], public);
    if shared == [0; KEY_BYTES] { Err(NativeKeyError::LowOrder) } else { Ok(public) }
}

fn decode(text: &str, kind: Hrp) -> Result<Zeroizing<Vec<u8>>, NativeKeyError> {
    bech32_decode(
        text,
        |_| NativeKeyError::Encoding,
        |found| if found == kind { Ok(()) } else { Err(NativeKeyError::OtherKind) },
        |_, bytes| {
            // Large enough from the start: a buffer that grows would leave copies behind.
            let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
            decoded.extend(bytes);
            // A key has one text: with other bits in its padding it is none to age.
            let again = Zeroizing::new(bech32_encode(kind, &decoded));
            if again.eq_ignore_ascii_case(text) { Ok(decoded) } else { Err(NativeKeyError::Encoding) }
        },
    )
}

fn array(bytes: &[u8]) -> Result<[u8; KEY_BYTES], NativeKeyError> {
    bytes.try_into().map_err(|_| NativeKeyError::Length)
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
    fn a_text_whose_padding_holds_bits_is_refused() {
        use bech32::{ByteIterExt as _, Fe32, Fe32IterExt as _};
        let data = [7u8; KEY_BYTES].into_iter().bytes_to_fes().collect::<Vec<_>>();
        let text = |data: &[Fe32]| {
            let characters = data.iter().copied().with_checksum::<bech32::Bech32>(&IDENTITY).chars();
            characters.collect::<String>().to_uppercase()
        };
        assert!(AgeIdentity::parse(&text(&data)).is_ok());
        let mut changed = data.clone();
        changed[51] = Fe32::try_from(data[51].to_u8() | 1).expect("five bits");
        assert_eq!(AgeIdentity::parse(&text(&changed)).expect_err("padding"), NativeKeyError::Encoding);
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

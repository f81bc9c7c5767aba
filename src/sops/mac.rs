//! The MAC over a document's plaintext values.

use sha2::{Digest, Sha512};

use super::buffer::Buffer;
use super::tree::Value;
use super::value;

/// SHA-256 of the four bytes `sops`: what a MAC over encrypted values only begins with, so that it
/// differs from one over all values (sops calls it the MAC-only-encrypted initialization).
const ONLY_ENCRYPTED_SEED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b,
    0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// Bytes of plaintext that are gathered in one piece.
const PIECE: usize = 1 << 16;

/// A MAC in the making: the values in document order, without keys or separators. Parts of a document are worked on at
/// the same time, and a hash takes its input only in order: what a part covers is gathered until its turn comes.
pub(super) struct Mac {
    /// `None` for a part.
    hash: Option<Sha512>,
    pieces: Vec<Buffer>,
    only_encrypted: bool,
}

impl Mac {
    pub(super) fn new(only_encrypted: bool) -> Self {
        let mut hash = Sha512::new();
        if only_encrypted {
            hash.update(ONLY_ENCRYPTED_SEED);
        }
        Self { hash: Some(hash), pieces: Vec::new(), only_encrypted }
    }

    /// The same for a part of the document.
    pub(super) fn part(&self) -> Self {
        Self { hash: None, pieces: Vec::new(), only_encrypted: self.only_encrypted }
    }

    /// Takes in what comes next in the document.
    pub(super) fn join(&mut self, next: Self) {
        self.pieces.extend(next.pieces);
        self.hash_pieces();
    }

    /// Takes the next leaf's plaintext in. Comments, null and containers count for nothing.
    pub(super) fn update(&mut self, plaintext: &Value, encrypted: bool) {
        if (encrypted || !self.only_encrypted)
            && !matches!(plaintext, Value::Comment(_))
            && let Some(bytes) = value::to_bytes(plaintext)
        {
            match self.pieces.last_mut() {
                Some(piece) if piece.len() + bytes.len() <= PIECE => piece.extend(&bytes),
                _ => {
                    self.hash_pieces();
                    self.pieces.push(Buffer::from(&*bytes));
                }
            }
        }
    }

    fn hash_pieces(&mut self) {
        if let Some(hash) = &mut self.hash {
            self.pieces.drain(..).for_each(|piece| hash.update(&*piece));
        }
    }

    /// 128 upper-case hexadecimal digits.
    pub(super) fn finish(mut self) -> String {
        self.hash_pieces();
        let hash = self.hash.unwrap_or_default();
        hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use sha2::Sha256;

    use super::*;

    fn mac(only_encrypted: bool, leaves: &[(Value, bool)]) -> String {
        let mut mac = Mac::new(only_encrypted);
        for (value, encrypted) in leaves {
            mac.update(value, *encrypted);
        }
        mac.finish()
    }

    fn sha512(bytes: &[u8]) -> String {
        Sha512::digest(bytes).iter().map(|byte| format!("{byte:02X}")).collect()
    }

    #[test]
    fn the_seed_is_the_hash_of_the_word_sops() {
        assert_eq!(ONLY_ENCRYPTED_SEED[..], Sha256::digest(b"sops")[..]);
        assert_eq!(mac(true, &[]), sha512(&ONLY_ENCRYPTED_SEED));
        assert_eq!(mac(false, &[]), sha512(b""));
    }

    #[test]
    fn values_are_joined_without_separators_and_booleans_are_in_title_case() {
        let leaves = [
            (Value::Bool(true), true),
            (Value::Bool(false), false),
            (Value::Int(1), true),
            (Value::Float(1.0), true),
            (Value::Null, true),
            (Value::str(""), true),
            (Value::Comment(super::super::tree::Comment::line("no")), true),
            (Value::str("x"), true),
        ];
        assert_eq!(mac(false, &leaves), sha512(b"TrueFalse11x"));
    }

    #[test]
    fn clear_values_do_not_count_where_only_encrypted_ones_should() {
        let one = mac(true, &[(Value::str("a"), true), (Value::str("b"), false)]);
        let two = mac(true, &[(Value::str("a"), true), (Value::str("c"), false)]);
        assert_eq!(one, two);
        assert_ne!(one, mac(true, &[(Value::str("b"), true)]));
    }
}

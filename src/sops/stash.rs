//! The nonces of the values that were decrypted, kept so that an unchanged value keeps its ciphertext.

use std::collections::HashMap;
use std::fmt;

use sha2::{Digest, Sha256};

use super::cipher::Nonce;
use super::token::Kind;

/// A digest of place, type and plaintext: the stash itself holds no plaintext.
type Slot = [u8; 32];

/// Nonces by place and typed plaintext. Equal values at one place (in a list) keep theirs in order,
/// where sops would give all of them the last one's and rewrite the others.
#[derive(Default)]
pub struct Stash {
    nonces: HashMap<Slot, Vec<Nonce>>,
}

impl fmt::Debug for Stash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stash({} values)", self.nonces.len())
    }
}

impl Stash {
    /// An empty stash: every value gets a new nonce.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what another stash holds besides: of a merged file, each value keeps the ciphertext of the side that
    /// it comes from.
    pub fn absorb(&mut self, other: Self) {
        for (slot, nonces) in other.nonces {
            let known = self.nonces.entry(slot).or_default();
            for nonce in nonces {
                if !known.contains(&nonce) {
                    known.push(nonce);
                }
            }
        }
    }

    /// Takes in what comes next in the same document: equal values at one place keep as many nonces as there are of
    /// them, be they equal too.
    pub(super) fn append(&mut self, next: Self) {
        for (slot, nonces) in next.nonces {
            self.nonces.entry(slot).or_default().extend(nonces);
        }
    }

    pub(super) fn keep(&mut self, aad: &[u8], kind: Kind, plaintext: &[u8], nonce: &[u8]) {
        // A nonce of another length is not written back: sops itself could not reuse it.
        if let Ok(nonce) = Nonce::try_from(nonce) {
            self.nonces.entry(slot(aad, kind, plaintext)).or_default().push(nonce);
        }
    }

    pub(super) fn taker(&self) -> Taker<'_> {
        Taker { stash: self, taken: HashMap::new() }
    }
}

/// One encryption's way through a stash: each kept nonce is given out once.
#[derive(Clone)]
pub(super) struct Taker<'a> {
    stash: &'a Stash,
    taken: HashMap<Slot, usize>,
}

impl Taker<'_> {
    pub(super) fn may_have_some(&self) -> bool {
        !self.stash.nonces.is_empty()
    }

    pub(super) fn take(&mut self, aad: &[u8], kind: Kind, plaintext: &[u8]) -> Option<Nonce> {
        if !self.may_have_some() {
            return None;
        }
        let slot = slot(aad, kind, plaintext);
        let nonces = self.stash.nonces.get(&slot)?;
        let count = self.taken.entry(slot).or_insert(0);
        let nonce = nonces.get(*count).copied()?;
        *count += 1;
        Some(nonce)
    }
}

fn slot(aad: &[u8], kind: Kind, plaintext: &[u8]) -> Slot {
    let mut hash = Sha256::new();
    hash.update(aad.len().to_be_bytes());
    hash.update(aad);
    hash.update(kind.name());
    hash.update([0]);
    hash.update(plaintext);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_found_by_place_type_and_plaintext_only() {
        let mut stash = Stash::new();
        stash.keep(b"a:", Kind::Str, b"1", &[1; 32]);
        let mut taker = stash.taker();
        assert_eq!(taker.take(b"b:", Kind::Str, b"1"), None);
        assert_eq!(taker.take(b"a:", Kind::Int, b"1"), None);
        assert_eq!(taker.take(b"a:", Kind::Str, b"2"), None);
        assert_eq!(taker.take(b"a:", Kind::Str, b"1"), Some([1; 32]));
    }

    #[test]
    fn equal_values_at_one_place_keep_their_own_nonces() {
        let mut stash = Stash::new();
        stash.keep(b"l:", Kind::Str, b"x", &[1; 32]);
        stash.keep(b"l:", Kind::Str, b"x", &[2; 32]);
        for _ in 0..2 {
            let mut taker = stash.taker();
            assert_eq!(taker.take(b"l:", Kind::Str, b"x"), Some([1; 32]));
            assert_eq!(taker.take(b"l:", Kind::Str, b"x"), Some([2; 32]));
            assert_eq!(taker.take(b"l:", Kind::Str, b"x"), None);
        }
    }

    #[test]
    fn what_another_stash_holds_comes_after_one_s_own() {
        let (mut ours, mut theirs) = (Stash::new(), Stash::new());
        ours.keep(b"l:", Kind::Str, b"x", &[1; 32]);
        theirs.keep(b"l:", Kind::Str, b"x", &[1; 32]);
        theirs.keep(b"l:", Kind::Str, b"x", &[2; 32]);
        theirs.keep(b"n:", Kind::Str, b"y", &[3; 32]);
        ours.absorb(theirs);
        let mut taker = ours.taker();
        let mut take = |place: &[u8], text: &[u8]| taker.take(place, Kind::Str, text);
        assert_eq!(take(b"l:", b"x"), Some([1; 32]));
        assert_eq!(take(b"l:", b"x"), Some([2; 32]));
        assert_eq!(take(b"l:", b"x"), None);
        assert_eq!(take(b"n:", b"y"), Some([3; 32]));
    }

    #[test]
    fn a_nonce_of_another_length_is_not_kept() {
        let mut stash = Stash::new();
        stash.keep(b"a:", Kind::Str, b"1", &[1; 12]);
        assert_eq!(stash.taker().take(b"a:", Kind::Str, b"1"), None);
    }
}

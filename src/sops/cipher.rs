//! AES-256-GCM as sops uses it: 32-byte nonces on writing, any length on reading.

use aes_gcm::aead::consts as size;
use aes_gcm::aead::generic_array::{ArrayLength, GenericArray};
use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::KeyInit;
use aes_gcm::{AeadInPlace, AesGcm};
use zeroize::Zeroizing;

use super::data_key::DataKey;
use super::error::ValueError;
use super::token::TAG_LEN;

/// Bytes of a nonce that we write. GCM hashes a nonce of this length into its first counter block.
pub const NONCE_LEN: usize = 32;

/// The nonce of one value.
pub type Nonce = [u8; NONCE_LEN];

/// The cipher of one file, keyed once.
pub struct Cipher {
    aes: Aes256,
    usual: AesGcm<Aes256, size::U32>,
}

impl Cipher {
    /// The cipher of a data key.
    #[must_use]
    pub fn new(key: &DataKey) -> Self {
        let aes = Aes256::new(GenericArray::from_slice(key.as_bytes()));
        Self { usual: AesGcm::from(aes.clone()), aes }
    }

    /// Encrypts and authenticates: returns the ciphertext followed by its tag.
    ///
    /// # Errors
    /// A plaintext of more than 64 GiB.
    pub fn seal(&self, nonce: &Nonce, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, ValueError> {
        // Room for the tag is allocated up front, so that no plaintext is left behind by a reallocation.
        let mut sealed = Zeroizing::new(Vec::with_capacity(plaintext.len() + TAG_LEN));
        sealed.extend_from_slice(plaintext);
        let nonce = GenericArray::from_slice(nonce);
        let tag =
            self.usual.encrypt_in_place_detached(nonce, aad, &mut sealed).map_err(|_| ValueError::TooLong)?;
        sealed.extend_from_slice(&tag);
        Ok(std::mem::take(&mut *sealed))
    }

    /// Verifies a ciphertext followed by its tag and decrypts it where it is.
    ///
    /// # Errors
    /// A ciphertext that is not from this key, nonce and additional data; a nonce of no bytes or more
    /// than 64.
    pub fn open(&self, nonce: &[u8], aad: &[u8], sealed: Vec<u8>) -> Result<Zeroizing<Vec<u8>>, ValueError> {
        let length = sealed.len().checked_sub(TAG_LEN).ok_or(ValueError::Authentication)?;
        let mut buffer = Zeroizing::new(sealed);
        let (data, tag) = buffer.split_at_mut(length);
        if nonce.len() == NONCE_LEN {
            open_with(&self.usual, nonce, aad, data, tag)?;
        } else {
            self.open_unusual(nonce, aad, data, tag)?;
        }
        buffer.truncate(length);
        Ok(buffer)
    }
}

fn open_with<N: ArrayLength<u8>>(
    gcm: &AesGcm<Aes256, N>,
    nonce: &[u8],
    aad: &[u8],
    buffer: &mut [u8],
    tag: &[u8],
) -> Result<(), ValueError> {
    let nonce = GenericArray::from_slice(nonce);
    gcm.decrypt_in_place_detached(nonce, aad, buffer, GenericArray::from_slice(tag))
        .map_err(|_| ValueError::Authentication)
}

/// The crate has a nonce's length as a type parameter, so each length is a separate type.
macro_rules! open_by_length {
    ($($length:literal $size:ident)*) => {
        impl Cipher {
            fn open_unusual(
                &self, nonce: &[u8], aad: &[u8], buffer: &mut [u8], tag: &[u8],
            ) -> Result<(), ValueError> {
                match nonce.len() {
                    $($length => {
                        let gcm = AesGcm::<Aes256, size::$size>::from(self.aes.clone());
                        open_with(&gcm, nonce, aad, buffer, tag)
                    })*
                    length => Err(ValueError::NonceLength(length)),
                }
            }
        }
    };
}

open_by_length! {
    1 U1 2 U2 3 U3 4 U4 5 U5 6 U6 7 U7 8 U8 9 U9 10 U10 11 U11 12 U12 13 U13 14 U14 15 U15 16 U16
    17 U17 18 U18 19 U19 20 U20 21 U21 22 U22 23 U23 24 U24 25 U25 26 U26 27 U27 28 U28 29 U29
    30 U30 31 U31 33 U33 34 U34 35 U35 36 U36 37 U37 38 U38 39 U39 40 U40 41 U41 42 U42 43 U43
    44 U44 45 U45 46 U46 47 U47 48 U48 49 U49 50 U50 51 U51 52 U52 53 U53 54 U54 55 U55 56 U56
    57 U57 58 U58 59 U59 60 U60 61 U61 62 U62 63 U63 64 U64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by Go; see `tests/sops/README.md`.
    const NONCES: &str = include_str!("../../tests/sops/nonces.json");

    fn cipher() -> Cipher {
        let key: Vec<u8> = (0..32).collect();
        Cipher::new(&DataKey::from_bytes(&key).expect("32 bytes"))
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = |index| u8::from_str_radix(&hex[index..index + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(digits).collect()
    }

    #[test]
    fn nonces_of_every_length_open_what_go_sealed() {
        let sealed: Vec<String> = serde_json::from_str(NONCES).expect("JSON");
        assert_eq!(sealed.len(), 64);
        for (length, sealed) in (1..=64_u8).zip(sealed) {
            let nonce: Vec<u8> = (length..length + length).collect();
            let opened = cipher().open(&nonce, b"a:", bytes(&sealed));
            assert_eq!(opened.as_deref().map(Vec::as_slice), Ok(b"plain".as_slice()), "{length}");
            if length == 32 {
                let nonce = Nonce::try_from(nonce).expect("32 bytes");
                assert_eq!(cipher().seal(&nonce, b"a:", b"plain"), Ok(bytes(&sealed)));
            }
        }
        for length in [0, 65] {
            let opened = cipher().open(&vec![0; length], b"a:", vec![0; 20]);
            assert_eq!(opened.err(), Some(ValueError::NonceLength(length)));
        }
    }

    #[test]
    fn anything_that_differs_fails() {
        let sealed = cipher().seal(&[1; 32], b"a:", b"plain").expect("short");
        let failed = |nonce: &[u8], aad: &[u8], sealed: &[u8]| {
            cipher().open(nonce, aad, sealed.to_vec()).err() == Some(ValueError::Authentication)
        };
        assert!(!failed(&[1; 32], b"a:", &sealed));
        assert!(failed(&[2; 32], b"a:", &sealed));
        assert!(failed(&[1; 31], b"a:", &sealed));
        assert!(failed(&[1; 32], b"a", &sealed));
        assert!(failed(&[1; 32], b"a:", &sealed[1..]));
        assert!(failed(&[1; 32], b"a:", &sealed[..15]));
        assert!(failed(&[1; 32], b"a:", b""));
    }
}

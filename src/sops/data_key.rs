//! The data key: 32 random bytes per file that encrypt every value.

use std::fmt;

use rand::{CryptoRng, RngCore};
use zeroize::Zeroizing;

use super::Error;

/// Bytes of a data key: the key size of AES-256.
pub const DATA_KEY_LEN: usize = 32;

/// The key of a file's values. Wiped on drop, without content in `Debug`, never copied.
pub struct DataKey(Box<Zeroizing<[u8; DATA_KEY_LEN]>>);

impl DataKey {
    /// A new random key.
    pub fn generate(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        let mut key = Box::new(Zeroizing::new([0; DATA_KEY_LEN]));
        rng.fill_bytes(key.as_mut_slice());
        Self(key)
    }

    /// The key that a recipient unwrapped. The caller wipes its own copy.
    ///
    /// # Errors
    /// Any length but [`DATA_KEY_LEN`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut key = Box::new(Zeroizing::new([0; DATA_KEY_LEN]));
        if bytes.len() != DATA_KEY_LEN {
            return Err(Error::DataKeyLength(bytes.len()));
        }
        key.copy_from_slice(bytes);
        Ok(Self(key))
    }

    /// The bytes, to be wrapped for a recipient.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; DATA_KEY_LEN] {
        &self.0
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_length_is_refused() {
        assert!(DataKey::from_bytes(&[7; 32]).is_ok());
        for length in [0, 16, 31, 33] {
            assert_eq!(DataKey::from_bytes(&vec![7; length]).err(), Some(Error::DataKeyLength(length)));
        }
    }

    #[test]
    fn debug_shows_nothing_of_the_key() {
        let key = DataKey::from_bytes(&[0x61; 32]).expect("32 bytes");
        assert_eq!(format!("{key:?}"), "DataKey");
    }
}

//! What the installation asks of the rooms that know keys, ciphers and formats.

use std::error::Error as StdError;
use std::path::Path;

use zeroize::Zeroizing;

use crate::sops::tree::Tree;
use crate::store::Format;

/// Why something could not be opened. Holds no secret value.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// An identity and the recipient that it stands for.
#[derive(Clone)]
pub struct Imported<I> {
    /// The private half.
    pub identity: I,
    /// The public half, `age1…`.
    pub recipient: String,
}

/// Opens sops files.
pub trait Opener {
    /// What decrypts the data key of a file.
    type Identity;

    /// Takes an ssh private key as an age identity.
    ///
    /// # Errors
    /// A key of another kind, one with a passphrase, or no key at all.
    fn ssh_key(&self, text: &[u8]) -> Result<Imported<Self::Identity>, Cause>;

    /// Reads the identities of an age key file.
    ///
    /// # Errors
    /// A line that is not an identity.
    fn age_keys(&self, text: &[u8]) -> Result<Vec<Self::Identity>, Cause>;

    /// Reads an encrypted file without a key: the names stand in it, the values are ENC tokens, and
    /// the metadata is not among them.
    ///
    /// # Errors
    /// A file that is not of the format, or that holds no sops metadata.
    fn read(&self, file: &Path, text: &[u8], format: Format) -> Result<Tree, Cause>;

    /// Decrypts a file and verifies its MAC.
    ///
    /// # Errors
    /// No identity opens the file, or it has been tampered with.
    fn decrypt(
        &self,
        file: &Path,
        text: &[u8],
        format: Format,
        identities: &[Self::Identity],
    ) -> Result<Tree, Cause>;

    /// A decrypted file as text, in its own format.
    ///
    /// # Errors
    /// A tree that the format cannot hold.
    fn emit(&self, tree: &Tree, format: Format) -> Result<Zeroizing<Vec<u8>>, Cause>;
}

//! What the installation asks of the rooms that know keys, ciphers and formats.

use std::error::Error as StdError;
use std::path::Path;

use zeroize::Zeroizing;

use crate::sops::tree::Tree;
use crate::store::Format;

/// Why something could not be opened. Holds no secret value.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// No identity opens a file: its recipients and what was tried.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Locked(pub String);

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
    /// Everything that may decrypt a file.
    type Keys;
    /// A file that was read, its values still encrypted.
    type File;

    /// Takes an ssh private key as an age identity.
    ///
    /// # Errors
    /// A key of another kind, one with a passphrase, or no key at all.
    fn ssh_key(&self, text: &[u8]) -> Result<Imported<Self::Identity>, Cause>;

    /// Reads the identities of an age key file, and what is wrong with lines of it that are none.
    fn age_keys(&self, text: &[u8]) -> (Vec<Self::Identity>, Vec<String>);

    /// The identities that the manifest names, with those that are found elsewhere.
    fn keys(&self, named: Vec<Self::Identity>) -> Self::Keys;

    /// Reads an encrypted file without a key.
    ///
    /// # Errors
    /// A file that is not of the format, or that holds no sops metadata.
    fn read(&self, file: &Path, text: &[u8], format: Format) -> Result<Self::File, Cause>;

    /// What is in an encrypted file: the names stand in it, the values are ENC tokens, and the metadata is not among them.
    fn tree<'a>(&self, file: &'a Self::File) -> &'a Tree;

    /// Decrypts a file and verifies its MAC.
    ///
    /// # Errors
    /// No identity opens the file, or it has been tampered with.
    fn decrypt(&self, file: Self::File, keys: &Self::Keys) -> Result<Tree, Cause>;

    /// A decrypted file as text, in its own format.
    ///
    /// # Errors
    /// A tree that the format cannot hold.
    fn emit(&self, tree: &Tree, format: Format) -> Result<Zeroizing<Vec<u8>>, Cause>;
}

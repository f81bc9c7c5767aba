//! A single sops file: reading it, decrypting it with an identity, and writing it back.

mod doubts;
mod edited;

mod new;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::{OsRng, StdRng};
use zeroize::Zeroizing;

use super::error::Error;
use super::recipients::Plan;
use super::session::Session;
use crate::keys::identity::Identities;
use crate::keys::retrieval::{self, MasterKey};
use crate::sops::data_key::DataKey;
use crate::sops::document::{self, MacCheck, Nonces, Warning};
use crate::sops::key_path::{self, Found, KeyPath};
use crate::sops::metadata::{KeyGroup, Metadata, SOPS_VERSION, is_newer};
use crate::sops::selector::Selector;
use crate::sops::stash::Stash;
use crate::sops::tree::{Tree, Value};
use crate::store::{self, Store};

pub use doubts::Doubt;
pub use new::NewFile;

/// A sops file as it is on disk, with its values still encrypted.
#[derive(Clone)]
pub struct SopsFile {
    /// Where it is.
    pub path: PathBuf,
    /// The data, still encrypted.
    pub tree: Tree,
    /// The metadata.
    pub metadata: Metadata,
    store: Arc<dyn Store>,
}

/// A sops file whose data key was unwrapped and whose MAC was checked.
pub struct OpenFile {
    /// Where it is.
    pub path: PathBuf,
    /// The plaintext.
    pub tree: Tree,
    /// The metadata.
    pub metadata: Metadata,
    /// Warnings for the user.
    pub warnings: Vec<Warning>,
    pub(super) key: DataKey,
    pub(super) stash: Stash,
    pub(super) store: Arc<dyn Store>,
}

/// A group's keys in the order in which they are tried: age recipients first, then the kinds that civm cannot use.
fn master_keys(group: &KeyGroup) -> Vec<MasterKey<'_>> {
    let age = group.age.iter().map(|key| MasterKey::Age { recipient: &key.recipient, enc: &key.enc });
    let others = group
        .others
        .iter()
        .flat_map(|keys| keys.entries.iter().map(|_| MasterKey::Other { kind: keys.kind, name: keys.kind }));
    age.chain(others).collect()
}

fn at(path: &Path, error: store::Error) -> Error {
    Error::Store { path: path.to_path_buf(), error }
}

fn within(path: &Path) -> impl Fn(crate::sops::Error) -> Error + '_ {
    |error| Error::Sops { path: path.to_path_buf(), error }
}

impl SopsFile {
    /// Parses a text as the file of this name.
    ///
    /// # Errors
    /// It has a different format, or no valid metadata.
    pub fn parse(session: &Session, path: &Path, text: &[u8]) -> Result<Self, Error> {
        Self::of_store(session.store_of_encrypted(path, text)?, path, text)
    }

    /// Parses a text in the format of a store.
    ///
    /// # Errors
    /// It cannot be parsed, or has no valid metadata.
    pub fn of_store(store: Arc<dyn Store>, path: &Path, text: &[u8]) -> Result<Self, Error> {
        let file = Self::of_any_version(store, path, text)?;
        file.metadata.check_version().map_err(within(path))?;
        Ok(file)
    }

    /// The same without a check of the version in the metadata: the sops program refuses a file whose version cannot be
    /// parsed; programs that use its library to decrypt do not look at it.
    ///
    /// # Errors
    /// As [`SopsFile::of_store`].
    pub fn of_any_version(store: Arc<dyn Store>, path: &Path, text: &[u8]) -> Result<Self, Error> {
        let tree = store.load(text).map_err(|error| Error::of_text(path, text, error))?;
        let (tree, metadata) = document::split(tree, store.is_metadata()).map_err(within(path))?;
        Ok(Self { path: path.to_path_buf(), tree, metadata, store })
    }

    /// Unwraps the data key.
    ///
    /// # Errors
    /// No identity can decrypt the file.
    pub fn data_key(&self, identities: &Identities) -> Result<DataKey, Error> {
        let groups: Vec<_> = self.metadata.groups.iter().map(master_keys).collect();
        let threshold = self.metadata.groups_needed();
        let parts = retrieval::parts(&groups, threshold, identities)
            .map_err(|locked| Error::Locked { path: self.path.clone(), locked })?;
        self.metadata.data_key(&parts).map_err(within(&self.path))
    }

    /// Decrypts the whole file.
    ///
    /// # Errors
    /// No identity can decrypt it, or its content was changed after encryption.
    pub fn open(self, identities: &Identities, mac: MacCheck) -> Result<OpenFile, Error> {
        let key = self.data_key(identities)?;
        self.open_with(key, mac)
    }

    /// The same for a file that is only read: written again, it would get other ciphertexts throughout.
    ///
    /// # Errors
    /// As [`SopsFile::open`].
    pub fn open_to_read(self, identities: &Identities, mac: MacCheck) -> Result<OpenFile, Error> {
        let key = self.data_key(identities)?;
        self.decrypt(key, mac, Nonces::Forget)
    }

    /// Decrypts the whole file with a data key that is known.
    ///
    /// # Errors
    /// The key belongs to another file, or the content was changed after encryption.
    pub(super) fn open_with(self, key: DataKey, mac: MacCheck) -> Result<OpenFile, Error> {
        self.decrypt(key, mac, Nonces::Keep)
    }

    fn decrypt(self, key: DataKey, mac: MacCheck, nonces: Nonces) -> Result<OpenFile, Error> {
        let decrypted =
            document::decrypt(self.tree, &self.metadata, &key, mac, nonces).map_err(within(&self.path))?;
        Ok(OpenFile {
            path: self.path,
            tree: decrypted.tree,
            metadata: self.metadata,
            warnings: decrypted.warnings,
            key,
            stash: decrypted.stash,
            store: self.store,
        })
    }

    /// The file's text with its metadata as they are now.
    ///
    /// # Errors
    /// The tree cannot be written so that it reads back the same.
    pub fn render(self) -> Result<Vec<u8>, Error> {
        let whole = document::join(self.tree, &self.metadata, self.store.is_metadata())
            .map_err(within(&self.path))?;
        checked(&*self.store, &self.path, &whole)
    }
}

impl OpenFile {
    /// The same, to be written by another store.
    #[must_use]
    pub fn with_store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = store;
        self
    }

    /// The plaintext as sops prints it.
    ///
    /// # Errors
    /// The tree cannot be written.
    pub fn plaintext(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.plaintext_of(&self.tree)
    }

    /// Another plaintext as this file's would be printed.
    ///
    /// # Errors
    /// The tree cannot be written.
    pub fn plaintext_of(&self, tree: &Tree) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.store.emit_plain(tree).map(Zeroizing::new).map_err(|error| at(&self.path, error))
    }

    /// The value at a key path of the first document, as sops extracts it: a string as its bytes, anything
    /// else as the store writes it.
    ///
    /// # Errors
    /// There is no such value, or it cannot be written.
    pub fn extract(&self, path: &KeyPath) -> Result<Zeroizing<Vec<u8>>, Error> {
        let whole = Vec::new();
        let first = self.tree.documents.first().unwrap_or(&whole);
        let found = key_path::get(first, path).map_err(|error| Error::Path {
            path: self.path.clone(),
            key: path.clone(),
            error,
        })?;
        let bytes = match found {
            Found::Value(Value::Str(text)) => Ok(text.as_bytes().to_vec()),
            Found::Document(branch) | Found::Value(Value::Map(branch)) => {
                let mut tree = self.tree.clone();
                if let Some(first) = tree.documents.first_mut() {
                    first.clone_from(branch);
                }
                self.store.emit_plain(&tree)
            }
            Found::Value(other) => self.store.emit_value(other),
        };
        bytes.map(Zeroizing::new).map_err(|error| at(&self.path, error))
    }

    /// The file's new text for a changed plaintext. Values that are what they were keep their ciphertext.
    ///
    /// # Errors
    /// A value that cannot be encrypted, a tree that cannot be written.
    pub fn seal(&self, tree: Tree, session: &Session) -> Result<Vec<u8>, Error> {
        let mut metadata = self.metadata.clone();
        if is_newer(SOPS_VERSION, &metadata.version) {
            SOPS_VERSION.clone_into(&mut metadata.version);
        }
        self.encrypt(tree, metadata, &self.key, session)
    }

    /// The file's new text for its plaintext as it is now. As [`OpenFile::seal`], but the version stays: sops
    /// changes it in the editor only.
    ///
    /// # Errors
    /// As [`OpenFile::seal`]; a plaintext that has got a top-level `sops` key.
    pub fn reseal(mut self, session: &Session) -> Result<Vec<u8>, Error> {
        let tree = std::mem::take(&mut self.tree);
        refuse_encrypted(&*self.store, &self.path, &tree)?;
        self.encrypt(tree, self.metadata.clone(), &self.key, session)
    }

    /// The same with a new data key, for the recipients of a plan.
    ///
    /// # Errors
    /// As [`OpenFile::reseal`]; a recipient that cannot be used.
    pub(super) fn reseal_anew(mut self, plan: &Plan, session: &Session) -> Result<Vec<u8>, Error> {
        let key = DataKey::generate(&mut OsRng);
        let mut metadata = self.metadata.clone();
        plan.wrap(&mut metadata, &key, session)?;
        let tree = std::mem::take(&mut self.tree);
        self.encrypt(tree, metadata, &key, session)
    }

    fn encrypt(
        &self,
        tree: Tree,
        mut metadata: Metadata,
        key: &DataKey,
        session: &Session,
    ) -> Result<Vec<u8>, Error> {
        let tree = document::encrypt(tree, &mut metadata, key, &self.stash, &mut nonces(), session.now())
            .map_err(within(&self.path))?;
        sealed(&self.store, &self.path, tree, &metadata, key)
    }
}

/// The generator of a file's nonces, seeded once by the system: asking the system for each nonce would cost more
/// than the encryption.
fn nonces() -> StdRng {
    StdRng::from_entropy()
}

/// An encrypted tree as the file's text.
///
/// Writing YAML moves some comments, as in sops. Where comments choose the values that are encrypted, a moved one
/// can make a file that nobody can decrypt; so such a text is decrypted before it is written.
fn sealed(
    store: &Arc<dyn Store>,
    path: &Path,
    tree: Tree,
    metadata: &Metadata,
    key: &DataKey,
) -> Result<Vec<u8>, Error> {
    let whole = document::join(tree, metadata, store.is_metadata()).map_err(within(path))?;
    let text = checked(&**store, path, &whole)?;
    if metadata.selector.as_ref().is_some_and(Selector::reads_comments) {
        let file = SopsFile::of_store(Arc::clone(store), path, &text)?;
        document::decrypt(file.tree, &file.metadata, key, MacCheck::Verify, Nonces::Forget)
            .map_err(|_| Error::CommentsMove(path.to_path_buf()))?;
    }
    Ok(text)
}

/// A document with a top-level `sops` key counts as encrypted.
fn refuse_encrypted(store: &dyn Store, path: &Path, tree: &Tree) -> Result<(), Error> {
    match tree.documents.first() {
        Some(first) if store.is_encrypted(first) => Err(Error::AlreadyEncrypted(path.to_path_buf())),
        _ => Ok(()),
    }
}

/// The text of a tree, read again before it may be written anywhere.
fn checked(store: &dyn Store, path: &Path, whole: &Tree) -> Result<Vec<u8>, Error> {
    let text = store.emit(whole).map_err(|error| at(path, error))?;
    store.verify(whole, &text).map_err(|error| at(path, error))?;
    Ok(text)
}

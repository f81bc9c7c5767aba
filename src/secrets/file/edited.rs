//! The text that the editor shows, and reading it back.

use std::path::Path;

use zeroize::Zeroizing;

use super::super::error::Error;
use super::super::session::Session;
use super::{OpenFile, at, checked, refuse_encrypted, within};
use crate::sops::document;
use crate::sops::tree::Tree;
use crate::store::Store;

impl OpenFile {
    /// Checks that an edit of this plaintext would change only what the user changes.
    ///
    /// # Errors
    /// A value that the plaintext cannot represent exactly.
    pub fn check_editable(&self, plaintext: &[u8]) -> Result<(), Error> {
        self.store.verify_plain(&self.tree, plaintext).map_err(|error| at(&self.path, error))
    }

    /// The plaintext and the metadata, in the form of an encrypted file.
    ///
    /// # Errors
    /// The tree cannot be written.
    pub fn with_metadata(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let whole = document::join(self.tree.clone(), &self.metadata, self.store.is_metadata())
            .map_err(within(&self.path))?;
        checked(&*self.store, &self.path, &whole).map(Zeroizing::new)
    }

    /// Reads an edited text that was shown with the metadata.
    ///
    /// # Errors
    /// It is not valid; its metadata is not this file's.
    pub fn read_edited_with_metadata(&self, text: &[u8]) -> Result<Tree, Error> {
        let edited = || Error::MetadataEdited(self.path.clone());
        let tree = self.store.load(text).map_err(|error| at(&self.path, error))?;
        let (tree, metadata) = document::split(tree, self.store.is_metadata()).map_err(|_| edited())?;
        if metadata == self.metadata { Ok(tree) } else { Err(edited()) }
    }

    /// Reads an edited plaintext of this file.
    ///
    /// # Errors
    /// It is not valid, or has a top-level `sops` key.
    pub fn read_edited(&self, text: &[u8]) -> Result<Tree, Error> {
        self.read_replacement(None, &self.path, text)
    }

    /// Reads a plaintext that is to replace this one, perhaps in another format. Errors name where it comes `from`.
    ///
    /// # Errors
    /// As [`OpenFile::read_edited`].
    pub fn read_replacement(
        &self,
        input: Option<&dyn Store>,
        from: &Path,
        text: &[u8],
    ) -> Result<Tree, Error> {
        let tree = input.unwrap_or(&*self.store).load_plain(text).map_err(|error| at(from, error))?;
        refuse_encrypted(&*self.store, &self.path, &tree)?;
        Ok(tree)
    }

    /// The file's new text for a plaintext that replaces this one, perhaps in another format; `None` if the content is
    /// the same.
    ///
    /// # Errors
    /// As [`OpenFile::read_replacement`] and [`OpenFile::seal`].
    pub fn replaced(
        &self,
        input: Option<&dyn Store>,
        from: &Path,
        text: &[u8],
        session: &Session,
    ) -> Result<Option<Vec<u8>>, Error> {
        let tree = self.read_replacement(input, from, text)?;
        // Compared as it would be written: a different layout is not a change.
        let same = self.plaintext_of(&tree)? == self.plaintext()?;
        if same { Ok(None) } else { self.seal(tree, session).map(Some) }
    }
}

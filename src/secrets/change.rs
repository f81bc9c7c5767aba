//! One value of a file set or removed, and nothing else touched.

mod json;

use super::error::Error;
use super::file::OpenFile;
use crate::sops::key_path::{self, KeyPath, PathError};
use crate::sops::tree::{Branch, Value};

pub use json::{json_value, json_value_as_sops};

impl OpenFile {
    /// Sets a value of the first document, and says whether that changed anything: `--idempotent` writes
    /// nothing where it did not. [`OpenFile::reseal`] gives the file's new text.
    ///
    /// # Errors
    /// A path that does not fit the document.
    pub fn set(&mut self, path: &KeyPath, value: Value) -> Result<bool, Error> {
        self.change(path, |document| key_path::set(document, path, value))
    }

    /// Removes a value of the first document. `--idempotent` forgives the errors that
    /// [`PathError::is_absent`] tells. [`OpenFile::reseal`] gives the file's new text.
    ///
    /// # Errors
    /// There is no such value.
    pub fn unset(&mut self, path: &KeyPath) -> Result<(), Error> {
        self.change(path, |document| key_path::unset(document, path))
    }

    fn change<T>(
        &mut self,
        path: &KeyPath,
        work: impl FnOnce(&mut Branch) -> Result<T, PathError>,
    ) -> Result<T, Error> {
        let mut none = Branch::new();
        let document = self.tree.documents.first_mut().unwrap_or(&mut none);
        work(document).map_err(|error| Error::Path { path: self.path.clone(), key: path.clone(), error })
    }
}

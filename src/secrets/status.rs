//! Whether a file is encrypted. Needs no key.

use std::path::Path;

use super::error::Error;
use crate::sops::document;
use crate::sops::metadata::Metadata;
use crate::store::Store;

/// The metadata of a text, if sops would regard it as encrypted: it must have a version and a MAC.
///
/// # Errors
/// The text is not in the store's format, or its metadata is not valid.
pub fn metadata(store: &dyn Store, path: &Path, text: &[u8]) -> Result<Option<Metadata>, Error> {
    let tree = store.load(text).map_err(|error| Error::of_text(path, text, error))?;
    match document::split(tree, store.is_metadata()) {
        Ok((_, metadata)) => Ok(Some(metadata).filter(Metadata::is_complete)),
        Err(crate::sops::Error::MetadataNotFound) => Ok(None),
        Err(error) => Err(Error::Sops { path: path.to_path_buf(), error }),
    }
}

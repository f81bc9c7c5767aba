//! A new sops file: plaintext that is encrypted for the first time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::OsRng;

use super::{at, nonces, refuse_encrypted, sealed, within};
use crate::secrets::error::Error;
use crate::secrets::merge::recorded_in;
use crate::secrets::recipients::Plan;
use crate::secrets::session::Session;
use crate::sops::data_key::DataKey;
use crate::sops::document;
use crate::sops::metadata::{Metadata, SOPS_VERSION};
use crate::sops::stash::Stash;
use crate::sops::tree::{Item, Tree, Value};
use crate::store::Store;

/// A plaintext to encrypt for the first time.
pub struct NewFile {
    path: PathBuf,
    store: Arc<dyn Store>,
    /// Whether the plaintext was read as a single value.
    pub(super) single_value: bool,
    /// The plaintext.
    pub tree: Tree,
}

impl NewFile {
    /// Reads a plaintext with one store, to be written by another.
    ///
    /// # Errors
    /// It is not valid, or already encrypted.
    pub fn of_stores(
        input: &dyn Store,
        output: Arc<dyn Store>,
        path: &Path,
        text: &[u8],
    ) -> Result<Self, Error> {
        // Not a plaintext, although as bytes it could be encrypted again.
        if recorded_in(text).is_some_and(|recorded| recorded.is_sops()) {
            return Err(Error::Unmerged(path.to_path_buf()));
        }
        let tree = input.load_plain(text).map_err(|error| at(path, error))?;
        refuse_encrypted(&*output, path, &tree)?;
        Ok(Self { path: path.to_path_buf(), store: output, single_value: input.is_single_value(), tree })
    }

    /// A file with the given keys and values.
    ///
    /// # Errors
    /// The store for a file of this name cannot be set up.
    pub fn of_secrets<'a>(
        session: &Session,
        path: &Path,
        secrets: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Error> {
        let store = session.store_of(path)?;
        let branch = secrets.into_iter().map(|(name, text)| Item::entry(name, Value::str(text))).collect();
        let tree = Tree { documents: vec![branch] };
        Ok(Self { path: path.to_path_buf(), store, single_value: false, tree })
    }

    /// Encrypts it for the recipients of a plan. A single value is always encrypted and, as in sops, its file has no
    /// selector.
    ///
    /// # Errors
    /// A recipient or a value that cannot be used.
    pub fn seal(self, plan: &Plan, session: &Session) -> Result<Vec<u8>, Error> {
        let key = DataKey::generate(&mut OsRng);
        let selector = (!self.single_value).then(|| plan.selector.clone().unwrap_or_default());
        let now = session.now();
        let mut metadata = Metadata::new(Vec::new(), selector, now, SOPS_VERSION);
        metadata.shamir_threshold = plan.shamir_threshold;
        metadata.mac_only_encrypted = plan.mac_only_encrypted && !self.single_value;
        plan.wrap(&mut metadata, &key, session)?;
        let tree = document::encrypt(self.tree, &mut metadata, &key, &Stash::new(), &mut nonces(), now)
            .map_err(within(&self.path))?;
        sealed(&self.store, &self.path, tree, &metadata, &key)
    }
}

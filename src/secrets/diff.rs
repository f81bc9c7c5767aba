//! Comparing two versions of a sops file: their values, recipients and settings.

use std::path::Path;
use std::sync::Arc;

use super::error::Error;
use super::file::{OpenFile, SopsFile};
use super::opener::Opener;
use super::session::Session;
use crate::sops;
use crate::sops::difference::{Difference, differences};
use crate::sops::document::MacCheck;
use crate::sops::metadata::Metadata;
use crate::sops::tree::Tree;
use crate::store::Store;

/// Two versions of a file.
pub struct Compared {
    old: Version,
    new: Version,
    /// Whether values could be compared. If no identity can decrypt a version, ciphertexts are compared, and a value that
    /// was merely re-encrypted counts as changed.
    pub decrypted: bool,
    /// Whether the data key differs; false if unknown.
    pub new_data_key: bool,
}

/// One version; a missing one has no documents, one in plaintext no metadata.
#[derive(Default)]
struct Version {
    tree: Tree,
    metadata: Option<Metadata>,
}

/// A version after parsing.
enum Parsed {
    Encrypted(Box<SopsFile>),
    Plain(Tree),
    Missing,
    Broken(Error),
}

/// Compares two versions of a file, either of which may be missing. `None` if neither is a sops file.
///
/// # Errors
/// One version is a sops file and the other is not valid; a value cannot be decrypted; no identity can decrypt them and
/// `values` are requested.
pub fn compare(
    session: &Session,
    store: &Arc<dyn Store>,
    [old, new]: [(&Path, Option<&[u8]>); 2],
    values: bool,
) -> Result<Option<Compared>, Error> {
    let (old, new) = (read(store, old), read(store, new));
    if ![&old, &new].iter().any(|version| matches!(version, Parsed::Encrypted(_))) {
        return Ok(None);
    }
    let mut opener = Opener::new(session, MacCheck::Ignore);
    let (first, second) = (open(&mut opener, &old), open(&mut opener, &new));
    let opened = again(&opener, &old, first).and_then(|one| Ok((one, again(&opener, &new, second)?)));
    let (old, new, keys) = match opened {
        Ok((one, other)) => {
            let keys = one.as_ref().zip(other.as_ref());
            let new_data_key = keys.is_some_and(|(one, other)| one.key.as_bytes() != other.key.as_bytes());
            (version(old, one)?, version(new, other)?, Some(new_data_key))
        }
        Err(Error::Locked { .. }) if !values => (version(old, None)?, version(new, None)?, None),
        Err(error) => return Err(error),
    };
    Ok(Some(Compared { old, new, decrypted: keys.is_some(), new_data_key: keys.unwrap_or(false) }))
}

fn read(store: &Arc<dyn Store>, (path, text): (&Path, Option<&[u8]>)) -> Parsed {
    let Some(text) = text else { return Parsed::Missing };
    match SopsFile::of_store(Arc::clone(store), path, text) {
        Ok(file) => Parsed::Encrypted(Box::new(file)),
        Err(error @ Error::Sops { error: sops::Error::MetadataNotFound, .. }) => {
            store.load_plain(text).map_or(Parsed::Broken(error), Parsed::Plain)
        }
        Err(error) => Parsed::Broken(error),
    }
}

fn open(opener: &mut Opener<'_>, version: &Parsed) -> Option<Result<OpenFile, Error>> {
    if let Parsed::Encrypted(file) = version { Some(opener.open(file)) } else { None }
}

fn again(
    opener: &Opener<'_>,
    version: &Parsed,
    tried: Option<Result<OpenFile, Error>>,
) -> Result<Option<OpenFile>, Error> {
    match (version, tried) {
        (Parsed::Encrypted(file), Some(tried)) => opener.again(file, tried).map(Some),
        _ => Ok(None),
    }
}

/// A version in plaintext if it was opened, else as it is.
fn version(read: Parsed, opened: Option<OpenFile>) -> Result<Version, Error> {
    match (read, opened) {
        (Parsed::Encrypted(_), Some(file)) => Ok(Version { tree: file.tree, metadata: Some(file.metadata) }),
        (Parsed::Encrypted(file), None) => Ok(Version { tree: file.tree, metadata: Some(file.metadata) }),
        (Parsed::Plain(tree), _) => Ok(Version { tree, metadata: None }),
        (Parsed::Missing, _) => Ok(Version::default()),
        (Parsed::Broken(error), _) => Err(error),
    }
}

impl Compared {
    /// The values that differ.
    #[must_use]
    pub fn values(&self) -> Vec<Difference<'_>> {
        differences(&self.old.tree, &self.new.tree)
    }

    /// Recipients that only the newer version has.
    #[must_use]
    pub fn added(&self) -> Vec<String> {
        only_in(&self.new, &self.old)
    }

    /// Recipients that only the older version has.
    #[must_use]
    pub fn removed(&self) -> Vec<String> {
        only_in(&self.old, &self.new)
    }

    /// Which other settings of the file differ.
    #[must_use]
    pub fn settings(&self) -> Vec<&'static str> {
        let (Some(old), Some(new)) = (&self.old.metadata, &self.new.metadata) else { return Vec::new() };
        let groups = |metadata: &Metadata| metadata.groups.len();
        [
            ("which values are encrypted", old.selector != new.selector),
            ("what the MAC covers", old.mac_only_encrypted != new.mac_only_encrypted),
            ("the Shamir threshold", old.shamir_threshold != new.shamir_threshold),
            ("the number of key groups", groups(old) != groups(new)),
        ]
        .into_iter()
        .filter_map(|(what, differs)| differs.then_some(what))
        .collect()
    }

    /// Whether the file was or became plaintext.
    #[must_use]
    pub fn encryption(&self) -> Option<&'static str> {
        let plain = |version: &Version| version.metadata.is_none() && !version.tree.documents.is_empty();
        match (plain(&self.old), plain(&self.new)) {
            (true, _) => Some("it was not encrypted before"),
            (_, true) => Some("it is not encrypted now"),
            _ => None,
        }
    }
}

fn only_in(version: &Version, other: &Version) -> Vec<String> {
    let names =
        |version: &Version| version.metadata.as_ref().map(Metadata::names).unwrap_or_default().concat();
    let others = names(other);
    names(version).into_iter().filter(|name| !others.contains(name)).collect()
}

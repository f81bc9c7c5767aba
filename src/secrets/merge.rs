//! Three-way merge of a sops file: each version is decrypted with its own data key, the plaintexts are merged, and the
//! result is encrypted so that every value that a side did not change keeps its ciphertext.

mod metadata;

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::edit::{Watch, in_editor};
use super::error::Error;
use super::file::{OpenFile, SopsFile};
use super::opener::Opener;
use super::session::Session;
use crate::sops;
use crate::sops::document::MacCheck;
use crate::sops::merge::{self, Conflict, Sides, conflicted, marked, recorded};
use crate::sops::tree::{Tree, repeated_key};
use crate::store::{Store, may_be_encrypted};

pub use metadata::Refused;

/// The versions of a file to merge.
pub struct Versions<'a> {
    /// The merge base; none if both sides added the file.
    pub base: Option<&'a [u8]>,
    /// Ours.
    pub ours: &'a [u8],
    /// Theirs.
    pub theirs: &'a [u8],
}

/// The versions that were read from a file with conflict markers.
pub struct Recorded(Sides<Zeroizing<Vec<u8>>>);

/// The note in the first line of each conflict. It has no `:` and no `=`: the line must not be a key with a value in any
/// format, so that no program reads the file before the conflict is resolved.
const NOTE: &str = " (not merged yet, resolve with `civm secrets merge`)";

/// git's default marker length.
pub const MARKERS: usize = 7;

/// The result of a merge.
pub enum Merge {
    /// The merged file's text.
    Clean(Vec<u8>),
    /// A conflict that somebody has to resolve.
    Conflict(Box<Unmerged>),
}

/// A file with conflicts, as plaintext in memory.
pub struct Unmerged {
    /// Where the sides disagree.
    pub conflicts: Vec<Conflict>,
    trees: Sides<Tree>,
    /// The file, without its tree.
    file: OpenFile,
}

/// Why versions cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A version cannot be read, opened or written.
    #[error("{version}: {error}")]
    Version {
        /// Which one.
        version: &'static str,
        /// Why.
        error: Box<Error>,
    },
    /// The merged file cannot be made.
    #[error(transparent)]
    File(Box<Error>),
    /// The metadata cannot be merged.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// No version is a sops file.
    #[error("none of its versions is encrypted")]
    Plain,
    /// A conflict in bytes that are not text.
    #[error("the content is not text, so no editor can show it")]
    NotText,
}

impl From<Error> for MergeError {
    fn from(error: Error) -> Self {
        Self::File(Box::new(error))
    }
}

/// Merges versions of the file of this name.
///
/// The result has our data key, unless only theirs was changed. A version that no identity can decrypt is decrypted with
/// the data key of another version, if they share it.
///
/// # Errors
/// A version cannot be decrypted, or the metadata cannot be merged.
pub fn merge(
    session: &Session,
    path: &Path,
    store: &Arc<dyn Store>,
    versions: &Versions<'_>,
    mac: MacCheck,
) -> Result<Merge, MergeError> {
    let read = |version: &'static str, text: &[u8]| {
        SopsFile::of_store(Arc::clone(store), path, text)
            .map_err(|error| MergeError::Version { version, error: Box::new(error) })
    };
    let (ours, theirs) = match (read("ours", versions.ours), read("theirs", versions.theirs)) {
        (Err(MergeError::Version { error: one, .. }), Err(MergeError::Version { error: other, .. }))
            if is_plain(&one) && is_plain(&other) =>
        {
            return Err(MergeError::Plain);
        }
        (ours, theirs) => (ours?, theirs?),
    };
    let base = match versions.base.map(|text| read("the common base", text)) {
        // The base was not encrypted yet: treat it as if both sides added the file.
        Some(Err(MergeError::Version { error, .. })) if is_plain(&error) => None,
        base => base.transpose()?,
    };
    let mut opener = Opener::new(session, mac);
    let failed = |version| move |error| MergeError::Version { version, error: Box::new(error) };
    let tried = (opener.open(&ours), opener.open(&theirs), base.as_ref().map(|base| opener.open(base)));
    let ours = opener.again(&ours, tried.0).map_err(failed("ours"))?;
    let theirs = opener.again(&theirs, tried.1).map_err(failed("theirs"))?;
    let base = base.zip(tried.2).map(|(base, tried)| opener.again(&base, tried));
    let base = base.transpose().map_err(failed("the common base"))?;
    let merged = merge::merge(base.as_ref().map(|base| &base.tree), &ours.tree, &theirs.tree);
    let same = |one: &OpenFile, other: &OpenFile| one.key.as_bytes() == other.key.as_bytes();
    let only_theirs = base.as_ref().is_some_and(|base| same(base, &ours) && !same(base, &theirs));
    let metadata = metadata::merge(
        base.as_ref().map(|base| &base.metadata),
        metadata::Side { metadata: &ours.metadata, has_key: !only_theirs || same(&ours, &theirs) },
        metadata::Side { metadata: &theirs.metadata, has_key: only_theirs || same(&ours, &theirs) },
        if only_theirs { &theirs.key } else { &ours.key },
        session,
    )?;
    if merged.conflicts.is_empty()
        && !only_theirs
        && merged.trees.ours == ours.tree
        && metadata == ours.metadata
    {
        return Ok(Merge::Clean(versions.ours.to_vec()));
    }
    let (mut file, other) = if only_theirs { (theirs, ours) } else { (ours, theirs) };
    file.stash.absorb(other.stash);
    if let Some(base) = base {
        file.stash.absorb(base.stash);
    }
    file.metadata = metadata;
    if merged.conflicts.is_empty() {
        return Ok(Merge::Clean(file.seal(merged.trees.ours, session)?));
    }
    Ok(Merge::Conflict(Box::new(Unmerged { conflicts: merged.conflicts, trees: merged.trees, file })))
}

/// All three versions in one text, with conflict markers. It cannot be read in any format, holds no plaintext that
/// is not in the versions, and [`recorded_in`] reads the versions back.
#[must_use]
pub fn record(versions: &Versions<'_>, markers: usize) -> Vec<u8> {
    let texts =
        Sides { ours: versions.ours, base: versions.base.unwrap_or_default(), theirs: versions.theirs };
    recorded(&texts, markers, NOTE).text.to_vec()
}

/// The versions that a text contains between markers.
#[must_use]
pub fn recorded_in(text: &[u8]) -> Option<Recorded> {
    conflicted(text).map(Recorded)
}

impl Recorded {
    /// Whether a side may be a sops file.
    #[must_use]
    pub fn is_sops(&self) -> bool {
        may_be_encrypted(&self.0.ours) || may_be_encrypted(&self.0.theirs)
    }

    /// Applies a function to each version and shows the results as one text with conflict markers. If the base cannot
    /// be read, ours stands in for it.
    ///
    /// # Errors
    /// That of ours, or of theirs.
    pub fn marked(
        &self,
        read: impl Fn(&[u8]) -> Result<Zeroizing<Vec<u8>>, Error>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (ours, theirs) = (read(&self.0.ours)?, read(&self.0.theirs)?);
        let base = read(&self.0.base).unwrap_or_else(|_| ours.clone());
        Ok(marked(&Sides { ours, base, theirs }, MARKERS).text)
    }

    /// The versions.
    #[must_use]
    pub fn versions(&self) -> Versions<'_> {
        let Sides { ours, base, theirs } = &self.0;
        Versions { base: Some(base.as_slice()).filter(|base| !base.is_empty()), ours, theirs }
    }
}

fn is_plain(error: &Error) -> bool {
    matches!(error, Error::Sops { error: sops::Error::MetadataNotFound, .. })
}

impl Unmerged {
    /// The merged file, encrypted, with conflict markers where the sides disagree. Taking the same side of every
    /// conflict gives a valid file.
    ///
    /// # Errors
    /// A side that the format cannot represent.
    pub fn record(&self, session: &Session, markers: usize) -> Result<Vec<u8>, MergeError> {
        let seal = |tree: &Tree| self.file.seal(tree.clone(), session);
        let Sides { ours, base, theirs } = &self.trees;
        let texts = Sides { ours: seal(ours)?, base: seal(base)?, theirs: seal(theirs)? };
        Ok(recorded(&texts, markers, NOTE).text.to_vec())
    }

    /// The merged file with the base's value in every conflict.
    ///
    /// # Errors
    /// A base that the format cannot represent.
    pub fn as_before(&self, session: &Session) -> Result<Vec<u8>, MergeError> {
        Ok(self.file.seal(self.trees.base.clone(), session)?)
    }

    /// Opens the editor on the plaintext with conflict markers, and encrypts the result.
    ///
    /// # Errors
    /// The content is not text, the editor fails, markers remain, or the result cannot be sealed.
    pub fn resolve(
        self,
        session: &Session,
        markers: usize,
        watch: &Watch<'_>,
    ) -> Result<Vec<u8>, MergeError> {
        let Self { trees, file, .. } = self;
        let repeated = |tree: &Tree| {
            let key = tree.documents.iter().find_map(|branch| repeated_key(branch));
            key.map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned())
        };
        let had_one = [&trees.ours, &trees.theirs].into_iter().any(|side| repeated(side).is_some());
        let plain = |tree: &Tree| {
            let text = file.store.emit_plain(tree).map(Zeroizing::new);
            let text = text.map_err(|error| Error::Store { path: file.path.clone(), error })?;
            if std::str::from_utf8(&text).is_err() { Err(MergeError::NotText) } else { Ok(text) }
        };
        let texts =
            Sides { ours: plain(&trees.ours)?, base: plain(&trees.base)?, theirs: plain(&trees.theirs)? };
        let marked = marked(&texts, markers);
        let sealed = in_editor(session, &file.path, &marked.text, watch, |text| {
            if marked.remain_in(text) {
                return Err(Error::Unresolved);
            }
            let tree = file.read_edited(text)?;
            // Where only the markers were deleted, both sides are there: formats that allow it would read one of them.
            match repeated(&tree).filter(|_| !had_one) {
                Some(key) => Err(Error::BothKept(key)),
                None => file.seal(tree, session),
            }
        });
        Ok(sealed?)
    }
}

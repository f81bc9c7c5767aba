//! Rotating the data key, so that anyone who kept the old one cannot read later versions of the file.

use std::path::{Path, PathBuf};

use super::discover::{Found, sops_files};
use super::error::Error;
use super::file::{OpenFile, SopsFile};
use super::many;
use super::recipients::Plan;
use super::rewrite::transform_unsynced;
use super::session::Session;
use crate::edge::atomic::Unsynced;
use crate::keys::recipient::{Recipient, same_key};
use crate::sops::document::MacCheck;
use crate::sops::metadata::Metadata;

/// Changes to the recipients of a file that gets a new data key.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    /// New recipients, in the first group.
    pub add: Vec<String>,
    /// Recipients to remove from every group, spelled as in the file.
    pub remove: Vec<String>,
}

impl Rotation {
    /// The same with those that are removed spelled as in a file: a key is the same in every form and with every
    /// comment.
    fn spelled_as_in(&self, metadata: &Metadata) -> Self {
        let removed: Vec<_> = self.remove.iter().map(|text| same_key(text)).collect();
        let names = metadata.age_keys().map(|key| &key.recipient);
        let remove = names.filter(|name| removed.contains(&same_key(name))).cloned().collect();
        Self { add: self.add.clone(), remove }
    }

    /// The recipients of a file after it. Nobody is added to a group twice.
    ///
    /// # Errors
    /// The file has keys of other kinds, a group would be empty, a recipient cannot be used.
    pub fn plan(&self, path: &Path, metadata: &Metadata, session: &Session) -> Result<Plan, Error> {
        let mut plan = Plan::of_file(path, metadata)?;
        if let Some(first) = plan.groups.first_mut() {
            for recipient in &self.add {
                if !first.contains(recipient) {
                    first.push(recipient.clone());
                }
            }
        }
        // A misspelled recipient would silently stay in the file.
        let is_in_file = |text: &&String| metadata.age_keys().any(|key| key.recipient == **text);
        for text in self.remove.iter().filter(|text| !is_in_file(text)) {
            Recipient::parse(text).map_err(|error| Error::Recipient { recipient: text.clone(), error })?;
        }
        for group in &mut plan.groups {
            group.retain(|recipient| !self.remove.contains(recipient));
        }
        plan.check(session, metadata.shamir_threshold)?;
        Ok(plan)
    }
}

impl OpenFile {
    /// The file's new text with a new data key: every value is re-encrypted. As in sops, the values keep their
    /// nonces, which is safe under another key.
    ///
    /// # Errors
    /// As [`Rotation::plan`], which reports it before the user is asked for a key; a value that cannot be encrypted.
    pub fn rotate(self, rotation: &Rotation, session: &Session) -> Result<Vec<u8>, Error> {
        let plan = rotation.plan(&self.path, &self.metadata, session)?;
        self.reseal_anew(&plan, session)
    }
}

/// Which of several files get a new data key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those that one of the removed recipients can read.
    Readable,
}

/// The result for one of several files.
#[derive(Debug)]
pub struct Rotated {
    /// The file's real path, or the path that could not be searched.
    pub path: PathBuf,
    /// How many recipients were removed; `None` if the file was left alone; or the error.
    pub result: Result<Option<usize>, Error>,
}

/// Rotates the data keys of the sops files under the paths, in parallel, and calls `tell` with their number after each.
/// One file that fails does not stop the others; what cannot be read is a file that fails. The result is in
/// the order of the files' paths.
pub fn rotate_all(
    session: &Session,
    paths: &[PathBuf],
    rotation: &Rotation,
    which: Which,
    tell: &(dyn Fn(usize) + Sync),
) -> Vec<Rotated> {
    let files = sops_files(paths, &session.environment);
    let total = files.len();
    let work = |Found { path, text, .. }: Found, unsynced: &Unsynced| {
        let result = text.and_then(|_| rotate_file(session, &path, rotation, which, unsynced));
        tell(total);
        Rotated { path, result }
    };
    many::writing(files, work, |rotated| (&rotated.path, &mut rotated.result))
}

/// Rotates the data key of one file in place and returns how many recipients were removed; `None` if the file is not
/// among those to rotate. Recipients are removed in whatever form the file has them.
///
/// # Errors
/// The file cannot be decrypted or was changed after encryption; as [`OpenFile::rotate`]; it cannot be
/// written. It is as it was then.
fn rotate_file(
    session: &Session,
    path: &Path,
    rotation: &Rotation,
    which: Which,
    unsynced: &Unsynced,
) -> Result<Option<usize>, Error> {
    transform_unsynced(path, unsynced, |text| {
        let file = SopsFile::parse(session, path, text)?;
        let rotation = rotation.spelled_as_in(&file.metadata);
        let removed = rotation.remove.len();
        if which == Which::Readable && removed == 0 {
            return Ok((None, None));
        }
        rotation.plan(path, &file.metadata, session)?;
        let open = file.open(session.identities(), MacCheck::Verify)?;
        Ok((Some(open.rotate(&rotation, session)?), Some(removed)))
    })
}

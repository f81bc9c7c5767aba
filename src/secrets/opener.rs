//! Decrypting several versions of a file, which usually share a data key: the user is not asked for it twice.

use super::error::Error;
use super::file::{OpenFile, SopsFile};
use super::session::Session;
use crate::sops::data_key::DataKey;
use crate::sops::document::MacCheck;

/// The data keys of the versions so far.
pub(super) struct Opener<'a> {
    session: &'a Session,
    mac: MacCheck,
    known: Vec<DataKey>,
}

impl<'a> Opener<'a> {
    pub(super) fn new(session: &'a Session, mac: MacCheck) -> Self {
        Self { session, mac, known: Vec::new() }
    }

    pub(super) fn open(&mut self, file: &SopsFile) -> Result<OpenFile, Error> {
        if let Some(open) = self.with_known(file) {
            return Ok(open);
        }
        let open = file.clone().open(self.session.identities(), self.mac)?;
        self.known.extend(DataKey::from_bytes(open.key.as_bytes()));
        Ok(open)
    }

    /// A version that could not be decrypted may share the data key of a later one.
    pub(super) fn again(&self, file: &SopsFile, tried: Result<OpenFile, Error>) -> Result<OpenFile, Error> {
        tried.or_else(|error| self.with_known(file).ok_or(error))
    }

    /// A key that opens the MAC as well is the file's own.
    fn with_known(&self, file: &SopsFile) -> Option<OpenFile> {
        self.known.iter().find_map(|key| {
            let key = DataKey::from_bytes(key.as_bytes()).ok()?;
            file.clone().open_with(key, MacCheck::Verify).ok()
        })
    }
}

//! Adding and removing key groups. Values, MAC and time are not changed.

use super::error::Error;
use super::file::SopsFile;
use super::recipients::Plan;
use super::session::Session;

impl SopsFile {
    /// The file's new text with one more key group, and with another threshold where one is given.
    ///
    /// # Errors
    /// A recipient that cannot be used, or none at all; an invalid threshold; keys of other kinds in
    /// the file; no identity that can decrypt it.
    pub fn add_group(
        self,
        recipients: &[String],
        threshold: Option<i64>,
        session: &Session,
    ) -> Result<Vec<u8>, Error> {
        let mut plan = Plan::of_file(&self.path, &self.metadata)?;
        plan.groups.push(recipients.to_vec());
        self.with_groups(&plan, threshold, session)
    }

    /// The file's new text without one of its key groups, counted from 0, and with another threshold where one is
    /// given.
    ///
    /// # Errors
    /// No such group; too few others; an invalid threshold; keys of other kinds in the file; no
    /// identity that can decrypt it.
    pub fn remove_group(
        self,
        group: usize,
        threshold: Option<i64>,
        session: &Session,
    ) -> Result<Vec<u8>, Error> {
        let mut plan = Plan::of_file(&self.path, &self.metadata)?;
        let count = plan.groups.len();
        if group >= count {
            return Err(Error::NoGroup { path: self.path, group, count });
        }
        plan.groups.remove(group);
        self.with_groups(&plan, threshold, session)
    }

    fn with_groups(
        mut self,
        plan: &Plan,
        threshold: Option<i64>,
        session: &Session,
    ) -> Result<Vec<u8>, Error> {
        let count = plan.groups.len();
        let threshold = threshold.unwrap_or(self.metadata.shamir_threshold);
        let needed = threshold.max(1);
        if usize::try_from(needed).unwrap_or(usize::MAX) > count {
            return Err(Error::Threshold { path: self.path, count, threshold: needed });
        }
        plan.check(session, threshold)?;
        let key = self.data_key(session.identities())?;
        self.metadata.shamir_threshold = threshold;
        plan.wrap(&mut self.metadata, &key, session)?;
        self.render()
    }
}

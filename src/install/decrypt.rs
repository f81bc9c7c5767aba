//! The second step: the plan with the bytes of each secret.

use zeroize::Zeroizing;

use super::contents::{self, Files};
use super::error::Error;
use super::opener::Opener;
use super::validate::{Plan, Planned};

/// A plan and the bytes of its secrets. They are wiped with it.
pub struct Decrypted {
    /// What is to be installed.
    pub plan: Plan,
    /// The bytes of each of the plan's secrets, in its order.
    contents: Vec<Zeroizing<Vec<u8>>>,
}

impl Decrypted {
    /// Decrypts what a plan's files hold.
    pub(super) fn of<O: Opener>(
        plan: Plan,
        files: Files,
        identities: &[O::Identity],
        opener: &O,
    ) -> Result<Self, Error> {
        let contents = contents::decrypt(&plan, files, identities, opener)?;
        Ok(Self { plan, contents })
    }

    /// Each secret with its bytes.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (&Planned, &[u8])> {
        self.plan.secrets.iter().zip(self.contents.iter().map(|content| content.as_slice()))
    }

    #[cfg(test)]
    pub(super) fn with(plan: Plan, contents: &[&[u8]]) -> Self {
        let contents = contents.iter().map(|content| Zeroizing::new(content.to_vec())).collect();
        Self { plan, contents }
    }
}

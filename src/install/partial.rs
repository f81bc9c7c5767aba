//! What is left out where an installation takes what it can get.

use super::error::Error;

/// A secret or template that was not installed, or not as the manifest asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// `secret` or `template`.
    pub kind: &'static str,
    /// Its name in the manifest.
    pub name: String,
    /// Why, without any value.
    pub reason: String,
    /// The value of the active generation stays.
    pub kept: bool,
}

/// Decides what becomes of an error of a single secret or template.
#[derive(Clone, Debug, Default)]
pub(super) struct Partial {
    /// Whether the rest is installed all the same.
    pub(super) allowed: bool,
    /// What was left out so far.
    pub(super) left_out: Vec<LeftOut>,
}

impl Partial {
    /// The result, or nothing where its error only leaves this one out.
    pub(super) fn take<T>(
        &mut self,
        kind: &'static str,
        name: &str,
        result: Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if self.allowed => {
                let (name, reason) = (name.to_owned(), error.to_string());
                self.left_out.push(LeftOut { kind, name, reason, kept: false });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

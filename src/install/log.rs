//! What a run says while it works.

use std::io::Write;

use super::difference::{Changes, Difference};

/// Where lines go. A log that cannot be written to stops nothing.
pub struct Log<'a> {
    /// The name that messages begin with.
    pub program: &'a str,
    /// What has changed.
    pub changes: &'a mut dyn Write,
    /// Messages.
    pub messages: &'a mut dyn Write,
}

impl Log<'_> {
    /// A message.
    pub(super) fn note(&mut self, words: &str) {
        let _ = writeln!(self.messages, "{}: {words}", self.program);
    }

    /// A line without the name of the program.
    pub(super) fn line(&mut self, words: &str) {
        let _ = writeln!(self.messages, "{words}");
    }

    /// What is added, modified and removed, or would be.
    pub(super) fn changes(&mut self, difference: &Difference, dry_run: bool) {
        for (changes, what) in [(&difference.secrets, "secret"), (&difference.templates, "rendered secret")] {
            let Changes { added, modified, removed, .. } = changes;
            let verbs = if dry_run {
                ["would add", "would modify", "would remove"]
            } else {
                ["adding", "modifying", "removing"]
            };
            for (verb, names) in verbs.into_iter().zip([added, modified, removed]) {
                if !names.is_empty() {
                    let plural = if names.len() == 1 { "" } else { "s" };
                    let _ = writeln!(self.changes, "{verb} {what}{plural}: {}", names.join(", "));
                }
            }
        }
    }
}

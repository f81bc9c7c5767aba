//! What is noticed while the guest is brought in line: what differs, and what went wrong.

use std::path::Path;

use super::console;
use crate::vm::agent::answer::{Change, How, What};

/// What differs, and what went wrong.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) changes: Vec<Change>,
    /// What only a restart of the machine brings.
    pub(super) restart_for: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl Notes {
    pub(super) fn note(&mut self, what: What, how: How, name: impl Into<String>) {
        self.changes.push(Change { what, how, name: name.into() });
    }

    pub(super) fn file(&mut self, how: How, below_root: &Path) {
        self.note(What::File, how, format!("/{}", below_root.display()));
    }

    /// Something is wrong, though the guest is of use without it.
    pub(super) fn warn(&mut self, message: String) {
        console::log(&message);
        self.warnings.push(message);
    }
}

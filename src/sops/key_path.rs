//! The address of a value in a document: `["a"][0]`.

use std::fmt;

use super::text::Text;

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key of a mapping.
    Key(Text),
    /// A position in a list, from 0. Comments count, as sops counts them.
    Index(usize),
}

/// Steps from the root of a document; none is the document itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPath(Vec<Step>);

impl KeyPath {
    /// The steps, from the root.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl From<Vec<Step>> for KeyPath {
    fn from(steps: Vec<Step>) -> Self {
        Self(steps)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "[\"{}\"]", String::from_utf8_lossy(key.as_bytes()).escape_debug()),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the top level");
        }
        self.0.iter().try_for_each(|step| step.fmt(f))
    }
}

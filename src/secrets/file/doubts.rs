//! Suspicious things about a new file: not errors to sops, but hardly intended.

use std::fmt;
use std::path::PathBuf;

use super::NewFile;
use crate::rules::UnknownKey;
use crate::secrets::recipients::Plan;
use crate::sops::document;
use crate::sops::selector::Selector;
use crate::store::{Store, Surprise};

/// At most this many values of a file are listed.
const NAMED: usize = 5;

/// A warning for the person who creates a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Doubt {
    /// The selector is ignored, because the file is a single value.
    Ignored(Selector),
    /// The selector matches no value, so all of them stay in plaintext.
    NothingEncrypted(Selector),
    /// A key in the rules that sops ignores.
    UnknownKey {
        /// The rules' file.
        rules: PathBuf,
        /// The key.
        key: UnknownKey,
    },
    /// A value that the format reads as something other than it looks like.
    Surprise(Surprise),
    /// More of those.
    MoreSurprises(usize),
}

impl NewFile {
    /// What is odd about its content, read by a store from a text.
    #[must_use]
    pub fn doubts(&self, plan: &Plan, input: &dyn Store, text: &[u8]) -> Vec<Doubt> {
        let mut doubts: Vec<Doubt> = self.doubt_of_selector(plan).into_iter().collect();
        let mut surprises = input.surprises(text);
        let more = surprises.len().saturating_sub(NAMED);
        surprises.truncate(NAMED);
        doubts.extend(surprises.into_iter().map(Doubt::Surprise));
        doubts.extend((more > 0).then_some(Doubt::MoreSurprises(more)));
        doubts
    }

    /// Whether the selector does what a selector is for. Unlike [`NewFile::doubts`], it takes no second reading of the
    /// text.
    #[must_use]
    pub fn doubt_of_selector(&self, plan: &Plan) -> Option<Doubt> {
        if self.single_value {
            return plan.selector.clone().map(Doubt::Ignored);
        }
        let selector = plan.selector.clone().unwrap_or_default();
        document::selects_nothing(&self.tree, &selector).then(|| Doubt::NothingEncrypted(selector))
    }
}

impl Plan {
    /// What is odd about its rule.
    #[must_use]
    pub fn doubts(&self) -> Vec<Doubt> {
        let doubt = |(rules, key): &(PathBuf, UnknownKey)| Doubt::UnknownKey {
            rules: rules.clone(),
            key: key.clone(),
        };
        self.unknown_keys.iter().map(doubt).collect()
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ignored(selector) => {
                let name = selector.name();
                write!(f, "{name} is ignored: the file is a single value, which is always encrypted")
            }
            Self::NothingEncrypted(selector) => {
                let (name, value) = (selector.name(), selector.value());
                write!(
                    f,
                    "nothing is encrypted: {name} `{value}` matches no value in the file, so all of them stay in plaintext"
                )
            }
            Self::UnknownKey { rules, key } => {
                write!(f, "`{}`: line {}: {}", rules.display(), key.line, key.message())
            }
            Self::Surprise(surprise) => {
                let Surprise { line, path, what } = surprise;
                write!(f, "line {line}: {path}: {what}; quote the value to keep it as it looks")
            }
            Self::MoreSurprises(more) => {
                write!(f, "{more} more values are not read as what they look like")
            }
        }
    }
}

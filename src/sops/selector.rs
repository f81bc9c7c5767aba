//! Which leaves are encrypted: the six selectors.

use super::error::Error;
use super::pattern::Pattern;

/// The selectors' names, in the order in which sops lists them.
pub const NAMES: [&str; 6] = [
    "encrypted_suffix",
    "unencrypted_suffix",
    "encrypted_regex",
    "unencrypted_regex",
    "encrypted_comment_regex",
    "unencrypted_comment_regex",
];

/// The suffix that keeps a value in plaintext if no selector is given.
pub const DEFAULT_UNENCRYPTED_SUFFIX: &str = "_unencrypted";

/// A rule that picks leaves by the keys above them or by the comments before them. A key counts for its
/// whole subtree, and so does a comment for the next item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// In plaintext if a key ends with it.
    UnencryptedSuffix(String),
    /// Encrypted only if a key ends with it.
    EncryptedSuffix(String),
    /// In plaintext if a key matches.
    UnencryptedRegex(Pattern),
    /// Encrypted only if a key matches.
    EncryptedRegex(Pattern),
    /// In plaintext if a comment before the item matches.
    UnencryptedCommentRegex(Pattern),
    /// Encrypted only if a comment before the item matches.
    EncryptedCommentRegex(Pattern),
}

impl Default for Selector {
    fn default() -> Self {
        Self::UnencryptedSuffix(DEFAULT_UNENCRYPTED_SUFFIX.to_owned())
    }
}

impl Selector {
    /// The selector in a metadata field or creation rule; `None` if the name is not a selector's or
    /// the value is empty.
    ///
    /// # Errors
    /// An expression that does not compile. (sops treats it as one that matches nothing, and so may
    /// write everything in plaintext.)
    pub fn new(name: &str, value: &str) -> Result<Option<Self>, Error> {
        let Some(name) = NAMES.into_iter().find(|known| *known == name) else { return Ok(None) };
        if value.is_empty() {
            return Ok(None);
        }
        let pattern = || Pattern::new(value).map_err(|error| Error::Selector { selector: name, error });
        Ok(Some(match name {
            "unencrypted_suffix" => Self::UnencryptedSuffix(value.to_owned()),
            "encrypted_suffix" => Self::EncryptedSuffix(value.to_owned()),
            "unencrypted_regex" => Self::UnencryptedRegex(pattern()?),
            "encrypted_regex" => Self::EncryptedRegex(pattern()?),
            "unencrypted_comment_regex" => Self::UnencryptedCommentRegex(pattern()?),
            _ => Self::EncryptedCommentRegex(pattern()?),
        }))
    }

    /// The one selector among some names and values; `None` where there is none.
    ///
    /// # Errors
    /// More than one; an expression that does not compile.
    pub fn only<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Option<Self>, Error> {
        let mut only = None;
        for (name, value) in fields {
            if let Some(selector) = Self::new(name, value)?
                && only.replace(selector).is_some()
            {
                return Err(Error::SeveralSelectors);
            }
        }
        Ok(only)
    }

    /// Its field name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::UnencryptedSuffix(_) => "unencrypted_suffix",
            Self::EncryptedSuffix(_) => "encrypted_suffix",
            Self::UnencryptedRegex(_) => "unencrypted_regex",
            Self::EncryptedRegex(_) => "encrypted_regex",
            Self::UnencryptedCommentRegex(_) => "unencrypted_comment_regex",
            Self::EncryptedCommentRegex(_) => "encrypted_comment_regex",
        }
    }

    /// Its suffix or expression as written.
    #[must_use]
    pub fn value(&self) -> &str {
        match self {
            Self::UnencryptedSuffix(suffix) | Self::EncryptedSuffix(suffix) => suffix,
            Self::UnencryptedRegex(pattern)
            | Self::EncryptedRegex(pattern)
            | Self::UnencryptedCommentRegex(pattern)
            | Self::EncryptedCommentRegex(pattern) => pattern.as_str(),
        }
    }

    /// Whether comments have an effect.
    #[must_use]
    pub fn reads_comments(&self) -> bool {
        matches!(self, Self::UnencryptedCommentRegex(_) | Self::EncryptedCommentRegex(_))
    }

    fn matches_key(&self, key: &[u8]) -> bool {
        match self {
            Self::UnencryptedSuffix(suffix) | Self::EncryptedSuffix(suffix) => {
                key.ends_with(suffix.as_bytes())
            }
            Self::UnencryptedRegex(pattern) | Self::EncryptedRegex(pattern) => pattern.is_match(key),
            Self::UnencryptedCommentRegex(_) | Self::EncryptedCommentRegex(_) => false,
        }
    }

    fn matches_comment(&self, text: &[u8]) -> bool {
        match self {
            Self::UnencryptedCommentRegex(pattern) | Self::EncryptedCommentRegex(pattern) => {
                pattern.is_match(text)
            }
            _ => false,
        }
    }
}

/// The state of a walk in one container: which of the selector's conditions hold for its content.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scope {
    /// A key on the way here matched.
    key: bool,
    /// A comment before an enclosing item matched.
    enclosing_comment: bool,
    /// A comment since the last item of this container matched.
    comment: bool,
    /// The same without the latest comment.
    comment_before: bool,
}

impl Scope {
    /// Visits a comment of this container, as it is in the tree (a token if encrypted).
    pub(super) fn comment(&mut self, selector: Option<&Selector>, text: &[u8]) {
        self.comment_before = self.comment;
        self.comment |= selector.is_some_and(|selector| selector.matches_comment(text));
    }

    /// The end of an item: the comments before it have had their effect.
    pub(super) fn item_done(&mut self) {
        self.comment = false;
        self.comment_before = false;
    }

    /// The same place under one more key.
    pub(super) fn under(self, selector: Option<&Selector>, key: &[u8]) -> Self {
        let matches = selector.is_some_and(|selector| selector.matches_key(key));
        Self { key: self.key || matches, ..self }
    }

    /// The scope of a container at this point.
    pub(super) fn inside(self) -> Self {
        Self {
            key: self.key,
            enclosing_comment: self.enclosing_comment || self.comment,
            comment: false,
            comment_before: false,
        }
    }

    /// Whether a leaf at this point is encrypted.
    pub(super) fn encrypts(self, selector: Option<&Selector>, is_comment: bool) -> bool {
        match selector {
            None => true,
            Some(Selector::UnencryptedSuffix(_) | Selector::UnencryptedRegex(_)) => !self.key,
            Some(Selector::EncryptedSuffix(_) | Selector::EncryptedRegex(_)) => self.key,
            Some(Selector::UnencryptedCommentRegex(_)) => !(self.enclosing_comment || self.comment),
            // The comment that requests encryption stays in plaintext itself.
            Some(Selector::EncryptedCommentRegex(_)) if is_comment => {
                self.enclosing_comment || self.comment_before
            }
            Some(Selector::EncryptedCommentRegex(_)) => self.enclosing_comment || self.comment,
        }
    }
}

//! Regular expressions in Go's dialect (RE2), as selectors and creation rules use them.

use std::fmt;

use regex::bytes::Regex;

/// A compiled expression. Matching is an unanchored search, as in Go's `regexp.Match`.
#[derive(Clone)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

/// Why an expression is refused: what is wrong, and with which one.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid regular expression `{source_text}`: {reason}")]
pub struct PatternError {
    /// The expression.
    pub source_text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Pattern {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What Go's `regexp` would refuse, and what we cannot follow.
    pub fn new(source: &str) -> Result<Self, PatternError> {
        let regex = Regex::new(source)
            .map_err(|error| PatternError { source_text: source.to_owned(), reason: error.to_string() })?;
        Ok(Self { source: source.to_owned(), regex })
    }

    /// Whether it matches anywhere in the text.
    #[must_use]
    pub fn is_match(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }

    /// The expression as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.source)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

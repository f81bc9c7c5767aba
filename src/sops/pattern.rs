//! Regular expressions in Go's dialect (RE2), as selectors and creation rules use them.
//!
//! Rust's `regex` has a different dialect: `\w`, `\d`, `\s` and `\b` cover all of Unicode there,
//! classes have set operations, and `\Q…\E` and `{,2}` have other meanings. An expression is parsed as Go
//! parses it and rewritten without anything that the two read differently.

mod escape;
mod translate;
mod unicode;

use std::borrow::Cow;
use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// The size limit of a compiled expression, in bytes: enough for `\pL{1000}`.
const SIZE_LIMIT: usize = 64 << 20;

/// How deep groups may be nested. Go's own limit is 1000; each level is up to three of ours.
const NEST_LIMIT: u32 = 3000;

/// A compiled expression. Matching is an unanchored search, as in Go's `regexp.Match`.
#[derive(Clone)]
pub struct Pattern {
    source: String,
    regex: Regex,
    /// Whether it may match between the bytes of a character, where Go never matches.
    whole_characters: bool,
}

/// Why an expression is refused: what is wrong, and with which one.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid regular expression `{expression}`: {reason}")]
pub struct PatternError {
    /// The expression.
    pub expression: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Pattern {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What Go's `regexp` refuses, and what grows too large.
    pub fn new(source: &str) -> Result<Self, PatternError> {
        let refused = |reason: String| PatternError { expression: source.to_owned(), reason };
        let translated = translate::translate(source).map_err(refused)?;
        let regex = RegexBuilder::new(&translated)
            .size_limit(SIZE_LIMIT)
            .nest_limit(NEST_LIMIT)
            .build()
            .map_err(|error| refused(brief(&error)))?;
        Ok(Self {
            source: source.to_owned(),
            regex,
            whole_characters: translated.contains(translate::NOT_BOUNDARY),
        })
    }

    /// Whether it matches anywhere in the text.
    #[must_use]
    pub fn is_match(&self, text: &[u8]) -> bool {
        let text = readable(text);
        if !self.whole_characters {
            return self.regex.is_match(text.as_bytes());
        }
        self.regex.find_iter(text.as_bytes()).any(|found| text.is_char_boundary(found.start()))
    }

    /// The expression in the dialect of the `regex` crate.
    #[must_use]
    pub fn spelled(&self) -> &str {
        self.regex.as_str()
    }

    /// The expression as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

/// The text as Go sees it: every byte that is not part of a character counts as U+FFFD.
fn readable(text: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(text) {
        return Cow::Borrowed(text);
    }
    let mut readable = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        readable.push_str(chunk.valid());
        readable.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(readable)
}

/// The last line of a message of the `regex` crate, which shows the translated expression before it.
fn brief(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Patterns and texts with the answers of Go's `regexp`.
    const GO: &str = include_str!("../../tests/sops/re2.json");

    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Case {
        pattern: String,
        refused: bool,
        matches: Vec<String>,
        others: Vec<String>,
    }

    fn matches(pattern: &str, text: &[u8]) -> bool {
        Pattern::new(pattern).expect(pattern).is_match(text)
    }

    #[test]
    fn answers_are_those_of_go() {
        let cases: Vec<Case> = serde_json::from_str(GO).expect("JSON");
        assert!(cases.len() > 250);
        for Case { pattern, refused, matches, others } in cases {
            let compiled = Pattern::new(&pattern);
            assert_eq!(compiled.is_err(), refused, "{pattern:?}: {:?}", compiled.err());
            let Ok(compiled) = compiled else { continue };
            for (text, expected) in matches.iter().map(|t| (t, true)).chain(others.iter().map(|t| (t, false)))
            {
                assert_eq!(compiled.is_match(text.as_bytes()), expected, "{pattern:?} on {text:?}");
            }
        }
    }

    #[test]
    fn words_digits_and_spaces_are_ascii() {
        assert!(!matches(r"^\w+$", "пароль".as_bytes()));
        assert!(!matches(r"\d", "٣".as_bytes()));
        assert!(!matches(r"\s", "\u{a0}\u{b}".as_bytes()));
        assert!(!matches(r"\bя\b", "я".as_bytes()));
        assert!(matches(r"^.$", "я".as_bytes()));
        assert!(matches(r"^\pL+$", "пароль".as_bytes()));
    }

    #[test]
    fn set_operations_of_classes_are_plain_characters() {
        assert!(matches("^[a&&b]+$", b"a&b"));
        assert!(matches("^[+--b]+$", b"+,-b"));
        assert!(matches("^[a~~b]+$", b"a~b"));
        assert!(matches("^[[a]+$", b"[a"));
        assert!(matches(r"^a{,2}$", b"a{,2}"));
        assert!(matches(r"^\Qa.b\E+$", b"a.bb"));
        assert!(!matches(r"^\Qa.b\E$", b"axb"));
    }

    #[test]
    fn bytes_that_are_no_characters_count_as_one_each() {
        assert!(matches(r"^..$", b"\xff\xfe"));
        assert!(matches(r"^a\x{FFFD}{2}b$", b"a\xe2\x82b"));
        assert!(!matches(r"^.$", b"\xe2\x82"));
    }

    #[test]
    fn a_boundary_between_the_bytes_of_a_character_is_none() {
        assert!(!matches(r"\B", "aéb".as_bytes()));
        assert!(matches(r"\B", "é".as_bytes()));
    }

    #[test]
    fn what_go_refuses_is_refused_with_the_expression_named() {
        for pattern in
            ["(", "a**", "(?=a)", r"\Z", "x{1001}", "(x{100}){11}", r"\p{Alphabetic}", "(?x)a", "[b-a]"]
        {
            let error = Pattern::new(pattern).expect_err(pattern);
            assert_eq!(error.expression, pattern);
            assert!(error.to_string().starts_with(&format!("invalid regular expression `{pattern}`: ")));
        }
    }

    #[test]
    fn large_and_deep_expressions_end_in_an_answer() {
        let nested = |depth: usize| "(a".repeat(depth) + &")".repeat(depth);
        assert!(matches(r"\pL{100}", "я".repeat(100).as_bytes()));
        assert!(Pattern::new(&nested(900)).is_ok());
        assert!(Pattern::new(&nested(100_000)).is_err());
        assert!(Pattern::new(r"(\pL{30}){30}x{1000}").is_ok());
    }
}

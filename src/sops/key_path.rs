//! The address of a value in a document: `["a"][0]`.

mod change;

use std::fmt;

use super::text::Text;
use super::tree::{Branch, Item, Key, Value};

pub use change::{set, unset};

/// How many steps a path may have: as deep as the stores read documents.
const STEP_LIMIT: usize = 1000;

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key of a mapping.
    Key(Text),
    /// A position in a list, from 0. Comments count, as sops counts them.
    Index(usize),
    /// An index on a list, a key everywhere else.
    Part(Text),
}

/// Steps from the root of a document; none is the document itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPath(Vec<Step>);

/// Why a path does not lead to a value. Where sops would panic, one of these explains the problem.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PathError {
    /// The text of a path is malformed (sops: exit code 91 for `--extract`, 7 for `set` and `unset`).
    #[error("{0}")]
    Malformed(String),
    /// No such key (sops: exit code 1).
    #[error("component {0} not found")]
    NotFound(Step),
    /// An index before the start of a list. The steps before it may also be missing.
    #[error("component [{index}] is negative")]
    Negative {
        /// The steps before it.
        before: KeyPath,
        /// The position.
        index: i64,
    },
    /// An index past the end of a list (sops: exit code 1).
    #[error("component {0} accesses out of bounds")]
    OutOfBounds(Step),
    /// A key where there is no mapping, or a position where there is no list.
    #[error("component {step} cannot be used on {container}")]
    WrongKind {
        /// The step.
        step: Step,
        /// What it would step into.
        container: &'static str,
    },
    /// A path without a step where one is needed.
    #[error("the path is empty")]
    Empty,
}

impl PathError {
    /// Whether the value simply does not exist, which `--idempotent` ignores.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::NotFound(_) | Self::OutOfBounds(_))
    }
}

impl KeyPath {
    /// Reads a path as sops does: pieces in brackets, a quoted one is a key (without escapes), any other
    /// a position. The empty text is the empty path.
    ///
    /// # Errors
    /// Text outside brackets, a missing bracket or quote, an invalid index.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let malformed = |message: String| Err(PathError::Malformed(message));
        let mut steps = Vec::new();
        for piece in text.split('[').filter(|piece| !piece.is_empty()) {
            let Some(inside) = piece.strip_suffix(']') else {
                return malformed(format!("component {piece} doesn't end with ]"));
            };
            if inside.starts_with(['"', '\'']) {
                // sops cuts the first and the last character off, whatever the last one is.
                let mut characters = inside.chars();
                let quote = characters.next();
                if characters.next_back() != quote {
                    return malformed(format!("component {inside} has no closing quote"));
                }
                steps.push(Step::Key(characters.as_str().into()));
            } else {
                let number = inside.parse::<i64>();
                match number.clone().map(usize::try_from) {
                    Ok(Ok(index)) => steps.push(Step::Index(index)),
                    Ok(Err(_)) => {
                        let index = number.unwrap_or_default();
                        return Err(PathError::Negative { before: Self(steps), index });
                    }
                    Err(_) => {
                        return malformed(format!(
                            "component [{inside}] is neither a quoted key nor a number"
                        ));
                    }
                }
            }
        }
        if steps.len() > STEP_LIMIT {
            return malformed(format!("more than {STEP_LIMIT} components"));
        }
        Ok(Self(steps))
    }

    /// The steps, from the root.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The path with one more step.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }

    /// Whether it is the document itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<Step>> for KeyPath {
    fn from(steps: Vec<Step>) -> Self {
        Self(steps)
    }
}

impl Step {
    /// The key, or the position in digits.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Key(key) | Self::Part(key) => String::from_utf8_lossy(key.as_bytes()).into_owned(),
            Self::Index(index) => index.to_string(),
        }
    }

    /// What it means at a value: a part of a path that could be both is a position or a key now.
    fn at(&self, value: &Value) -> Self {
        let Self::Part(text) = self else { return self.clone() };
        let position = || text.as_str().ok()?.parse().ok();
        match value {
            Value::List(_) => position().map_or_else(|| Self::Key(text.clone()), Self::Index),
            _ => Self::Key(text.clone()),
        }
    }
}

impl From<&Key> for Step {
    /// A key that is not a string is spelled as its value is.
    fn from(key: &Key) -> Self {
        match key {
            Key::Str(text) => Self::Key(text.clone()),
            Key::Other(value) => {
                let bytes = super::value::to_bytes(value).map(|bytes| bytes.to_vec());
                Self::Key(bytes.map_or_else(|| "null".into(), Text::from))
            }
        }
    }
}

/// The target of a path.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<'a> {
    /// The document itself: the empty path.
    Document(&'a Branch),
    /// A value in it.
    Value(&'a Value),
}

/// The value at a path. Of keys given twice the first counts.
///
/// # Errors
/// A path that does not lead to a value.
pub fn get<'a>(document: &'a Branch, path: &KeyPath) -> Result<Found<'a>, PathError> {
    let Some((first, rest)) = path.0.split_first() else { return Ok(Found::Document(document)) };
    let (Step::Key(key) | Step::Part(key)) = first else {
        return Err(PathError::WrongKind { step: first.clone(), container: "a mapping" });
    };
    let mut value = entry(document, key).ok_or_else(|| PathError::NotFound(first.clone()))?;
    for step in rest {
        let step = &step.at(value);
        value = match (step, value) {
            (Step::Key(key), Value::Map(branch)) => {
                entry(branch, key).ok_or_else(|| PathError::NotFound(step.clone()))?
            }
            (Step::Index(index), Value::List(items)) => {
                items.get(*index).ok_or_else(|| PathError::OutOfBounds(step.clone()))?
            }
            _ => return Err(PathError::WrongKind { step: step.clone(), container: describe(value) }),
        };
    }
    Ok(Found::Value(value))
}

fn entry<'a>(branch: &'a Branch, key: &Text) -> Option<&'a Value> {
    branch.iter().find_map(|item| match item {
        Item::Entry(Key::Str(name), value) if name == key => Some(value),
        _ => None,
    })
}

fn describe(value: &Value) -> &'static str {
    super::value::describe(value)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) | Self::Part(key) => {
                write!(f, "[\"{}\"]", String::from_utf8_lossy(key.as_bytes()).escape_debug())
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sops::testing::tree;

    fn path(text: &str) -> KeyPath {
        KeyPath::parse(text).expect(text)
    }

    #[test]
    fn paths_are_read_as_sops_reads_them() {
        let key = |text: &str| Step::Key(text.into());
        for (text, steps) in [
            ("", vec![]),
            (r#"["a"]"#, vec![key("a")]),
            (r#"['a'][0]["b c"]"#, vec![key("a"), Step::Index(0), key("b c")]),
            (r#"["a"b"]"#, vec![key("a\"b")]),
            (r#"["a\"]"#, vec![key("a\\")]),
            (r#"[""]"#, vec![key("")]),
            ("[[0]", vec![Step::Index(0)]),
            ("[+7]", vec![Step::Index(7)]),
        ] {
            assert_eq!(path(text).steps(), steps, "{text}");
        }
    }

    #[test]
    fn malformed_paths_are_errors() {
        for text in
            ["a", r#"a["b"]"#, r#"["a""#, r#"["]"#, r#"["a]"#, r#"["a']"#, "[]", "[-1]", "[x]", "[1.0]"]
        {
            assert!(
                matches!(KeyPath::parse(text), Err(PathError::Malformed(_) | PathError::Negative { .. })),
                "{text}"
            );
        }
        assert!(KeyPath::parse(&"[0]".repeat(1001)).is_err());
    }

    #[test]
    fn a_path_leads_to_a_value_or_says_why_not() {
        let tree = tree(r#"{"a": {"b": [1, {"c": "x"}]}, "s": "y", "l": []}"#);
        let document = &tree.documents[0];
        let get = |text: &str| get(document, &path(text));
        assert_eq!(get(r#"["a"]["b"][1]["c"]"#), Ok(Found::Value(&Value::str("x"))));
        assert_eq!(get(""), Ok(Found::Document(document)));
        assert_eq!(get(r#"["zz"]"#).expect_err("absent").to_string(), r#"component ["zz"] not found"#);
        assert_eq!(
            get(r#"["l"][9]"#).expect_err("absent").to_string(),
            "component [9] accesses out of bounds"
        );
        for text in [r#"["s"]["x"]"#, r#"["a"][0]"#, r#"["l"]["x"]"#, "[0]", r#"["s"][0]"#] {
            assert!(matches!(get(text), Err(PathError::WrongKind { .. })), "{text}");
        }
    }
}

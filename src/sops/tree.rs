//! The tree that every store reads into and writes from: documents of ordered branches.

use std::collections::BTreeSet;
use std::fmt;

use super::text::Text;
use super::time::Time;

/// A whole file: its documents in order. Formats without documents have exactly one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    /// The documents. The metadata is not among them: a store takes it off on reading.
    pub documents: Vec<Branch>,
}

/// A mapping: entries and the comments between them, in the order of the file. Keys may repeat.
pub type Branch = Vec<Item>;

/// One thing in a mapping.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A key and its value.
    Entry(Key, Value),
    /// One comment line.
    Comment(Comment),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    /// A string key, the only kind that can be encrypted.
    Str(Text),
    /// Any other scalar (`1:`, `true:`, `null:`): kept, refused on encryption.
    Other(Value),
}

/// A comment line without its `#`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// The text after the `#`, or an ENC token.
    pub text: Text,
    /// Whether it is at the end of a line that has other content (YAML).
    pub inline: bool,
}

/// A value: a leaf, a mapping or a list. Its `Debug` form shows the shape and no scalar.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// Never encrypted, never in the MAC.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// An integer above the signed range: readable, not encryptable (sops: `unknown type: uint64`).
    Uint(u64),
    /// A float.
    Float(f64),
    /// A string.
    Str(Text),
    /// A point in time (YAML only).
    Time(Time),
    /// Raw bytes of the legacy type `bytes`.
    Bytes(Text),
    /// A mapping.
    Map(Branch),
    /// A list.
    List(Vec<Value>),
    /// A comment between the items of a list; sops counts it as an item.
    Comment(Comment),
}

impl Comment {
    /// A comment on a line of its own.
    #[must_use]
    pub fn line(text: impl Into<Text>) -> Self {
        Self { text: text.into(), inline: false }
    }
}

impl Item {
    /// An entry with a string key.
    #[must_use]
    pub fn entry(key: impl Into<Text>, value: Value) -> Self {
        Self::Entry(Key::Str(key.into()), value)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Bool(_) => f.write_str("Bool"),
            Self::Int(_) => f.write_str("Int"),
            Self::Uint(_) => f.write_str("Uint"),
            Self::Float(_) => f.write_str("Float"),
            Self::Str(text) => f.debug_tuple("Str").field(text).finish(),
            Self::Time(_) => f.write_str("Time"),
            Self::Bytes(bytes) => f.debug_tuple("Bytes").field(bytes).finish(),
            Self::Map(branch) => f.debug_tuple("Map").field(branch).finish(),
            Self::List(items) => f.debug_tuple("List").field(items).finish(),
            Self::Comment(comment) => comment.fmt(f),
        }
    }
}

impl Value {
    /// A string value.
    #[must_use]
    pub fn str(text: impl Into<Text>) -> Self {
        Self::Str(text.into())
    }
}

/// The value of a top-level string key.
#[must_use]
pub fn get<'a>(branch: &'a [Item], key: &str) -> Option<&'a Value> {
    branch.iter().find_map(|item| match item {
        Item::Entry(Key::Str(name), value) if *name == key => Some(value),
        _ => None,
    })
}

/// A key that a mapping holds twice, in the branch or below it. Every format reads one of the two, or refuses the file.
#[must_use]
pub fn repeated_key(branch: &[Item]) -> Option<&Text> {
    let mut seen = BTreeSet::new();
    branch.iter().find_map(|item| match item {
        Item::Entry(Key::Str(key), _) if !seen.insert(key) => Some(key),
        Item::Entry(_, value) => repeated_key_in(value),
        Item::Comment(_) => None,
    })
}

/// The same in a value.
#[must_use]
pub fn repeated_key_in(value: &Value) -> Option<&Text> {
    match value {
        Value::Map(branch) => repeated_key(branch),
        Value::List(items) => items.iter().find_map(repeated_key_in),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_scalar() {
        let value =
            Value::List(vec![Value::Int(4711), Value::Bool(true), Value::Float(47.11), Value::str("4711")]);
        assert_eq!(format!("{value:?}"), "List([Int, Bool, Float, Str(Text(4 bytes))])");
    }
}

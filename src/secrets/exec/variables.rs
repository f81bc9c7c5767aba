//! The first document of a file as environment variables.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::super::error::Error;
use super::super::file::OpenFile;
use crate::sops::text::Text;
use crate::sops::tree::{Item, Key, Value};
use crate::sops::value::describe;
use crate::store::spelled;

/// What cannot be a variable.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum VariableError {
    /// A mapping or a list.
    #[error("cannot use complex value in environment; offending key {0}")]
    Complex(String),
    /// A key that is not a string.
    #[error("cannot use non-string keys in environment, got {0}")]
    Key(&'static str),
    /// A key with `=` in it.
    #[error("cannot use keys with '=' in environment: {0}")]
    Equals(String),
    /// A key without a letter.
    #[error("cannot use an empty key in environment")]
    NoName,
    /// A key or value with a zero byte.
    #[error("cannot use keys or values with a zero byte in environment; offending key {0}")]
    Zero(String),
}

/// Names and values, in the order of the file; of a name given twice the last counts.
pub struct Variables(Vec<(Text, Text)>);

impl Variables {
    /// The top-level scalars of a file's first document. Values that are not strings are spelled as in a dotenv
    /// file.
    ///
    /// # Errors
    /// The first thing that cannot be a variable.
    pub fn of(file: &OpenFile) -> Result<Self, Error> {
        let first = file.tree.documents.first().map(Vec::as_slice).unwrap_or_default();
        of_items(first).map_err(|error| Error::Variable { path: file.path.clone(), error })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0
            .iter()
            .map(|(name, value)| (OsStr::from_bytes(name.as_bytes()), OsStr::from_bytes(value.as_bytes())))
    }
}

fn of_items(items: &[Item]) -> Result<Variables, VariableError> {
    let mut variables = Vec::new();
    for item in items {
        let Item::Entry(key, value) = item else { continue };
        let name = match key {
            Key::Str(name) => name,
            Key::Other(other) => return Err(VariableError::Key(describe(other))),
        };
        let shown = || String::from_utf8_lossy(name.as_bytes()).into_owned();
        if matches!(value, Value::Comment(_)) {
            continue;
        }
        let text = spelled(value).ok_or_else(|| VariableError::Complex(shown()))?;
        if name.as_bytes().contains(&b'=') {
            return Err(VariableError::Equals(shown()));
        }
        if name.is_empty() {
            return Err(VariableError::NoName);
        }
        if name.as_bytes().contains(&0) || text.contains(&0) {
            return Err(VariableError::Zero(shown()));
        }
        variables.push((name.clone(), Text::from(text.to_vec())));
    }
    Ok(Variables(variables))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sops::tree::Comment;

    fn error(item: Item) -> VariableError {
        of_items(&[item]).err().expect("refused")
    }

    #[test]
    fn scalars_become_variables_and_comments_are_passed_over() {
        let items = [
            Item::entry("A", Value::str("x\ny")),
            Item::Comment(Comment::line(" c")),
            Item::entry("B", Value::Float(2.0)),
            Item::entry("C", Value::Null),
        ];
        let variables = of_items(&items).expect("good");
        let found: Vec<_> =
            variables.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let wanted = [("A", "x\ny"), ("B", "2.0"), ("C", "<nil>")];
        assert_eq!(found, wanted.map(|(name, value)| (name.into(), value.into())));
    }

    #[test]
    fn what_no_variable_can_be_is_refused_by_name() {
        assert_eq!(error(Item::entry("m", Value::Map(Vec::new()))), VariableError::Complex("m".into()));
        assert_eq!(error(Item::entry("l", Value::List(Vec::new()))), VariableError::Complex("l".into()));
        assert_eq!(error(Item::entry("a=b", Value::Null)), VariableError::Equals("a=b".into()));
        assert_eq!(error(Item::entry("", Value::Null)), VariableError::NoName);
        assert_eq!(error(Item::entry("z", Value::str("a\0b"))), VariableError::Zero("z".into()));
        assert_eq!(
            error(Item::Entry(Key::Other(Value::Int(1)), Value::Null)),
            VariableError::Key("an integer")
        );
    }
}

//! The first document of a file as environment variables.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use zeroize::Zeroizing;

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
    /// Two values that would get the same name.
    #[error("two values would both become the variable {0}")]
    Twice(String),
    /// Keys that are not valid as names in a shell.
    #[error(
        "a shell variable cannot be named {0}: only letters, digits and _ are allowed, and no digit first"
    )]
    NotForShells(String),
}

/// What to do with mappings and lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nested {
    /// Refuse them, as sops does.
    #[default]
    Refuse,
    /// Leave them out.
    Skip,
    /// Make each value in them a variable, named after its keys and indices with `_` between them.
    Flatten,
}

/// Names and values, in the order of the file; the last of several with the same name wins.
pub struct Variables(Vec<(Text, Text)>);

impl Variables {
    /// The scalars of a file's first document. Values that are not strings are spelled as in a dotenv file.
    ///
    /// # Errors
    /// The first thing that cannot be a variable.
    pub fn of(file: &OpenFile, nested: Nested) -> Result<Self, Error> {
        let first = file.tree.documents.first().map(Vec::as_slice).unwrap_or_default();
        of_items(first, nested).map_err(|error| Error::Variable { path: file.path.clone(), error })
    }

    /// Lines that a shell can `eval`, each of which exports a variable.
    ///
    /// # Errors
    /// Names that are not valid in a shell.
    pub fn for_shells(&self) -> Result<Zeroizing<Vec<u8>>, VariableError> {
        let is_name = |name: &[u8]| {
            let letters = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
            letters && !name.first().is_none_or(u8::is_ascii_digit)
        };
        let wrong = self.0.iter().map(|(name, _)| name.as_bytes()).filter(|name| !is_name(name));
        let wrong: Vec<_> = wrong.map(|name| format!("`{}`", String::from_utf8_lossy(name))).collect();
        if !wrong.is_empty() {
            return Err(VariableError::NotForShells(wrong.join(", ")));
        }
        let length = |(name, value): &(Text, Text)| name.as_bytes().len() + 4 * value.as_bytes().len() + 16;
        // Allocated once: growing would leave copies behind.
        let mut lines = Zeroizing::new(Vec::with_capacity(self.0.iter().map(length).sum()));
        for (name, value) in &self.0 {
            lines.extend_from_slice(b"export ");
            lines.extend_from_slice(name.as_bytes());
            lines.extend_from_slice(b"='");
            for byte in value.as_bytes() {
                match byte {
                    b'\'' => lines.extend_from_slice(b"'\\''"),
                    byte => lines.push(*byte),
                }
            }
            lines.extend_from_slice(b"'\n");
        }
        Ok(lines)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0
            .iter()
            .map(|(name, value)| (OsStr::from_bytes(name.as_bytes()), OsStr::from_bytes(value.as_bytes())))
    }
}

fn of_items(items: &[Item], nested: Nested) -> Result<Variables, VariableError> {
    let mut variables = Vec::new();
    add_items(items, None, nested, &mut variables)?;
    if nested == Nested::Flatten {
        let mut names = BTreeSet::new();
        if let Some((name, _)) = variables.iter().find(|(name, _)| !names.insert(name.as_bytes())) {
            return Err(VariableError::Twice(String::from_utf8_lossy(name.as_bytes()).into_owned()));
        }
    }
    Ok(Variables(variables))
}

fn add_items(
    items: &[Item],
    above: Option<&Text>,
    nested: Nested,
    variables: &mut Vec<(Text, Text)>,
) -> Result<(), VariableError> {
    for item in items {
        let Item::Entry(key, value) = item else { continue };
        match key {
            Key::Str(name) => add(joined(above, name.as_bytes()), value, nested, variables)?,
            Key::Other(other) => return Err(VariableError::Key(describe(other))),
        }
    }
    Ok(())
}

fn joined(above: Option<&Text>, name: &[u8]) -> Text {
    match above {
        Some(above) => Text::from([above.as_bytes(), b"_", name].concat()),
        None => Text::from(name.to_vec()),
    }
}

fn add(
    name: Text,
    value: &Value,
    nested: Nested,
    variables: &mut Vec<(Text, Text)>,
) -> Result<(), VariableError> {
    let shown = || String::from_utf8_lossy(name.as_bytes()).into_owned();
    let text = match (value, nested) {
        (Value::Comment(_), _) | (Value::Map(_) | Value::List(_), Nested::Skip) => return Ok(()),
        (Value::Map(items), Nested::Flatten) => return add_items(items, Some(&name), nested, variables),
        (Value::List(items), Nested::Flatten) => {
            let items = items.iter().filter(|item| !matches!(item, Value::Comment(_)));
            return items.enumerate().try_for_each(|(index, item)| {
                add(joined(Some(&name), index.to_string().as_bytes()), item, nested, variables)
            });
        }
        _ => spelled(value).ok_or_else(|| VariableError::Complex(shown()))?,
    };
    if name.as_bytes().contains(&b'=') {
        return Err(VariableError::Equals(shown()));
    }
    if name.is_empty() {
        return Err(VariableError::NoName);
    }
    if name.as_bytes().contains(&0) || text.contains(&0) {
        return Err(VariableError::Zero(shown()));
    }
    variables.push((name, Text::from(text.to_vec())));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sops::tree::Comment;

    fn error(item: Item) -> VariableError {
        of_items(&[item], Nested::Refuse).err().expect("refused")
    }

    #[test]
    fn scalars_become_variables_and_comments_are_passed_over() {
        let items = [
            Item::entry("A", Value::str("x\ny")),
            Item::Comment(Comment::line(" c")),
            Item::entry("B", Value::Float(2.0)),
            Item::entry("C", Value::Null),
        ];
        let variables = of_items(&items, Nested::Refuse).expect("good");
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

    fn nested() -> Vec<Item> {
        let inner = vec![Item::entry("user", Value::str("me")), Item::Comment(Comment::line(" c"))];
        let comment = Value::Comment(Comment::line(" c"));
        let list =
            vec![comment, Value::str("x"), Value::List(vec![Value::Int(2)]), Value::Map(inner.clone())];
        vec![
            Item::entry("a", Value::Int(1)),
            Item::entry("db", Value::Map(inner)),
            Item::entry("l", Value::List(list)),
            Item::entry("none", Value::Map(Vec::new())),
        ]
    }

    fn names(variables: &Variables) -> Vec<&str> {
        variables.iter().map(|(name, _)| name.to_str().expect("UTF-8")).collect()
    }

    #[test]
    fn what_is_nested_is_left_out_or_named_by_its_way() {
        let skipped = of_items(&nested(), Nested::Skip).expect("good");
        assert_eq!(names(&skipped), ["a"]);
        let flat = of_items(&nested(), Nested::Flatten).expect("good");
        assert_eq!(names(&flat), ["a", "db_user", "l_0", "l_1_0", "l_2_user"]);
        let mut twice = nested();
        twice.push(Item::entry("db_user", Value::Null));
        let error = of_items(&twice, Nested::Flatten).err();
        assert_eq!(error, Some(VariableError::Twice("db_user".into())));
    }

    #[test]
    fn a_shell_gets_quoted_values_of_names_that_it_takes() {
        let items = [Item::entry("A", Value::str("it's $HOME\n`x`")), Item::entry("_b1", Value::Null)];
        let lines = of_items(&items, Nested::Refuse).expect("good").for_shells().expect("names");
        assert_eq!(lines.as_slice(), b"export A='it'\\''s $HOME\n`x`'\nexport _b1='<nil>'\n");
        let items = [("a-b", 1), ("good", 2), ("1a", 3), ("\u{e9}", 4), ("a b", 5), ("x;y", 6)];
        let items = items.map(|(name, number)| Item::entry(name, Value::Int(number)));
        let error = of_items(&items, Nested::Refuse).expect("good").for_shells().err();
        let names = "`a-b`, `1a`, `\u{e9}`, `a b`, `x;y`";
        assert_eq!(error, Some(VariableError::NotForShells(names.into())));
    }
}

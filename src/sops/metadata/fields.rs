//! Metadata values as text, numbers and lists, with the weak conversions that sops allows.

use super::super::error::Error;
use super::super::float;
use super::super::tree::{Branch, Item, Key, Value};
use super::super::value;

/// A field that is not what it should be.
pub(super) fn wrong(field: &str, reason: impl Into<String>) -> Error {
    Error::Metadata { field: field.to_owned(), reason: reason.into() }
}

/// The entries of a mapping with their keys as text; comments are skipped.
pub(super) fn entries<'a>(
    branch: &'a Branch,
    field: &'a str,
) -> impl Iterator<Item = Result<(&'a str, &'a Value), Error>> {
    branch.iter().filter_map(move |item| match item {
        Item::Comment(_) => None,
        Item::Entry(Key::Str(key), value) => Some(match key.as_str() {
            Ok(key) => Ok((key, value)),
            Err(_) => Err(wrong(field, "a key is not UTF-8")),
        }),
        Item::Entry(Key::Other(_), _) => Some(Err(wrong(field, "a key is not a string"))),
    })
}

/// A string, or a scalar that sops turns into one. Times are text that a formatter took the quotes off.
pub(super) fn text(value: &Value, field: &str) -> Result<String, Error> {
    match value {
        Value::Null => Ok(String::new()),
        Value::Str(text) | Value::Bytes(text) => {
            text.as_str().map(str::to_owned).map_err(|_| wrong(field, "it is not UTF-8"))
        }
        Value::Int(number) => Ok(number.to_string()),
        Value::Uint(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(float::fixed(*number)),
        Value::Bool(flag) => Ok(u8::from(*flag).to_string()),
        Value::Time(time) => Ok(time.to_string()),
        Value::Map(_) | Value::List(_) | Value::Comment(_) => {
            Err(wrong(field, format!("expected a string, but got {}", value::describe(value))))
        }
    }
}

/// A number, or a scalar that sops turns into one.
pub(super) fn number(value: &Value, field: &str) -> Result<i64, Error> {
    let number = match value {
        Value::Null => Some(0),
        Value::Int(number) => Some(*number),
        Value::Bool(flag) => Some(i64::from(*flag)),
        // Old JSON files hold whole numbers as floats.
        Value::Float(number) if number.fract() == 0.0 => format!("{number:.0}").parse().ok(),
        Value::Str(text) if text.is_empty() => Some(0),
        Value::Str(text) => text.as_str().ok().and_then(|text| text.parse().ok()),
        _ => None,
    };
    number.ok_or_else(|| wrong(field, "expected a number"))
}

/// A flag, or a scalar that sops turns into one.
pub(super) fn flag(value: &Value, field: &str) -> Result<bool, Error> {
    let flag = match value {
        Value::Null => Some(false),
        Value::Bool(flag) => Some(*flag),
        Value::Int(number) => Some(*number != 0),
        Value::Float(number) => Some(*number != 0.0),
        Value::Str(text) if text.is_empty() => Some(false),
        Value::Str(text) => text.as_str().ok().and_then(value::parse_bool),
        _ => None,
    };
    flag.ok_or_else(|| wrong(field, "expected true or false"))
}

/// The mappings of a list; null is an empty list and a lone mapping a list of one, as in sops.
pub(super) fn branches<'a>(value: &'a Value, field: &str) -> Result<Vec<&'a Branch>, Error> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Map(branch) if branch.is_empty() => Ok(Vec::new()),
        Value::Map(branch) => Ok(vec![branch]),
        Value::List(items) => items
            .iter()
            .filter(|item| !matches!(item, Value::Comment(_)))
            .enumerate()
            .map(|(index, item)| match item {
                Value::Map(branch) => Ok(branch),
                other => {
                    let reason = format!("expected a mapping, but got {}", value::describe(other));
                    Err(wrong(&format!("{field}[{index}]"), reason))
                }
            })
            .collect(),
        // Flattened formats write an empty text for an empty list.
        Value::Str(text) if text.is_empty() => Ok(Vec::new()),
        other => Err(wrong(field, format!("expected a list, but got {}", value::describe(other)))),
    }
}

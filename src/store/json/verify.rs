//! Verifies that the written text reads back as the tree it was written from.

use super::reader::Reader;
use crate::sops::tree::{Branch, Item, Key, Tree, Value};
use crate::sops::value;
use crate::store::Error;

/// Reads a text and compares it with the tree it was written from. Comments are not in it, a float without a
/// fraction reads back as an integer and a time as a string: all are so in sops. The bytes of every leaf must
/// be the same, because the MAC covers them.
///
/// The text is compared value by value: a second tree would be as large as the first one.
///
/// # Errors
/// The text does not read, or where they differ, by keys and indices.
pub(super) fn verify(meant: &Tree, emitted: &[u8]) -> Result<(), Error> {
    let mut path = Vec::new();
    let mut reader = Reader::new(emitted);
    let same = match meant.documents.as_slice() {
        [meant] if reader.peek() == Some(b'{') => same_branch(meant, &mut reader, &mut path)?,
        // It says what is wrong.
        [_] => reader.document().map(|_| false)?,
        _ => false,
    };
    if same {
        return Ok(());
    }
    path.reverse();
    Err(Error::Unwritable(format!("the value at {} would not read back as it is", path.join("."))))
}

/// Leaves the path at the first difference, innermost step first.
fn same_branch(meant: &Branch, reader: &mut Reader<'_>, path: &mut Vec<String>) -> Result<bool, Error> {
    let mut entries = meant.iter().filter_map(|item| match item {
        Item::Entry(key, value) => Some((key, value)),
        Item::Comment(_) => None,
    });
    reader.open()?;
    if reader.closes(b'}') {
        return Ok(entries.next().is_none());
    }
    loop {
        let found = reader.key()?;
        let Some((Key::Str(key), value)) = entries.next() else { return Ok(false) };
        if *key != found || !same_value(value, reader, path)? {
            path.push(String::from_utf8_lossy(key.as_bytes()).into_owned());
            return Ok(false);
        }
        if !reader.goes_on_in_object()? {
            return Ok(entries.next().is_none());
        }
    }
}

fn same_value(meant: &Value, reader: &mut Reader<'_>, path: &mut Vec<String>) -> Result<bool, Error> {
    match (meant, reader.peek()) {
        (Value::Map(meant), Some(b'{')) => same_branch(meant, reader, path),
        (Value::List(meant), Some(b'[')) => same_list(meant, reader, path),
        (Value::Map(_) | Value::List(_), _) | (_, Some(b'{' | b'[')) => Ok(false),
        (Value::Null, _) => Ok(reader.value()? == Value::Null),
        _ => Ok(value::reads_back(meant, &reader.value()?)),
    }
}

fn same_list(meant: &[Value], reader: &mut Reader<'_>, path: &mut Vec<String>) -> Result<bool, Error> {
    let mut items = meant.iter().filter(|value| !matches!(value, Value::Comment(_)));
    reader.open()?;
    if reader.closes(b']') {
        return Ok(items.next().is_none());
    }
    let mut at = 0_usize;
    loop {
        let same = match items.next() {
            Some(meant) => same_value(meant, reader, path)?,
            None => false,
        };
        if !same {
            path.push(at.to_string());
            return Ok(false);
        }
        at += 1;
        if !reader.goes_on_in_list()? {
            break;
        }
    }
    if items.next().is_some() {
        path.push(at.to_string());
        return Ok(false);
    }
    Ok(true)
}

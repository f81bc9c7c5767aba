//! Proof that what was written reads back as what was meant.

use super::Yaml;
use super::number;
use crate::sops::tree::{Branch, Item, Key, Tree, Value};
use crate::store::{Error, Store};

/// Reads the emitted text and compares its values with the tree it was made from. Comments may have
/// shifted, and a float without a fraction reads back as an integer: both are so in sops.
///
/// # Errors
/// The text does not read, or where its values differ, by document and keys.
pub(super) fn verify(tree: &Tree, emitted: &[u8]) -> Result<(), Error> {
    let read = if emitted.is_empty() { Tree::default() } else { Yaml::default().load(emitted)? };
    if read.documents.len() != tree.documents.len() {
        return Err(Error::Unwritable("the written text reads back with other documents".to_owned()));
    }
    for (meant, found) in tree.documents.iter().zip(&read.documents) {
        let mut path = Vec::new();
        if !same_branch(meant, found, &mut path) {
            return Err(Error::Unwritable(format!(
                "the value at {} would not read back as it is",
                path.join(".")
            )));
        }
    }
    Ok(())
}

/// Leaves the path at the first difference.
fn same_branch(meant: &Branch, found: &Branch, path: &mut Vec<String>) -> bool {
    let entries = |branch: &Branch| branch.iter().filter(|item| matches!(item, Item::Entry(..))).count();
    if entries(meant) != entries(found) {
        return false;
    }
    super::emitter::entries(meant).zip(super::emitter::entries(found)).all(|(meant, found)| {
        path.push(key_name(meant.0));
        let same = same_key(meant.0, found.0) && same_value(meant.1, found.1, path);
        if same {
            path.pop();
        }
        same
    })
}

fn same_key(meant: &Key, found: &Key) -> bool {
    match (meant, found) {
        (Key::Str(meant), Key::Str(found)) => meant == found,
        (Key::Other(meant), Key::Other(found)) => same_value(meant, found, &mut Vec::new()),
        (Key::Other(Value::Bytes(meant)), Key::Str(found)) => meant == found,
        _ => false,
    }
}

fn same_value(meant: &Value, found: &Value, path: &mut Vec<String>) -> bool {
    match (meant, found) {
        (Value::Map(meant), Value::Map(found)) => same_branch(meant, found, path),
        (Value::List(meant), Value::List(found)) => same_list(meant, found, path),
        (Value::Float(meant), found) => same_float(*meant, found),
        (Value::Bytes(meant), Value::Str(found)) => meant == found,
        _ => meant == found,
    }
}

fn same_list(meant: &[Value], found: &[Value], path: &mut Vec<String>) -> bool {
    let items = |list: &'_ [Value]| list.iter().filter(|value| !matches!(value, Value::Comment(_))).count();
    if items(meant) != items(found) {
        return false;
    }
    let values = |list| <[Value]>::iter(list).filter(|value| !matches!(value, Value::Comment(_)));
    values(meant).zip(values(found)).enumerate().all(|(at, (meant, found))| {
        path.push(at.to_string());
        let same = same_value(meant, found, path);
        if same {
            path.pop();
        }
        same
    })
}

fn same_float(meant: f64, found: &Value) -> bool {
    match found {
        Value::Float(found) => meant == *found || meant.is_nan() && found.is_nan(),
        Value::Int(found) => number::int_to_float(*found) == meant,
        _ => false,
    }
}

fn key_name(key: &Key) -> String {
    match key {
        Key::Str(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        Key::Other(_) => "(a key that is no string)".to_owned(),
    }
}

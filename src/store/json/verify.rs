//! Verifies that the written text reads back as the tree it was written from.

use crate::sops::tree::{Branch, Item, Key, Tree, Value};
use crate::sops::value;
use crate::store::Error;

/// Compares what was read with the tree it was written from. Comments are not in it, a float without a
/// fraction reads back as an integer and a time as a string: all are so in sops. The bytes of every leaf must
/// be the same, because the MAC covers them.
///
/// # Errors
/// Where they differ, by keys and indices.
pub(super) fn verify(meant: &Tree, found: &Tree) -> Result<(), Error> {
    let mut path = Vec::new();
    let same = match (meant.documents.as_slice(), found.documents.as_slice()) {
        ([meant], [found]) => same_branch(meant, found, &mut path),
        _ => false,
    };
    if same {
        return Ok(());
    }
    path.reverse();
    Err(Error::Unwritable(format!("the value at {} would not read back as it is", path.join("."))))
}

/// Leaves the path at the first difference, innermost step first.
fn same_branch(meant: &Branch, found: &Branch, path: &mut Vec<String>) -> bool {
    let same_entry = |meant: (&Key, &Value), found: (&Key, &Value), path: &mut Vec<String>| {
        let Key::Str(key) = meant.0 else { return false };
        let same = meant.0 == found.0 && same_value(meant.1, found.1, path);
        if !same {
            path.push(String::from_utf8_lossy(key.as_bytes()).into_owned());
        }
        same
    };
    let (mut meant, mut found) = (entries(meant), entries(found));
    loop {
        match (meant.next(), found.next()) {
            (None, None) => return true,
            (Some(meant), Some(found)) if same_entry(meant, found, path) => {}
            _ => return false,
        }
    }
}

fn entries(branch: &Branch) -> impl Iterator<Item = (&Key, &Value)> {
    branch.iter().filter_map(|item| match item {
        Item::Entry(key, value) => Some((key, value)),
        Item::Comment(_) => None,
    })
}

fn same_value(meant: &Value, found: &Value, path: &mut Vec<String>) -> bool {
    match (meant, found) {
        (Value::Map(meant), Value::Map(found)) => same_branch(meant, found, path),
        (Value::List(meant), Value::List(found)) => same_list(meant, found, path),
        (Value::Null, Value::Null) => true,
        _ => value::reads_back(meant, found),
    }
}

fn same_list(meant: &[Value], found: &[Value], path: &mut Vec<String>) -> bool {
    let mut meant = meant.iter().filter(|value| !matches!(value, Value::Comment(_)));
    let mut found = found.iter();
    for at in 0.. {
        match (meant.next(), found.next()) {
            (None, None) => break,
            (Some(meant), Some(found)) if same_value(meant, found, path) => {}
            _ => {
                path.push(at.to_string());
                return false;
            }
        }
    }
    true
}

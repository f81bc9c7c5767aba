//! Shared by the formats in which every value is a string: dotenv and INI.

use super::Error;
use super::flat;
use crate::sops::buffer::Buffer;
use crate::sops::document::is_metadata;
use crate::sops::float;
use crate::sops::key_path::{KeyPath, Step};
use crate::sops::text::Text;
use crate::sops::tree::{Branch, Item, Key, Tree, Value};
use crate::sops::value::{Bytes, to_bytes};

/// A scalar as sops spells it where everything is a text; `None` for mappings and lists.
#[must_use]
pub fn spelled(value: &Value) -> Option<Bytes<'_>> {
    let owned = |text: String| Some(Bytes::Owned(text.into_bytes().into()));
    match value {
        Value::Null => Some(Bytes::Borrowed(b"<nil>")),
        Value::Bool(flag) => Some(Bytes::Borrowed(if *flag { b"true" } else { b"false" })),
        Value::Uint(number) => owned(number.to_string()),
        Value::Float(number) => owned(float_text(*number)),
        Value::Time(time) => owned(time.whole_second().to_string()),
        Value::Map(_) | Value::List(_) => None,
        Value::Int(_) | Value::Str(_) | Value::Bytes(_) | Value::Comment(_) => to_bytes(value),
    }
}

/// Never to be taken for an integer: with an exponent or a fraction.
fn float_text(number: f64) -> String {
    // Where Go's shortest `G` form turns to an exponent, and the digits that one has at least.
    let mut text = float::general(number, -4..6, 2);
    if number.is_finite() {
        text.make_ascii_uppercase();
        if !text.contains(['.', 'E']) {
            text.push_str(".0");
        }
    }
    text
}

/// Appends a text with its newlines written `\n`.
pub(super) fn escaped(out: &mut Buffer, text: &[u8]) {
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if at > 0 {
            out.extend(b"\\n");
        }
        out.extend(line);
    }
}

/// A text with every `\n` in it turned into a newline.
pub(super) fn unescaped(text: &[u8]) -> Text {
    let mut out = Buffer::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(b"\\n") {
            out.push(b'\n');
            rest = behind;
        } else {
            out.push(*byte);
            rest = behind;
        }
    }
    out.into_vec().into()
}

/// The first duplicate among some names.
pub(super) fn repeated<'a>(names: impl Iterator<Item = &'a Text>) -> Option<&'a Text> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// The documents of a file that holds only one.
///
/// # Errors
/// There are several: sops would drop all but the first, or write what it cannot read.
pub(super) fn only_document<'a>(tree: &'a Tree, format: &str) -> Result<&'a Branch, Error> {
    match tree.documents.as_slice() {
        [branch] => Ok(branch),
        documents => {
            Err(Error::Unwritable(format!("{format} holds one document, and there are {}", documents.len())))
        }
    }
}

/// How the leaves of an encrypted document are compared with the texts that they were written as: by what the MAC covers.
/// One that covers encrypted leaves only leaves the others to be what they look like; but null would become a text.
pub(super) fn leaf_bytes(document: &Branch) -> fn(&Value) -> Option<Bytes<'_>> {
    let only_encrypted = document.iter().any(|item| match item {
        Item::Entry(_, Value::Map(metadata)) if is_metadata(item) => metadata
            .iter()
            .any(|item| matches!(item, Item::Entry(Key::Str(key), Value::Bool(true)) if *key == "mac_only_encrypted")),
        _ => false,
    });
    match only_encrypted {
        true => |value| if matches!(value, Value::Null) { None } else { spelled(value) },
        false => to_bytes,
    }
}

/// Compares documents with what was read from their text: values by their `bytes`, and the metadata by its flat
/// form. Comments do not count.
///
/// # Errors
/// Where they differ.
pub(super) fn compare(
    meant: &[Item],
    found: &[Item],
    bytes: fn(&Value) -> Option<Bytes<'_>>,
) -> Result<(), Error> {
    let mut path = Vec::new();
    if same_branch(meant, found, bytes, &mut path)? {
        return Ok(());
    }
    Err(Error::Unwritable(format!("the value at {} would not read back as it is", KeyPath::from(path))))
}

/// Leaves the path at the first difference.
fn same_branch(
    meant: &[Item],
    found: &[Item],
    bytes: fn(&Value) -> Option<Bytes<'_>>,
    path: &mut Vec<Step>,
) -> Result<bool, Error> {
    let mut found = found.iter().filter(|item| matches!(item, Item::Entry(..)));
    for item in meant.iter().filter(|item| matches!(item, Item::Entry(..))) {
        let (Item::Entry(Key::Str(key), meant), Some(Item::Entry(Key::Str(name), found))) =
            (item, found.next())
        else {
            return Ok(false);
        };
        path.push(Step::Key(key.clone()));
        let same = key == name
            && match (meant, found) {
                (Value::Map(meant), Value::Map(found)) if is_metadata(item) => {
                    let mut lines = [flat::flatten(meant)?, flat::flatten(found)?];
                    lines.iter_mut().for_each(|lines| lines.sort_unstable());
                    lines[0] == lines[1]
                }
                (Value::Map(meant), Value::Map(found)) => same_branch(meant, found, bytes, path)?,
                (meant, Value::Str(found)) => bytes(meant).is_some_and(|meant| *meant == *found.as_bytes()),
                _ => false,
            };
        if !same {
            return Ok(false);
        }
        path.pop();
    }
    Ok(found.next().is_none())
}

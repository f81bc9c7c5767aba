//! Estimating the length of a text. Growing a large buffer would copy and wipe it repeatedly.

use crate::sops::tree::{Branch, Item, Key, Value};

/// What a number, a boolean or a time takes at most, mostly.
const SCALAR: usize = 24;
/// Four quotes, colon, space, comma and line break, as far as the format has them.
const SIGNS: usize = 8;

/// The bytes of a mapping at an indent.
pub(super) fn branch(branch: &Branch, width: usize) -> usize {
    inside(branch, width, 0)
}

fn inside(branch: &Branch, width: usize, indent: usize) -> usize {
    branch
        .iter()
        .map(|item| match item {
            Item::Comment(comment) => indent + comment.text.len() + SIGNS,
            Item::Entry(key, content) => {
                let key = match key {
                    Key::Str(text) => text.len(),
                    Key::Other(_) => SCALAR,
                };
                indent + key + SIGNS + value(content, width, indent + width)
            }
        })
        .sum()
}

fn value(content: &Value, width: usize, indent: usize) -> usize {
    match content {
        Value::Str(text) | Value::Bytes(text) => text.len(),
        Value::Comment(comment) => comment.text.len(),
        // The bracket that closes it has a line of its own in JSON.
        Value::Map(branch) => indent + inside(branch, width, indent),
        Value::List(items) => {
            let item = |item: &Value| indent + SIGNS + value(item, width, indent + width);
            indent + items.iter().map(item).sum::<usize>()
        }
        _ => SCALAR,
    }
}

//! Verifies that the written text reads back as the tree it was written from.

use super::node::{Content, Id, Nodes};
use super::parser::Parser;
use super::{check, number, reader, resolve};
use crate::sops::tree::{Branch, Key, Tree, Value};
use crate::store::Error;

/// Reads the emitted text and compares its values with the tree it was made from. Comments may have
/// shifted, and a float without a fraction reads back as an integer: both are so in sops.
///
/// The text is compared node by node: a second tree would be as large as the first one.
///
/// # Errors
/// The text does not read, or where its values differ, by document and keys.
pub(super) fn verify(tree: &Tree, emitted: &[u8]) -> Result<(), Error> {
    let other_documents = || Error::Unwritable("the written text reads back with other documents".to_owned());
    let text = reader::read(emitted)?;
    let mut parser = Parser::new(&text);
    for (index, meant) in tree.documents.iter().enumerate() {
        let document = parser.next_document()?.ok_or_else(other_documents)?;
        if index == 0 {
            check::first_document(&parser.nodes, document.root)?;
        }
        let mut path = Vec::new();
        if !same_root(meant, &parser.nodes, document.root, &mut path) {
            return Err(Error::Unwritable(format!(
                "the value at {} would not read back as it is",
                path.iter().rev().map(String::as_str).collect::<Vec<_>>().join(".")
            )));
        }
    }
    match parser.next_document()? {
        None => Ok(()),
        Some(_) => Err(other_documents()),
    }
}

/// A document of comments alone is an empty mapping.
fn same_root(meant: &Branch, nodes: &Nodes<'_>, found: Id, path: &mut Vec<String>) -> bool {
    match &nodes.get(found).content {
        Content::Mapping(children) => same_branch(meant, nodes, children, path),
        Content::Scalar { text, tag } => {
            resolve::value(text, *tag) == Some(Value::Null) && super::emitter::entries(meant).next().is_none()
        }
        Content::Sequence(_) | Content::Alias(_) => false,
    }
}

/// Leaves the path at the first difference, innermost step first.
fn same_branch(meant: &Branch, nodes: &Nodes<'_>, children: &[Id], path: &mut Vec<String>) -> bool {
    if super::emitter::entries(meant).count() != children.len() / 2 {
        return false;
    }
    super::emitter::entries(meant).zip(children.chunks_exact(2)).all(|((key, value), found)| {
        let same = same_key(key, nodes, found[0]) && same_value(value, nodes, found[1], path);
        if !same {
            path.push(key_name(key));
        }
        same
    })
}

fn same_key(meant: &Key, nodes: &Nodes<'_>, found: Id) -> bool {
    let Content::Scalar { text, tag } = &nodes.get(found).content else { return false };
    if let Key::Str(meant) = meant
        && resolve::is_text(text, *tag)
    {
        return meant.as_bytes() == &**text;
    }
    match (meant, resolve::value(text, *tag)) {
        (Key::Str(meant) | Key::Other(Value::Bytes(meant)), Some(Value::Str(found))) => *meant == found,
        (Key::Other(meant), Some(found)) => same_scalar(meant, &found),
        _ => false,
    }
}

fn same_value(meant: &Value, nodes: &Nodes<'_>, found: Id, path: &mut Vec<String>) -> bool {
    match (meant, &nodes.get(found).content) {
        (Value::Map(meant), Content::Mapping(children)) => same_branch(meant, nodes, children, path),
        (Value::List(meant), Content::Sequence(children)) => same_list(meant, nodes, children, path),
        (Value::Map(_) | Value::List(_), _) => false,
        (Value::Str(meant), Content::Scalar { text, tag }) if resolve::is_text(text, *tag) => {
            meant.as_bytes() == &**text
        }
        (meant, Content::Scalar { text, tag }) => {
            resolve::value(text, *tag).is_some_and(|found| same_scalar(meant, &found))
        }
        _ => false,
    }
}

fn same_list(meant: &[Value], nodes: &Nodes<'_>, children: &[Id], path: &mut Vec<String>) -> bool {
    let items = || meant.iter().filter(|value| !matches!(value, Value::Comment(_)));
    if items().count() != children.len() {
        return false;
    }
    items().zip(children).enumerate().all(|(at, (meant, found))| {
        let same = same_value(meant, nodes, *found, path);
        if !same {
            path.push(at.to_string());
        }
        same
    })
}

fn same_scalar(meant: &Value, found: &Value) -> bool {
    match (meant, found) {
        (Value::Float(meant), Value::Float(found)) => meant == found || meant.is_nan() && found.is_nan(),
        (Value::Float(meant), Value::Int(found)) => number::int_to_float(*found) == *meant,
        (Value::Bytes(meant), Value::Str(found)) => meant == found,
        _ => meant == found,
    }
}

fn key_name(key: &Key) -> String {
    match key {
        Key::Str(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        Key::Other(_) => "(a key that is not a string)".to_owned(),
    }
}

//! Verifies that the written text reads back as the tree it was written from.

use rayon::prelude::*;

use super::node::{Content, Id, Nodes};
use super::parser::Parser;
use super::pieces::{self, Piece};
use super::{check, number, reader, resolve};
use crate::sops::tree::{Branch, Key, Tree, Value};
use crate::store::Error;

/// Reads the emitted text and compares its values with the tree it was made from. Comments may have
/// shifted, and a float without a fraction reads back as an integer: both are so in sops.
///
/// The text is compared node by node: a second tree would be as large as the first one.
///
/// A large text is read in pieces: see [`pieces`] for why they are the whole. Each must hold the next of the tree's
/// entries, neither fewer nor more, and behind the last nothing may be missing.
///
/// # Errors
/// The text does not read, or where its values differ, by document and keys.
pub(super) fn verify(tree: &Tree, emitted: &[u8]) -> Result<(), Error> {
    let text = reader::read(emitted)?;
    if same_in_pieces(tree, &text, pieces::PIECE) { Ok(()) } else { whole(tree, &text) }
}

/// Whether a text can be read in pieces of at least so many bytes and holds this tree.
pub(super) fn same_in_pieces(tree: &Tree, text: &[u8], least: usize) -> bool {
    let [meant] = tree.documents.as_slice() else { return false };
    let Some(pieces) = pieces::divide(text, least) else { return false };
    let meant: Vec<(&Key, &Value)> = super::emitter::entries(meant).collect();
    if !pieces::are_distinct(meant.iter().map(|(key, _)| *key)) {
        return false;
    }
    let mut left = meant.as_slice();
    let mut work = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let Some((own, others)) = left.split_at_checked(piece.entries) else { return false };
        work.push((piece, own));
        left = others;
    }
    left.is_empty() && work.into_par_iter().all(|(piece, meant)| same_piece(meant, &piece))
}

fn same_piece(meant: &[(&Key, &Value)], piece: &Piece<'_>) -> bool {
    let Some((parser, document)) = piece.read() else { return false };
    let Some(children) = pieces::entries(&parser, document.root) else { return false };
    children.len() == 2 * meant.len()
        && meant.iter().zip(children.chunks_exact(2)).all(|((key, value), found)| {
            same_key(key, &parser.nodes, found[0])
                && same_value(value, &parser.nodes, found[1], &mut Vec::new())
        })
}

fn whole(tree: &Tree, text: &[u8]) -> Result<(), Error> {
    let other_documents = || Error::Unwritable("the written text reads back with other documents".to_owned());
    let mut parser = Parser::new(text);
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

//! Values that YAML takes for something else than they look like: `012` is ten, `12345_54321` has no underscore, and a
//! tag of one's own is dropped.

use super::node::{Content, Id, Nodes, Tag};
use super::parser::Parser;
use super::{Yaml, reader, resolve};
use crate::sops::key_path::{KeyPath, Step};
use crate::sops::tree::Value;
use crate::store::{Store as _, Surprise};

/// The surprises of a text; none where it cannot be read.
pub(super) fn surprises(input: &[u8]) -> Vec<Surprise> {
    let mut found = Vec::new();
    let Ok(text) = reader::read(input) else { return found };
    let mut parser = Parser::new(&text);
    while let Ok(Some(document)) = parser.next_document() {
        walk(&parser.nodes, document.root, &mut Vec::new(), &mut found);
    }
    found
}

/// As deep as the parser lets a text be.
fn walk(nodes: &Nodes<'_>, id: Id, path: &mut Vec<Step>, found: &mut Vec<Surprise>) {
    let node = nodes.get(id);
    match &node.content {
        Content::Mapping(children) => {
            for pair in children.chunks_exact(2) {
                let Content::Scalar { text, .. } = &nodes.get(pair[0]).content else { continue };
                path.push(Step::Key(text.to_vec().into()));
                walk(nodes, pair[1], path, found);
                path.pop();
            }
        }
        Content::Sequence(children) => {
            for (index, child) in children.iter().enumerate() {
                path.push(Step::Index(index));
                walk(nodes, *child, path, found);
                path.pop();
            }
        }
        // What it stands for is looked at where it stands.
        Content::Alias(_) => {}
        Content::Scalar { text, tag } => {
            if let Some(what) = surprise(text, *tag) {
                found.push(Surprise { line: node.line, path: KeyPath::from(path.clone()), what });
            }
        }
    }
}

fn surprise(text: &[u8], tag: Tag) -> Option<&'static str> {
    let value = match tag {
        Tag::Unknown => return Some("its tag is dropped, and only the text after it is kept"),
        Tag::Binary => return Some("it is decoded from base64"),
        _ => resolve::value(text, tag)?,
    };
    let what = match value {
        Value::Int(_) | Value::Uint(_) => "it is read as a whole number and written back with other digits",
        Value::Float(_) => "it is read as a number and written back with other digits",
        Value::Time(_) => "it is read as a time and written back in another form",
        _ => return None,
    };
    // An integer above the signed range is an error of its own.
    let written = Yaml::default().emit_value(&value).ok()?;
    (written.trim_ascii_end() != text).then_some(what)
}

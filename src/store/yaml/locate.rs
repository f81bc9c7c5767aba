//! Finding the line of a key, for messages about it.

use super::node::{Content, Id, Nodes};
use super::parser::Parser;
use super::reader;

/// The line, from 1, of the key that the path leads to in the first document; list items are given
/// by their number from 0. None where the text is not YAML or the path leads nowhere.
#[must_use]
pub fn line_of(input: &[u8], path: &[&str]) -> Option<usize> {
    let text = reader::read(input).ok()?;
    let mut parser = Parser::new(&text);
    let document = parser.next_document().ok()??;
    let mut id = document.root;
    let mut line = parser.nodes.get(id).line;
    for step in path {
        (id, line) = descend(&parser.nodes, id, step)?;
    }
    Some(line)
}

fn descend(nodes: &Nodes<'_>, id: Id, step: &str) -> Option<(Id, usize)> {
    match &nodes.get(id).content {
        Content::Mapping(children) => children.chunks_exact(2).find_map(|pair| {
            let key = nodes.get(pair[0]);
            match &key.content {
                Content::Scalar { text, .. } if **text == *step.as_bytes() => Some((pair[1], key.line)),
                _ => None,
            }
        }),
        Content::Sequence(children) => {
            let &child = children.get(step.parse::<usize>().ok()?)?;
            Some((child, nodes.get(child).line))
        }
        // An anchor comes before its aliases, so this terminates.
        Content::Alias(target) => descend(nodes, *target, step),
        Content::Scalar { .. } => None,
    }
}

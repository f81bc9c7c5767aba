//! What sops requires only of the first document: distinct keys, and merge keys that
//! merge something.

use std::collections::HashMap;

use super::node::{Content, Id, Node, Nodes, Tag};
use crate::store::Error;

/// Walks the document without following aliases: what they stand for was seen where it is anchored.
///
/// # Errors
/// The line of the second of two keys with the same text, or of a merge key whose value is neither
/// a mapping nor a list of mappings.
pub(super) fn first_document(nodes: &Nodes<'_>, root: Id) -> Result<(), Error> {
    let mut pending = vec![root];
    while let Some(id) = pending.pop() {
        match &nodes.get(id).content {
            Content::Mapping(children) => {
                distinct_keys(nodes, children)?;
                for pair in children.chunks_exact(2) {
                    merges(nodes, pair[0], pair[1])?;
                }
                pending.extend(children);
            }
            Content::Sequence(children) => pending.extend(children),
            Content::Scalar { .. } | Content::Alias(_) => {}
        }
    }
    Ok(())
}

/// Keys are the same when their text is, whatever their types; aliases when they stand for the same.
fn distinct_keys(nodes: &Nodes<'_>, children: &[Id]) -> Result<(), Error> {
    let mut seen = HashMap::with_capacity(children.len() / 2);
    for &id in children.iter().step_by(2) {
        let node = nodes.get(id);
        let key = match &node.content {
            Content::Scalar { text, .. } => (None, &**text),
            Content::Alias(target) => (Some(*target), &[][..]),
            Content::Mapping(_) | Content::Sequence(_) => continue,
        };
        if let Some(first) = seen.insert(key, node.line) {
            let message = format!("this key is already in the mapping, on line {first}");
            return Err(Error::Syntax { line: node.line, message });
        }
    }
    Ok(())
}

fn merges(nodes: &Nodes<'_>, key: Id, value: Id) -> Result<(), Error> {
    let key = nodes.get(key);
    let Content::Scalar { text, tag: Tag::None | Tag::Merge } = &key.content else {
        return Ok(());
    };
    if **text != *b"<<" {
        return Ok(());
    }
    let value = nodes.get(value);
    let fits = match &value.content {
        Content::Sequence(items) => items.iter().all(|&item| is_mapping(nodes, nodes.get(item))),
        _ => is_mapping(nodes, value),
    };
    if fits {
        return Ok(());
    }
    let message = "the merge key '<<' needs a mapping or a list of mappings".to_owned();
    Err(Error::Syntax { line: value.line, message })
}

fn is_mapping(nodes: &Nodes<'_>, node: &Node<'_>) -> bool {
    match &node.content {
        Content::Mapping(_) => true,
        Content::Alias(target) => matches!(nodes.get(*target).content, Content::Mapping(_)),
        Content::Scalar { .. } | Content::Sequence(_) => false,
    }
}

//! Nodes to sops' tree: types resolved, aliases expanded, comments between the entries.

use super::limits;
use super::node::{Content, Document, Id, Nodes};
use super::resolve;
use crate::sops::text::Text;
use crate::sops::tree::{Branch, Comment, Item, Key, Value};
use crate::store::Error;

/// Converts the documents of one file; the budget for aliases is theirs together.
pub(super) struct Converter {
    depth: usize,
    /// What the aliases stand for that are being expanded.
    expanding: Vec<Id>,
    nodes: usize,
    bytes: usize,
}

impl Converter {
    pub(super) fn new() -> Self {
        Self { depth: 0, expanding: Vec::new(), nodes: 0, bytes: 0 }
    }

    /// The branch of a document.
    ///
    /// # Errors
    /// A root that is no mapping, a key that is a collection, a value that is not what its tag says,
    /// an alias inside what it stands for, too much expansion; with their line.
    pub(super) fn document(&mut self, nodes: &Nodes, document: &Document) -> Result<Branch, Error> {
        let mut branch = Branch::new();
        add_comments(&mut branch, &document.head);
        self.root(nodes, document.root, &mut branch)?;
        add_comments(&mut branch, &document.foot);
        Ok(branch)
    }

    fn root(&mut self, nodes: &Nodes, id: Id, branch: &mut Branch) -> Result<(), Error> {
        let node = nodes.get(id);
        match &node.content {
            Content::Mapping(children) => self.mapping(nodes, id, children, false, branch)?,
            Content::Sequence(_) => {
                return Err(syntax(node.line, "a document must be a mapping, and this one is a list"));
            }
            Content::Scalar { text, tag } => {
                add_comments(branch, node.comments.head());
                add_comments(branch, node.comments.line());
                if resolve::value(text, *tag) != Some(Value::Null) {
                    return Err(syntax(
                        node.line,
                        "a document must be a mapping, and this one is a single value",
                    ));
                }
            }
            Content::Alias(target) => {
                add_comments(branch, node.comments.head());
                add_comments(branch, node.comments.line());
                self.enter_alias(node.line, *target)?;
                self.root(nodes, *target, branch)?;
                self.expanding.pop();
                add_comments(branch, node.comments.foot());
            }
        }
        Ok(())
    }

    /// The entries of a mapping with the comments around them. Where the comments of the mapping
    /// itself are not placed by its owner, they stand inside.
    fn mapping(
        &mut self,
        nodes: &Nodes,
        id: Id,
        children: &[Id],
        placed: bool,
        branch: &mut Branch,
    ) -> Result<(), Error> {
        let node = nodes.get(id);
        self.enter(node.line)?;
        if !placed {
            add_comments(branch, node.comments.head());
            add_comments(branch, node.comments.line());
        }
        for pair in children.chunks_exact(2) {
            let (key, value) = (nodes.get(pair[0]), nodes.get(pair[1]));
            let lone = matches!(value.content, Content::Scalar { .. } | Content::Alias(_));
            add_comments(branch, key.comments.head());
            add_comments(branch, key.comments.line());
            if lone {
                add_comments(branch, value.comments.head());
                add_inline_comments(branch, value.comments.line());
            }
            let name = self.key(nodes, pair[0])?;
            let content = self.value(nodes, pair[1], lone)?;
            branch.push(Item::Entry(name, content));
            if lone {
                add_comments(branch, value.comments.foot());
            }
            add_comments(branch, key.comments.foot());
        }
        if !placed {
            add_comments(branch, node.comments.foot());
        }
        self.depth -= 1;
        Ok(())
    }

    fn sequence(
        &mut self,
        nodes: &Nodes,
        id: Id,
        children: &[Id],
        placed: bool,
    ) -> Result<Vec<Value>, Error> {
        let node = nodes.get(id);
        self.enter(node.line)?;
        let mut list = Vec::with_capacity(children.len());
        if !placed {
            list.extend(comments(node.comments.head(), false).map(Value::Comment));
            list.extend(comments(node.comments.line(), false).map(Value::Comment));
        }
        for &child in children {
            let item = nodes.get(child);
            list.extend(comments(item.comments.head(), false).map(Value::Comment));
            list.extend(comments(item.comments.line(), true).map(Value::Comment));
            list.push(self.value(nodes, child, true)?);
            list.extend(comments(item.comments.foot(), false).map(Value::Comment));
        }
        if !placed {
            list.extend(comments(node.comments.foot(), false).map(Value::Comment));
        }
        self.depth -= 1;
        Ok(list)
    }

    fn value(&mut self, nodes: &Nodes, id: Id, placed: bool) -> Result<Value, Error> {
        let node = nodes.get(id);
        match &node.content {
            Content::Mapping(children) => {
                let mut branch = Branch::with_capacity(children.len() / 2);
                self.mapping(nodes, id, children, placed, &mut branch)?;
                Ok(Value::Map(branch))
            }
            Content::Sequence(children) => Ok(Value::List(self.sequence(nodes, id, children, placed)?)),
            Content::Scalar { text, tag } => {
                self.spend(node.line, text.len())?;
                resolve::value(text, *tag)
                    .ok_or_else(|| syntax(node.line, "the value is not of the type that its tag says"))
            }
            Content::Alias(target) => {
                self.enter_alias(node.line, *target)?;
                let value = self.value(nodes, *target, false)?;
                self.expanding.pop();
                Ok(value)
            }
        }
    }

    fn key(&mut self, nodes: &Nodes, id: Id) -> Result<Key, Error> {
        let node = nodes.get(id);
        let target = match &node.content {
            Content::Alias(target) => &nodes.get(*target).content,
            content => content,
        };
        if !matches!(target, Content::Scalar { .. }) {
            return Err(syntax(node.line, "a key must be a single value, not a collection"));
        }
        Ok(match self.value(nodes, id, true)? {
            Value::Str(text) => Key::Str(text),
            other => Key::Other(other),
        })
    }

    fn enter(&mut self, line: usize) -> Result<(), Error> {
        self.spend(line, 0)?;
        self.depth += 1;
        if self.depth > limits::DEPTH {
            return Err(Error::Limit { line, limit: limits::DEPTH, what: "levels of nesting" });
        }
        Ok(())
    }

    fn enter_alias(&mut self, line: usize, target: Id) -> Result<(), Error> {
        if self.expanding.contains(&target) {
            return Err(syntax(line, "an alias inside what it stands for"));
        }
        self.expanding.push(target);
        Ok(())
    }

    fn spend(&mut self, line: usize, bytes: usize) -> Result<(), Error> {
        if self.expanding.is_empty() {
            return Ok(());
        }
        self.nodes += 1;
        self.bytes += bytes;
        if self.nodes > limits::EXPANDED_NODES {
            return Err(Error::Limit { line, limit: limits::EXPANDED_NODES, what: "values out of aliases" });
        }
        if self.bytes > limits::EXPANDED_BYTES {
            return Err(Error::Limit { line, limit: limits::EXPANDED_BYTES, what: "bytes out of aliases" });
        }
        Ok(())
    }
}

/// The lines of a comment, each without its `#`; empty lines vanish.
fn comments(text: &[u8], inline: bool) -> impl Iterator<Item = Comment> {
    text.split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(move |line| Comment { text: Text::from(line[1..].to_vec()), inline })
}

fn add_comments(branch: &mut Branch, text: &[u8]) {
    branch.extend(comments(text, false).map(Item::Comment));
}

fn add_inline_comments(branch: &mut Branch, text: &[u8]) {
    branch.extend(comments(text, true).map(Item::Comment));
}

fn syntax(line: usize, message: &str) -> Error {
    Error::Syntax { line, message: message.to_owned() }
}

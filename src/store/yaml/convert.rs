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
    /// A root that is not a mapping, a key that is a collection, a value that does not match its tag,
    /// an alias inside the value of its own anchor, too much expansion; with their line.
    pub(super) fn document(&mut self, nodes: &Nodes<'_>, document: &Document) -> Result<Branch, Error> {
        let mut branch = Branch::new();
        // What no alias copies costs nothing.
        self.comments(&mut branch, 0, &document.head)?;
        self.root(nodes, document.root, &mut branch)?;
        self.comments(&mut branch, 0, &document.foot)?;
        Ok(branch)
    }

    fn root(&mut self, nodes: &Nodes<'_>, id: Id, branch: &mut Branch) -> Result<(), Error> {
        let node = nodes.get(id);
        match &node.content {
            Content::Mapping(children) => self.mapping(nodes, id, children, false, branch)?,
            Content::Sequence(_) => {
                return Err(syntax(node.line, "a document must be a mapping, but this one is a list"));
            }
            Content::Scalar { text, tag } => {
                self.comments(branch, node.line, node.comments.head())?;
                self.comments(branch, node.line, node.comments.line())?;
                if resolve::value(text, *tag) != Some(Value::Null) {
                    return Err(syntax(
                        node.line,
                        "a document must be a mapping, but this one is a single value",
                    ));
                }
            }
            Content::Alias(target) => {
                self.comments(branch, node.line, node.comments.head())?;
                self.comments(branch, node.line, node.comments.line())?;
                self.enter_alias(node.line, *target)?;
                self.root(nodes, *target, branch)?;
                self.expanding.pop();
                self.comments(branch, node.line, node.comments.foot())?;
            }
        }
        Ok(())
    }

    /// The entries of a mapping with the comments around them. Where the comments of the mapping
    /// itself are not placed by its owner, they are inside.
    fn mapping(
        &mut self,
        nodes: &Nodes<'_>,
        id: Id,
        children: &[Id],
        placed: bool,
        branch: &mut Branch,
    ) -> Result<(), Error> {
        let node = nodes.get(id);
        self.enter(node.line)?;
        if !placed {
            self.comments(branch, node.line, node.comments.head())?;
            self.comments(branch, node.line, node.comments.line())?;
        }
        for pair in children.chunks_exact(2) {
            let (key, value) = (nodes.get(pair[0]), nodes.get(pair[1]));
            let lone = matches!(value.content, Content::Scalar { .. } | Content::Alias(_));
            self.comments(branch, key.line, key.comments.head())?;
            self.comments(branch, key.line, key.comments.line())?;
            if lone {
                self.comments(branch, value.line, value.comments.head())?;
                let inline = self.lines(value.line, value.comments.line(), true)?;
                branch.extend(inline.map(Item::Comment));
            }
            let name = self.key(nodes, pair[0])?;
            let content = self.value(nodes, pair[1], lone)?;
            branch.push(Item::Entry(name, content));
            if lone {
                self.comments(branch, value.line, value.comments.foot())?;
            }
            self.comments(branch, key.line, key.comments.foot())?;
        }
        if !placed {
            self.comments(branch, node.line, node.comments.foot())?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn sequence(
        &mut self,
        nodes: &Nodes<'_>,
        id: Id,
        children: &[Id],
        placed: bool,
    ) -> Result<Vec<Value>, Error> {
        let node = nodes.get(id);
        self.enter(node.line)?;
        let mut list = Vec::with_capacity(children.len());
        if !placed {
            list.extend(self.lines(node.line, node.comments.head(), false)?.map(Value::Comment));
            list.extend(self.lines(node.line, node.comments.line(), false)?.map(Value::Comment));
        }
        for &child in children {
            let item = nodes.get(child);
            list.extend(self.lines(item.line, item.comments.head(), false)?.map(Value::Comment));
            list.extend(self.lines(item.line, item.comments.line(), true)?.map(Value::Comment));
            list.push(self.value(nodes, child, true)?);
            list.extend(self.lines(item.line, item.comments.foot(), false)?.map(Value::Comment));
        }
        if !placed {
            list.extend(self.lines(node.line, node.comments.foot(), false)?.map(Value::Comment));
        }
        self.depth -= 1;
        Ok(list)
    }

    fn value(&mut self, nodes: &Nodes<'_>, id: Id, placed: bool) -> Result<Value, Error> {
        let node = nodes.get(id);
        match &node.content {
            Content::Mapping(children) => {
                let mut branch = Branch::with_capacity(children.len() / 2);
                self.mapping(nodes, id, children, placed, &mut branch)?;
                // A comment among the entries makes it twice as large.
                branch.shrink_to_fit();
                Ok(Value::Map(branch))
            }
            Content::Sequence(children) => Ok(Value::List(self.sequence(nodes, id, children, placed)?)),
            Content::Scalar { text, tag } => {
                self.spend(node.line, text.len())?;
                resolve::value(text, *tag)
                    .ok_or_else(|| syntax(node.line, "the value does not match its tag"))
            }
            Content::Alias(target) => {
                self.enter_alias(node.line, *target)?;
                let value = self.value(nodes, *target, false)?;
                self.expanding.pop();
                Ok(value)
            }
        }
    }

    fn key(&mut self, nodes: &Nodes<'_>, id: Id) -> Result<Key, Error> {
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
            return Err(syntax(line, "an alias inside the value of its own anchor"));
        }
        self.expanding.push(target);
        Ok(())
    }

    /// Puts the lines of a comment into a mapping.
    fn comments(&mut self, branch: &mut Branch, line: usize, text: &[u8]) -> Result<(), Error> {
        branch.extend(self.lines(line, text, false)?.map(Item::Comment));
        Ok(())
    }

    /// The lines of a comment, each without its `#`; empty lines vanish. Each is paid for where an alias copies it.
    fn lines<'t>(
        &mut self,
        line: usize,
        text: &'t [u8],
        inline: bool,
    ) -> Result<impl Iterator<Item = Comment> + use<'t>, Error> {
        let lines = || text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        if !self.expanding.is_empty() {
            lines().try_for_each(|comment| self.spend(line, comment.len()))?;
        }
        Ok(lines().map(move |line| Comment { text: Text::from(line[1..].to_vec()), inline }))
    }

    /// Pays for a node or comment and its text, which costs something where an alias copies it.
    fn spend(&mut self, line: usize, bytes: usize) -> Result<(), Error> {
        if self.expanding.is_empty() {
            return Ok(());
        }
        self.nodes += 1;
        self.bytes += bytes;
        if self.nodes > limits::EXPANDED_NODES {
            return Err(Error::Limit {
                line,
                limit: limits::EXPANDED_NODES,
                what: "values expanded from aliases",
            });
        }
        if self.bytes > limits::EXPANDED_BYTES {
            return Err(Error::Limit {
                line,
                limit: limits::EXPANDED_BYTES,
                what: "bytes expanded from aliases",
            });
        }
        Ok(())
    }
}

fn syntax(line: usize, message: &str) -> Error {
    Error::Syntax { line, message: message.to_owned() }
}

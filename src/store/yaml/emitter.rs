//! Tree to text: block mappings and lists, four styles of scalars, comments.
//!
//! The writer keeps the same few registers as go-yaml's emitter: one pending text for each place of a
//! comment, and where the last character left the line. Comments that sops displaces or drops are
//! displaced and dropped likewise, since equal bytes are what keeps mixed teams free of churn.

use super::limits;
use crate::sops::buffer::Buffer;
use crate::sops::tree::{Branch, Item, Key, Value};
use crate::store::Error;

mod collections;
mod comments;
mod scalar;
mod style;
mod write;

use comments::Pending;

/// Indents outside of this range act as [`NARROWEST_INDENT`] (go-yaml).
pub(super) const INDENTS: std::ops::RangeInclusive<usize> = 2..=9;
const NARROWEST_INDENT: usize = 2;

/// The writer's state. It outlives a document: so do comments that found no place.
pub(super) struct Emitter {
    out: Buffer,
    best_indent: usize,
    /// The column of the innermost collection, none outside of all.
    indent: Option<usize>,
    column: usize,
    /// Whether the last character was white space.
    whitespace: bool,
    /// Whether only indentation and `-`, `?`, `:` are on this line.
    indention: bool,
    /// The indent at which the last foot comment stood; an empty line parts it from what follows.
    foot_indent: Option<usize>,
    /// Where a text ended to which further empty lines would belong.
    open_end: Option<usize>,
    pending: Pending,
    depth: usize,
}

/// What an event of go-yaml brings: a node of the tree with its comments.
struct Node<'a> {
    value: &'a Value,
    /// A collection's line and foot are written at its end.
    line: Buffer,
    foot: Buffer,
}

/// The context of a node, for whatever depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Key,
    Value,
    Item,
}

impl Emitter {
    /// A writer of about so many bytes.
    pub(super) fn new(indent: usize, bytes: usize) -> Self {
        Self {
            out: Buffer::with_capacity(bytes),
            best_indent: if INDENTS.contains(&indent) { indent } else { NARROWEST_INDENT },
            indent: None,
            column: 0,
            whitespace: true,
            indention: true,
            foot_indent: None,
            open_end: None,
            pending: Pending::default(),
            depth: 0,
        }
    }

    /// Writes a mapping as a document.
    ///
    /// # Errors
    /// A comment where only a value is allowed.
    pub(super) fn document(&mut self, branch: &Branch, first: bool) -> Result<(), Error> {
        if !first {
            self.write_indent();
            self.write_indicator(b"---", true, false, false);
            self.write_indent();
        }
        if !self.pending.head.is_empty() {
            self.write_head_comment();
            self.put_break();
        }
        self.pending.set_head(comments::of_branch(branch).head);
        self.write_head_comment();
        self.write_line_comment(false);
        self.write_foot_comment();
        self.mapping(branch, Place::Root, Buffer::default(), Buffer::default())?;
        self.end_document();
        Ok(())
    }

    /// Writes a value of any kind as a document of its own.
    ///
    /// # Errors
    /// A comment where only a value is allowed.
    pub(super) fn value(&mut self, value: &Value) -> Result<(), Error> {
        let node = Node { value, line: Buffer::default(), foot: Buffer::default() };
        self.announce(&node);
        self.write_head_comment();
        self.node(node, Place::Root)?;
        self.end_document();
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out.into_vec()
    }

    fn end_document(&mut self) {
        self.foot_indent = Some(0);
        self.write_foot_comment();
        self.foot_indent = None;
        self.write_indent();
    }

    /// Sets the pending comments as the first event of the node does.
    fn announce(&mut self, node: &Node<'_>) {
        match node.value {
            Value::Map(branch) => self.pending.set_head(comments::of_branch(branch).head),
            Value::List(list) => self.pending.set_head(comments::of_list(list).head),
            _ => {
                self.pending.set_line(Buffer::from(&*node.line));
                self.pending.set_foot(Buffer::from(&*node.foot));
            }
        }
    }

    /// Writes a node that was announced.
    fn node(&mut self, node: Node<'_>, place: Place) -> Result<(), Error> {
        let is_collection = matches!(node.value, Value::Map(_) | Value::List(_));
        if !is_collection {
            self.scalar(scalar::of_value(node.value)?, place);
        }
        // go-yaml writes these after the event that begins a collection, before what is in it. Before
        // `{}` and `[]` that makes a text that does not read back; there they go after.
        if !is_empty_collection(node.value) {
            self.write_line_comment(false);
            self.write_foot_comment();
        }
        self.depth += 1;
        if self.depth > limits::DEPTH {
            return Err(Error::Unwritable(format!("more than {} levels of nesting", limits::DEPTH)));
        }
        match node.value {
            Value::Map(branch) => self.mapping(branch, place, node.line, node.foot)?,
            Value::List(list) => self.list(list, place, node.line, node.foot)?,
            _ => {}
        }
        self.depth -= 1;
        Ok(())
    }

    /// Goes one level deeper and gives the indent to come back to.
    fn increase_indent(&mut self, flow: bool, place: Place) -> Option<usize> {
        let before = self.indent;
        self.indent = Some(match before {
            None if flow => self.best_indent,
            None => 0,
            // What is after a dash is aligned with the dash's text.
            Some(indent) if place == Place::Item => indent + 2,
            Some(indent) => (indent / self.best_indent + 1) * self.best_indent,
        });
        before
    }
}

/// Whether a value is written as `{}` or `[]`.
fn is_empty_collection(value: &Value) -> bool {
    match value {
        Value::Map(branch) => entries(branch).next().is_none(),
        Value::List(items) => items.iter().all(|item| matches!(item, Value::Comment(_))),
        _ => false,
    }
}

/// Whether a value under the key `<<` is what readers accept there.
fn is_mergeable(value: &Value) -> bool {
    match value {
        Value::Map(_) => true,
        Value::List(items) => items.iter().all(|item| matches!(item, Value::Map(_) | Value::Comment(_))),
        _ => false,
    }
}

/// The entries of a mapping.
pub(super) fn entries(branch: &[Item]) -> impl Iterator<Item = (&Key, &Value)> {
    branch.iter().filter_map(|item| match item {
        Item::Entry(key, value) => Some((key, value)),
        Item::Comment(_) => None,
    })
}

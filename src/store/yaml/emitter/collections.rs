//! Mappings and lists with the comments around their entries.

use super::comments::Gathered;
use super::scalar;
use super::{Emitter, Node, Place, entries, is_empty_collection, is_mergeable};
use crate::sops::buffer::Buffer;
use crate::sops::tree::{Item, Key, Value};
use crate::store::Error;

impl Emitter {
    /// Writes the entries of a mapping that was announced. The line and foot comment are its own and
    /// come up at its end.
    pub(super) fn mapping(
        &mut self,
        branch: &[Item],
        place: Place,
        line: Buffer,
        foot: Buffer,
    ) -> Result<(), Error> {
        if entries(branch).next().is_none() {
            self.empty_mapping(place, &line, &foot);
            return Ok(());
        }
        let outer = self.increase_indent(false, place);
        let mut gathered = Gathered::default();
        let mut first = true;
        for item in branch {
            match item {
                Item::Comment(comment) => gathered.add(comment),
                Item::Entry(key, value) => {
                    let head = std::mem::take(&mut gathered.head);
                    if !std::mem::replace(&mut first, false) {
                        self.pending.set_head(head);
                    }
                    let line = std::mem::take(&mut gathered.line);
                    self.entry(key, Node { value, line, foot: Buffer::default() })?;
                }
            }
        }
        self.pending.set_tail(gathered.rest());
        self.pending.set_line(line);
        self.pending.set_foot(foot);
        self.write_head_comment();
        self.indent = outer;
        Ok(())
    }

    /// Comments alone make `{`, the comments, and `}` at the start of a line.
    fn empty_mapping(&mut self, place: Place, line: &[u8], foot: &[u8]) {
        self.write_indicator(b"{", true, true, false);
        let outer = self.increase_indent(true, place);
        self.pending.add_end(line, foot);
        self.write_head_comment();
        self.indent = outer;
        self.write_indicator(b"}", false, false, false);
        self.write_line_comment(false);
        self.write_foot_comment();
    }

    fn entry(&mut self, key: &Key, value: Node<'_>) -> Result<(), Error> {
        self.write_head_comment();
        self.write_indent();
        if !self.pending.line.is_empty() {
            self.pending.key_line = std::mem::take(&mut self.pending.line);
        }
        let key = scalar::of_key(key, is_mergeable(value.value))?;
        let simple = key.is_simple_key();
        if simple {
            self.scalar(key, Place::Key);
            self.announce(&value);
            self.write_indicator(b":", false, false, false);
        } else {
            self.write_indicator(b"?", true, false, true);
            self.scalar(key, Place::Value);
            self.announce(&value);
            self.write_indent();
            self.write_indicator(b":", true, false, true);
        }
        if !self.pending.key_line.is_empty() {
            self.write_key_line_comment(value.value);
        }
        self.node(value, Place::Value)
    }

    /// A line comment that came up at the key goes after the value if that is on the same line
    /// and has none, after the `:` before a collection.
    fn write_key_line_comment(&mut self, value: &Value) {
        let pending = &mut self.pending;
        if matches!(value, Value::Map(_) | Value::List(_)) && !is_empty_collection(value) {
            std::mem::swap(&mut pending.line, &mut pending.key_line);
            self.write_line_comment(false);
            std::mem::swap(&mut self.pending.line, &mut self.pending.key_line);
        } else if pending.line.is_empty() {
            pending.line = std::mem::take(&mut pending.key_line);
        }
    }

    /// Writes the items of a list that was announced; as for [`Emitter::mapping`].
    pub(super) fn list(
        &mut self,
        list: &[Value],
        place: Place,
        line: Buffer,
        foot: Buffer,
    ) -> Result<(), Error> {
        let Some(last) = list.iter().rposition(|value| !matches!(value, Value::Comment(_))) else {
            self.empty_list(place, &line, &foot);
            return Ok(());
        };
        let outer = self.increase_indent(false, place);
        let mut trailing = Gathered::default();
        for value in &list[last + 1..] {
            if let Value::Comment(comment) = value {
                trailing.add(comment);
            }
        }
        let mut gathered = Gathered::default();
        let mut first = true;
        for (at, value) in list[..=last].iter().enumerate() {
            if let Value::Comment(comment) = value {
                gathered.add(comment);
                continue;
            }
            let head = std::mem::take(&mut gathered.head);
            let line = std::mem::take(&mut gathered.line);
            let foot = if at == last { trailing.rest() } else { Buffer::default() };
            let node = Node { value, line, foot };
            if std::mem::replace(&mut first, false) {
                self.announce(&node);
            } else {
                self.announce_item(&node, head);
            }
            self.write_head_comment();
            self.write_indent();
            self.write_indicator(b"-", true, false, true);
            self.node(node, Place::Item)?;
        }
        self.pending.set_line(line);
        self.pending.set_foot(foot);
        self.indent = outer;
        Ok(())
    }

    /// If an item is a collection, the comments before the item precede the collection's head comment.
    fn announce_item(&mut self, node: &Node<'_>, mut head: Buffer) {
        let own = match node.value {
            Value::Map(branch) => super::comments::of_branch(branch).head,
            Value::List(list) => super::comments::of_list(list).head,
            _ => Buffer::default(),
        };
        if !own.is_empty() {
            head.extend_line(&own);
        }
        self.announce(node);
        self.pending.set_head(head);
    }

    fn empty_list(&mut self, place: Place, line: &[u8], foot: &[u8]) {
        self.write_indicator(b"[", true, true, false);
        let outer = self.increase_indent(true, place);
        self.pending.add_end(line, foot);
        self.indent = outer;
        if self.column == 0 {
            self.write_indent();
        }
        self.write_indicator(b"]", false, false, false);
        self.write_line_comment(false);
        self.write_foot_comment();
    }
}

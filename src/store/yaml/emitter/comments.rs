//! Comments: which entry of the tree they go with, and their writing.

use super::Emitter;
use crate::sops::buffer::Buffer;
use crate::sops::tree::{Comment, Item, Value};
use crate::store::yaml::chars;

/// The next comment of each place that waits to be written.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) head: Buffer,
    pub(super) line: Buffer,
    pub(super) foot: Buffer,
    /// The foot of the last entry of a mapping, written where the mapping ends.
    pub(super) tail: Buffer,
    /// A line comment that turned up at a key.
    pub(super) key_line: Buffer,
}

impl Pending {
    /// Sets the head. As in go-yaml, no comment leaves the one before, another replaces it.
    pub(super) fn set_head(&mut self, text: Buffer) {
        set(&mut self.head, text);
    }

    pub(super) fn set_line(&mut self, text: Buffer) {
        set(&mut self.line, text);
    }

    pub(super) fn set_foot(&mut self, text: Buffer) {
        set(&mut self.foot, text);
    }

    /// Adds a line and a foot to those that wait.
    pub(super) fn add_end(&mut self, line: &[u8], foot: &[u8]) {
        for (place, text) in [(&mut self.line, line), (&mut self.foot, foot)] {
            if !text.is_empty() {
                place.extend_line(text);
            }
        }
    }

    pub(super) fn set_tail(&mut self, text: Buffer) {
        set(&mut self.tail, text);
    }
}

fn set(place: &mut Buffer, text: Buffer) {
    if !text.is_empty() {
        *place = text;
    }
}

/// Comments on their way to an entry or an item.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) head: Buffer,
    pub(super) line: Buffer,
}

impl Gathered {
    pub(super) fn add(&mut self, comment: &Comment) {
        let place = if comment.inline { &mut self.line } else { &mut self.head };
        add_line(place, comment.text.as_bytes());
    }

    /// What is left behind the last entry.
    pub(super) fn rest(&mut self) -> Buffer {
        let mut all = std::mem::take(&mut self.head);
        if !self.line.is_empty() {
            all.extend_line(&std::mem::take(&mut self.line));
        }
        all
    }
}

/// The head of a mapping: the comments before its first entry.
pub(super) fn of_branch(branch: &[Item]) -> Gathered {
    let mut gathered = Gathered::default();
    for item in branch {
        match item {
            Item::Comment(comment) => gathered.add(comment),
            Item::Entry(..) => return gathered,
        }
    }
    Gathered { head: gathered.rest(), line: Buffer::default() }
}

/// The head of a list: the comments before its first item.
pub(super) fn of_list(list: &[Value]) -> Gathered {
    let mut gathered = Gathered::default();
    for value in list {
        match value {
            Value::Comment(comment) => gathered.add(comment),
            _ => return gathered,
        }
    }
    Gathered { head: gathered.rest(), line: Buffer::default() }
}

fn add_line(place: &mut Buffer, text: &[u8]) {
    if !place.is_empty() {
        place.push(b'\n');
    }
    place.push(b'#');
    place.extend(text);
}

impl Emitter {
    pub(super) fn write_head_comment(&mut self) {
        if !self.pending.tail.is_empty() {
            let tail = std::mem::take(&mut self.pending.tail);
            self.write_indent();
            self.write_comment(&tail);
            self.foot_indent = Some(self.indent.unwrap_or(0));
        }
        if !self.pending.head.is_empty() {
            let head = std::mem::take(&mut self.pending.head);
            self.write_indent();
            self.write_comment(&head);
        }
    }

    pub(super) fn write_line_comment(&mut self, break_anyway: bool) {
        if self.pending.line.is_empty() {
            if break_anyway {
                self.put_break();
            }
            return;
        }
        if !self.whitespace {
            self.put(b' ');
        }
        let line = std::mem::take(&mut self.pending.line);
        self.write_comment(&line);
    }

    pub(super) fn write_foot_comment(&mut self) {
        if !self.pending.foot.is_empty() {
            let foot = std::mem::take(&mut self.pending.foot);
            self.write_indent();
            self.write_comment(&foot);
            self.foot_indent = Some(self.indent.unwrap_or(0));
        }
    }

    /// Writes comment lines, each with its `#`, at the indent.
    fn write_comment(&mut self, text: &[u8]) {
        let mut at = 0;
        let mut line_begins = true;
        let mut breaks = false;
        while at < text.len() {
            if chars::is_break(text, at) {
                at = self.copy_break(text, at);
                breaks = true;
                line_begins = true;
                continue;
            }
            if breaks {
                self.write_indent();
            }
            if line_begins && text[at] != b'#' {
                self.put(b'#');
                self.put(b' ');
            }
            line_begins = false;
            at = self.copy(text, at);
            self.indention = false;
            breaks = false;
        }
        if !breaks {
            self.put_break();
        }
        self.whitespace = true;
    }
}

//! The line: columns, breaks, indentation, indicators.

use super::Emitter;
use crate::store::yaml::chars;

impl Emitter {
    pub(super) fn put(&mut self, byte: u8) {
        self.out.push(byte);
        self.column += 1;
    }

    pub(super) fn put_break(&mut self) {
        self.out.push(b'\n');
        self.column = 0;
        self.indention = true;
    }

    /// Copies the character at a position, and those after it that mean nothing but themselves; gives the position
    /// of the next.
    pub(super) fn copy(&mut self, text: &[u8], at: usize) -> usize {
        let next = (at + chars::width(text[at])).min(text.len());
        let run = chars::inner_run(&text[next..]);
        self.out.extend(&text[at..next + run]);
        self.column += 1 + run;
        next + run
    }

    /// Copies the line break at a position and returns the position after it.
    pub(super) fn copy_break(&mut self, text: &[u8], at: usize) -> usize {
        if text[at] == b'\n' {
            self.put_break();
            return at + 1;
        }
        let end = (at + chars::width(text[at])).min(text.len());
        self.out.extend(&text[at..end]);
        self.column = 0;
        self.indention = true;
        end
    }

    /// Goes to the indent, on a new line where something is on this one.
    pub(super) fn write_indent(&mut self) {
        let indent = self.indent.unwrap_or(0);
        if !self.indention || self.column > indent || self.column == indent && !self.whitespace {
            self.put_break();
        }
        // Behind a text that keeps its last breaks, go-yaml's empty line would become part of it.
        if self.foot_indent == Some(indent) && self.open_end != Some(self.out.len()) {
            self.put_break();
        }
        while self.column < indent {
            self.put(b' ');
        }
        self.whitespace = true;
        self.foot_indent = None;
    }

    pub(super) fn write_indicator(
        &mut self,
        indicator: &[u8],
        after_space: bool,
        is_whitespace: bool,
        is_indention: bool,
    ) {
        if after_space && !self.whitespace {
            self.put(b' ');
        }
        for &byte in indicator {
            self.put(byte);
        }
        self.whitespace = is_whitespace;
        self.indention = self.indention && is_indention;
    }
}

//! Removing a recipient from a text, wherever it occurs.

use std::ops::Range;

use super::append::pieces;
use super::splice::{Cut, flow_gaps, gaps, line_end, line_start, next_line};
use crate::store::yaml::outline::{Body, Entry, Item, Node};

/// The search for one recipient in a text.
pub(super) struct Strike<'a> {
    text: &'a str,
    root: &'a Node,
    is: &'a dyn Fn(&str) -> bool,
    cuts: Vec<Cut>,
}

/// The changes that remove every occurrence of a recipient.
pub(super) fn strike(text: &str, root: &Node, is: &dyn Fn(&str) -> bool) -> Vec<Cut> {
    let mut strike = Strike { text, root, is, cuts: Vec::new() };
    strike.node(root, false);
    strike.cuts
}

impl Strike<'_> {
    /// Whether a node is that recipient and nothing else, as an item of a list may be with its name
    /// (`- alice: age1…`). What is inside of it is cut.
    fn node(&mut self, node: &Node, is_item: bool) -> bool {
        match &node.body {
            Body::Scalar(value) => self.scalar(node, value),
            Body::Alias(name) => match self.root.anchored(name).map(|node| &node.body) {
                Some(Body::Scalar(value)) => (self.is)(value),
                _ => false,
            },
            Body::List { flow, items } => {
                let gone: Vec<bool> = items.iter().map(|item| self.node(&item.node, true)).collect();
                self.list(*flow, items, &gone);
                false
            }
            Body::Map { flow, entries } => {
                let gone: Vec<bool> = entries.iter().map(|entry| self.node(&entry.value, false)).collect();
                if is_item && !entries.is_empty() && gone.iter().all(|gone| *gone) {
                    return true;
                }
                self.map(*flow, entries, &gone);
                false
            }
        }
    }

    fn scalar(&mut self, node: &Node, value: &str) -> bool {
        if (self.is)(value) {
            return true;
        }
        if !value.contains(',') {
            return false;
        }
        let pieces = pieces(self.text, node);
        let gone: Vec<bool> = pieces.iter().map(|piece| (self.is)(&self.text[piece.clone()])).collect();
        if gone.iter().all(|gone| *gone) {
            return !gone.is_empty();
        }
        self.cuts.extend(gaps(&pieces, &gone));
        false
    }

    fn list(&mut self, flow: bool, items: &[Item], gone: &[bool]) {
        if flow {
            let spans: Vec<Range<usize>> = items.iter().map(|item| item.node.span.clone()).collect();
            return self.cuts.extend(flow_gaps(self.text, &spans, gone));
        }
        for (index, item) in items.iter().enumerate().filter(|(index, _)| gone[*index]) {
            self.lines(item.at..item.node.span.end, items.get(index + 1).map(|next| next.at));
        }
    }

    fn map(&mut self, flow: bool, entries: &[Entry], gone: &[bool]) {
        let span = |entry: &Entry| entry.key.span.start..entry.value.span.end;
        if flow {
            let spans: Vec<Range<usize>> = entries.iter().map(span).collect();
            return self.cuts.extend(flow_gaps(self.text, &spans, gone));
        }
        for (index, entry) in entries.iter().enumerate().filter(|(index, _)| gone[*index]) {
            self.lines(span(entry), entries.get(index + 1).map(|next| next.key.span.start));
        }
    }

    /// Removes the lines of a block-style node. If its first line also holds something else, the next node moves to
    /// its place.
    fn lines(&mut self, span: Range<usize>, next: Option<usize>) {
        let start = line_start(self.text, span.start);
        let cut = if self.text[start..span.start].trim().is_empty() {
            start..next_line(self.text, span.end)
        } else {
            span.start..next.unwrap_or_else(|| line_end(self.text, span.end))
        };
        self.cuts.push(Cut::out(cut));
    }
}

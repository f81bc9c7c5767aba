//! Adding a recipient to a list, in the style of that list.

use std::ops::Range;

use super::spell::{in_brackets, scalar};
use super::splice::{Cut, apply, line_end, line_start, newline};
use crate::store::yaml::outline::{Body, Node};

/// What to add, as it is written.
pub(super) struct New<'a> {
    /// The recipient itself.
    pub(super) recipient: &'a str,
    /// Its name, and the offset from which an alias can be used.
    pub(super) alias: Option<(&'a str, usize)>,
}

impl New<'_> {
    /// An alias if the position is after its anchor, else the recipient.
    fn at(&self, place: usize) -> String {
        match self.alias {
            Some((name, anchor)) if anchor < place => format!("*{name}"),
            _ => scalar(self.recipient),
        }
    }
}

/// The text with a recipient added to the value of an `age`; `None` if the value's form does not allow that.
pub(super) fn recipient(text: &str, root: &Node, age: &Node, new: &New<'_>) -> Option<String> {
    let target = match &age.body {
        Body::Alias(name) => root.anchored(name)?,
        _ => age,
    };
    match &target.body {
        Body::List { .. } => {
            let spelled = new.at(target.span.end);
            item(text, target, &spelled)
        }
        Body::Scalar(value) if value.is_empty() => {
            let spelled = in_brackets(&new.at(age.span.end));
            Some(apply(text, vec![Cut::into(age.span.end, format!(" [{spelled}]"))]))
        }
        // An anchored value is also used elsewhere: replace it here with a list of it and the new one.
        Body::Scalar(_) if age.anchor.is_some() || target != age => {
            let spelled = in_brackets(&new.at(age.span.end));
            let end = Cut::into(age.span.end, format!(", {spelled}]"));
            Some(apply(text, vec![Cut::into(age.span.start, "["), end]))
        }
        Body::Scalar(_) => with_commas(text, target, new.recipient),
        _ => None,
    }
}

/// The text with an item added to a block-style list.
pub(super) fn item(text: &str, list: &Node, spelled: &str) -> Option<String> {
    let Body::List { flow, items } = &list.body else { return None };
    let spans: Vec<Range<usize>> = items.iter().map(|item| item.node.span.clone()).collect();
    if *flow {
        return Some(in_flow(text, list.content, &spans, &in_brackets(spelled)));
    }
    let last = items.last()?;
    // Aligned with the hyphen of the last item, even if that follows another hyphen.
    let column: String = text[line_start(text, last.at)..last.at].chars().map(|_| ' ').collect();
    let gap = &text[last.at + 1..last.node.span.start.max(last.at + 1)];
    let gap = if !gap.is_empty() && gap.trim_matches(' ').is_empty() { gap } else { " " };
    let end = line_end(text, last.node.span.end);
    let new = format!("{}{column}-{gap}{spelled}", newline(text));
    Some(apply(text, vec![Cut::into(end, new)]))
}

/// The text with an entry added between the brackets or braces that open at a position.
pub(super) fn in_flow(text: &str, open: usize, spans: &[Range<usize>], spelled: &str) -> String {
    let Some(last) = spans.last() else {
        return apply(text, vec![Cut::into(open + 1, spelled)]);
    };
    let before = spans.len().checked_sub(2).map_or(open + 1, |index| spans[index].end);
    let own_line = text[before..last.start].contains('\n');
    let tail = &text[last.end..line_end(text, last.end)];
    let code = super::layout::code(tail).trim();
    if !own_line || !["", ","].contains(&code) {
        return apply(text, vec![Cut::into(last.end, format!(", {spelled}"))]);
    }
    // One per line: the comment after the last one stays with it.
    let start = line_start(text, last.start);
    let indent = &text[start..last.start];
    let indent = if indent.trim().is_empty() { indent } else { "" };
    let comma = if code.is_empty() { "" } else { "," };
    let mut cuts =
        vec![Cut::into(last.end + tail.len(), format!("{}{indent}{spelled}{comma}", newline(text)))];
    if code.is_empty() {
        cuts.insert(0, Cut::into(last.end, ","));
    }
    apply(text, cuts)
}

/// The text with a recipient added to a comma-separated string.
fn with_commas(text: &str, node: &Node, recipient: &str) -> Option<String> {
    let pieces = pieces(text, node);
    let last = pieces.last()?;
    let separator =
        pieces.len().checked_sub(2).map_or(",", |index| &text[pieces[index].end..last.start]).to_owned();
    Some(apply(text, vec![Cut::into(last.end, separator + recipient)]))
}

/// The comma-separated pieces of a scalar as it is written, without surrounding space.
pub(super) fn pieces(text: &str, node: &Node) -> Vec<Range<usize>> {
    let spelled = &text[node.content..node.span.end];
    let inside = match spelled.as_bytes().first() {
        Some(b'\'' | b'"') if spelled.len() > 1 => node.content + 1..node.span.end - 1,
        Some(b'|' | b'>') => {
            let header = spelled.find('\n').map_or(spelled.len(), |length| length + 1);
            node.content + header..node.span.end
        }
        _ => node.content..node.span.end,
    };
    let mut at = inside.start;
    let mut pieces = Vec::new();
    for piece in text[inside].split(',') {
        let start = at + piece.len() - piece.trim_start().len();
        let length = piece.trim().len();
        if length > 0 {
            pieces.push(start..start + length);
        }
        at += piece.len() + 1;
    }
    pieces
}

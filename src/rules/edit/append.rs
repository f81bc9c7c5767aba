//! Adding a recipient to a list, in the style of that list.

use std::ops::Range;

use super::spell::{in_brackets, scalar};
use super::splice::{Cut, apply, line_end, line_start, newline};
use crate::store::yaml::outline::{Body, Node};

/// What is added, as it is spelled.
pub(super) struct New<'a> {
    /// The recipient itself.
    pub(super) recipient: &'a str,
    /// The name that it may go by, and from where on.
    pub(super) alias: Option<(&'a str, usize)>,
}

impl New<'_> {
    /// An alias where it stands behind its anchor, else the recipient.
    fn at(&self, place: usize) -> String {
        match self.alias {
            Some((name, anchor)) if anchor < place => format!("*{name}"),
            _ => scalar(self.recipient),
        }
    }
}

/// The text with one more recipient in the value of an `age`; `None` where that has a form that cannot take one.
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
        // What has a name is meant elsewhere, too: a list of it and the new one says so here only.
        Body::Scalar(_) if age.anchor.is_some() || target != age => {
            let spelled = in_brackets(&new.at(age.span.end));
            let end = Cut::into(age.span.end, format!(", {spelled}]"));
            Some(apply(text, vec![Cut::into(age.span.start, "["), end]))
        }
        Body::Scalar(_) => with_commas(text, target, new.recipient),
        _ => None,
    }
}

/// The text with one more item in a list: spelled for a list in block form.
pub(super) fn item(text: &str, list: &Node, spelled: &str) -> Option<String> {
    let Body::List { flow, items } = &list.body else { return None };
    let spans: Vec<Range<usize>> = items.iter().map(|item| item.node.span.clone()).collect();
    if *flow {
        return Some(in_flow(text, list.content, &spans, &in_brackets(spelled)));
    }
    let last = items.last()?;
    // Under the hyphen of the last item, even where that stands behind another.
    let column: String = text[line_start(text, last.at)..last.at].chars().map(|_| ' ').collect();
    let gap = &text[last.at + 1..last.node.span.start.max(last.at + 1)];
    let gap = if !gap.is_empty() && gap.trim_matches(' ').is_empty() { gap } else { " " };
    let end = line_end(text, last.node.span.end);
    let new = format!("{}{column}-{gap}{spelled}", newline(text));
    Some(apply(text, vec![Cut::into(end, new)]))
}

/// The text with one more entry between the brackets or braces that open at a place.
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
    // One on each line: the comment behind the last one stays with it.
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

/// The text with one more recipient in a text with commas.
fn with_commas(text: &str, node: &Node, recipient: &str) -> Option<String> {
    let pieces = pieces(text, node);
    let last = pieces.last()?;
    let separator =
        pieces.len().checked_sub(2).map_or(",", |index| &text[pieces[index].end..last.start]).to_owned();
    Some(apply(text, vec![Cut::into(last.end, separator + recipient)]))
}

/// The pieces between the commas of a scalar as it is spelled, without the space around them.
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

//! Large texts in pieces, which all processors read at once.
//!
//! A piece begins with a top-level key and ends before another. What the pieces read as, one behind the other, is what the
//! whole text reads as, because nothing that a scanner or a parser knows at such a place depends on what it has seen before:
//!
//! - a line that begins with a letter, a digit or `_` ends every plain and every block scalar inside of a top-level key;
//!   a quoted scalar, a flow collection or a key without its `:` that goes on in the next piece is an error in its own;
//! - each piece is a mapping in column 0, so that the next one's keys belong to the same mapping;
//! - no comment and no empty line is at the place, and none before it still has no node: which one a comment belongs to
//!   depends on what is around it;
//! - there are no lines of `---` or `...`, no directives and no anchors, which hold beyond a piece.
//!
//! What cannot be divided like this, or is in any way wrong, is read as a whole, which also says what is wrong. Keys that
//! are there twice are the one thing that no piece sees: whoever reads pieces looks for them.

use std::collections::HashSet;

use super::check;
use super::node::{Content, Document, Id};
use super::parser::Parser;
use super::resolve;
use crate::sops::tree::Key;

/// Bytes of a piece at least.
pub(super) const PIECE: usize = 1 << 17;

/// A part of a text: some entries of its only mapping.
pub(super) struct Piece<'a> {
    text: &'a [u8],
    /// Its first line, from 0.
    line: usize,
    /// How many entries it seems to have; a key may begin in another way than is looked for.
    pub(super) entries: usize,
    first: bool,
    last: bool,
}

/// Divides a text into pieces of at least so many bytes; `None` where there would be one. So there is while many files are
/// worked on at once: there is enough to do, and a thread that waits could take on another file meanwhile.
pub(super) fn divide(text: &[u8], least: usize) -> Option<Vec<Piece<'_>>> {
    // Other line breaks than LF could hide a line of `---`.
    if rayon::current_thread_index().is_some()
        || text.len() < 2 * least
        || memchr::memchr(b'\r', text).is_some()
        || has_wide_break(text)
    {
        return None;
    }
    let mut pieces = Vec::with_capacity(text.len() / least + 1);
    let (mut start, mut first_line, mut entries) = (0, 0, 0);
    let mut began = false;
    let mut before: &[u8] = &[];
    let mut at = 0;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let byte = line[0];
        if byte == b'%' || line.starts_with(b"---") || line.starts_with(b"...") {
            return None;
        }
        let word = byte.is_ascii_alphanumeric() || byte == b'_';
        if !began && !matches!(byte, b'#' | b'\n') {
            if !word {
                return None;
            }
            began = true;
        }
        if word && entries > 0 && at - start >= least && ends_alone(before) {
            let first = pieces.is_empty();
            pieces.push(Piece { text: &text[start..at], line: first_line, entries, first, last: false });
            (start, first_line, entries) = (at, number, 0);
        }
        entries += usize::from(begins_an_entry(byte));
        before = line;
        at += line.len();
    }
    let first = pieces.is_empty();
    pieces.push(Piece { text: &text[start..], line: first_line, entries, first, last: true });
    (!first).then_some(pieces)
}

/// Whether a line is neither empty nor holds a comment.
fn ends_alone(line: &[u8]) -> bool {
    !line.trim_ascii().is_empty() && memchr::memchr(b'#', line).is_none()
}

fn begins_an_entry(byte: u8) -> bool {
    !matches!(byte, b' ' | b'\t' | b'\n' | b'#' | b'-' | b':')
}

/// NEL, U+2028 and U+2029.
fn has_wide_break(text: &[u8]) -> bool {
    let nel = memchr::memmem::find(text, b"\xC2\x85");
    nel.or_else(|| memchr::memmem::find(text, b"\xE2\x80\xA8"))
        .or_else(|| memchr::memmem::find(text, b"\xE2\x80\xA9"))
        .is_some()
}

impl<'a> Piece<'a> {
    /// Reads the piece and checks that it is one that can be put behind the one before. `None` where it is not.
    pub(super) fn read(&self) -> Option<(Parser<'a>, Document)> {
        let mut parser = Parser::at_line(self.text, self.line);
        let document = parser.next_document().ok()??;
        if parser.next_document().ok()?.is_some() || parser.has_anchors() {
            return None;
        }
        let root = parser.nodes.get(document.root);
        let comments = &root.comments;
        let head = [&*document.head, comments.head(), comments.line()];
        let foot = [&*document.foot, comments.foot()];
        if !self.first && head.iter().any(|text| !text.is_empty())
            || !self.last && foot.iter().any(|text| !text.is_empty())
        {
            return None;
        }
        if !self.last && (parser.has_dropped() || !comments.line().is_empty()) {
            return None;
        }
        check::first_document(&parser.nodes, document.root).ok()?;
        // Keys of other types could be the same text as a string: two of them are looked for in the whole.
        let keys = entries(&parser, document.root)?.iter().step_by(2);
        for key in keys {
            match &parser.nodes.get(*key).content {
                Content::Scalar { text, tag } if resolve::is_text(text, *tag) => {}
                _ => return None,
            }
        }
        Some((parser, document))
    }
}

/// The keys and values of a document, in turn.
pub(super) fn entries<'n>(parser: &'n Parser<'_>, root: Id) -> Option<&'n [Id]> {
    match &parser.nodes.get(root).content {
        Content::Mapping(children) => Some(children),
        _ => None,
    }
}

/// Whether all keys are strings, and none is there twice.
pub(super) fn are_distinct<'k>(mut keys: impl Iterator<Item = &'k Key>) -> bool {
    let mut seen = HashSet::with_capacity(keys.size_hint().0);
    keys.all(|key| matches!(key, Key::Str(text) if seen.insert(text.as_bytes())))
}

//! Changing a text at byte offsets.

use std::ops::Range;

/// A range of bytes and its replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    range: Range<usize>,
    text: String,
}

impl Cut {
    /// Removes bytes.
    pub(super) fn out(range: Range<usize>) -> Self {
        Self { range, text: String::new() }
    }

    /// Inserts a text.
    pub(super) fn into(at: usize, text: impl Into<String>) -> Self {
        Self { range: at..at, text: text.into() }
    }
}

/// The text with all changes applied. Changes that remove the same bytes count once.
pub(super) fn apply(text: &str, mut cuts: Vec<Cut>) -> String {
    cuts.sort_by_key(|cut| (cut.range.start, cut.range.end));
    let (mut out, mut at) = (String::with_capacity(text.len() + 256), 0);
    for Cut { range, text: new } in cuts {
        out.push_str(text.get(at..range.start).unwrap_or_default());
        out.push_str(&new);
        at = at.max(range.end);
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

/// Where the line of a place starts.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Where the line of a place ends, before its break.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
    if text[..end].ends_with('\r') && end > at { end - 1 } else { end }
}

/// The position after the line break of a position's line.
pub(super) fn next_line(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |length| at + length + 1)
}

/// The text's line ending.
pub(super) fn newline(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// The bytes that go with those of some pieces of a list that are gone: each up to the next one, the last ones
/// from the one before.
pub(super) fn gaps(pieces: &[Range<usize>], gone: &[bool]) -> Vec<Cut> {
    let last_kept = gone.iter().rposition(|gone| !gone);
    let mut cuts = Vec::new();
    for (index, piece) in pieces.iter().enumerate().filter(|(index, _)| gone[*index]) {
        let cut = match (pieces.get(index + 1), last_kept) {
            (Some(next), Some(last)) if index < last => piece.start..next.start,
            (_, Some(last)) => pieces[last].end..piece.end,
            (Some(next), None) => piece.start..next.start,
            (None, None) => piece.clone(),
        };
        cuts.push(Cut::out(cut));
    }
    cuts
}

/// The same for what is between brackets or braces: where each of the pieces has its line for itself the
/// whole line goes, so that the comments of the others stay.
pub(super) fn flow_gaps(text: &str, pieces: &[Range<usize>], gone: &[bool]) -> Vec<Cut> {
    let lines: Option<Vec<(Cut, bool)>> = pieces
        .iter()
        .zip(gone)
        .filter(|(_, gone)| **gone)
        .map(|(piece, _)| {
            let start = line_start(text, piece.start);
            let behind = super::layout::code(&text[piece.end..line_end(text, piece.end)]).trim();
            let alone = text[start..piece.start].trim().is_empty() && ["", ","].contains(&behind);
            alone.then(|| (Cut::out(start..next_line(text, piece.end)), behind.is_empty()))
        })
        .collect();
    let Some(lines) = lines else { return gaps(pieces, gone) };
    // If the last one had no comma after it, the new last one gets none either.
    let without_comma = lines.iter().any(|(_, bare)| *bare);
    let last = gone.iter().rposition(|gone| !gone).map(|index| pieces[index].end);
    let comma =
        last.filter(|at| without_comma && text[*at..].starts_with(',')).map(|at| Cut::out(at..at + 1));
    lines.into_iter().map(|(cut, _)| cut).chain(comma).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_go_with_their_separators() {
        let text = "[a, b,  c ,d]";
        let pieces = [1..2, 4..5, 8..9, 11..12];
        for (gone, left) in [
            ([true, false, false, false], "[b,  c ,d]"),
            ([false, true, false, false], "[a, c ,d]"),
            ([false, false, false, true], "[a, b,  c]"),
            ([false, false, true, true], "[a, b]"),
            ([true, true, false, true], "[c]"),
            ([true, false, true, false], "[b,  d]"),
            ([true, true, true, true], "[]"),
        ] {
            assert_eq!(apply(text, gaps(&pieces, &gone)), left);
        }
    }

    #[test]
    fn changes_are_made_at_their_places_whatever_their_order() {
        let cuts = vec![Cut::into(3, "!"), Cut::out(0..1), Cut::out(0..2)];
        assert_eq!(apply("abc", cuts), "c!");
    }

    #[test]
    fn lines_have_two_kinds_of_ends() {
        let text = "ab\r\ncd\n\nef";
        assert_eq!((line_start(text, 1), line_end(text, 0), next_line(text, 1)), (0, 2, 4));
        assert_eq!((line_start(text, 5), line_end(text, 5), next_line(text, 5)), (4, 6, 7));
        assert_eq!((line_end(text, 7), line_end(text, 9), next_line(text, 9)), (7, 10, 10));
    }
}

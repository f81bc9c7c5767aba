//! A position in the text, counted in bytes, characters, lines and columns at once.

use super::chars;
use super::span::Span;

/// A position in the text. The index counts characters, CR LF as two; line and column are from 0.
#[derive(Clone, Copy, Default)]
pub(super) struct Mark {
    pub(super) index: i64,
    pub(super) line: i64,
    pub(super) column: i64,
}

/// The reading position.
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    position: usize,
    pub(super) mark: Mark,
    /// Breaks since the last character that was not blank.
    pub(super) newlines: i64,
}

impl<'a> Cursor<'a> {
    /// At the beginning of a text, which is this line of a file.
    pub(super) fn new(text: &'a [u8], line: usize) -> Self {
        let line = i64::try_from(line).unwrap_or_default();
        Self { text, position: 0, mark: Mark { line, ..Mark::default() }, newlines: 0 }
    }

    /// The byte so many bytes ahead; zero past the end.
    pub(super) fn at(&self, ahead: usize) -> u8 {
        chars::byte(self.text, self.position + ahead)
    }

    pub(super) fn is_end(&self) -> bool {
        self.position >= self.text.len()
    }

    pub(super) fn is_blank(&self, ahead: usize) -> bool {
        chars::is_blank(self.at(ahead))
    }

    pub(super) fn is_break(&self, ahead: usize) -> bool {
        chars::is_break(self.text, self.position + ahead)
    }

    pub(super) fn is_break_or_end(&self, ahead: usize) -> bool {
        chars::is_break_or_end(self.text, self.position + ahead)
    }

    pub(super) fn is_white_or_end(&self, ahead: usize) -> bool {
        chars::is_white_or_end(self.text, self.position + ahead)
    }

    /// Whether `---` or `...` follows, as the first word of a line.
    pub(super) fn is_document_indicator(&self) -> bool {
        self.mark.column == 0 && (self.is_indicator(b'-') || self.is_indicator(b'.'))
    }

    /// Whether the character follows three times, and then white space.
    pub(super) fn is_indicator(&self, byte: u8) -> bool {
        self.at(0) == byte && self.at(1) == byte && self.at(2) == byte && self.is_white_or_end(3)
    }

    /// Steps over a character that is not a line break.
    pub(super) fn skip(&mut self) {
        if !self.is_blank(0) {
            self.newlines = 0;
        }
        self.step(chars::width(self.at(0)));
    }

    /// Takes a character that is not a line break.
    pub(super) fn read(&mut self, into: &mut Span<'a>) {
        if !self.is_blank(0) {
            self.newlines = 0;
        }
        let width = chars::width(self.at(0));
        into.append(self.text, self.position, (self.position + width).min(self.text.len()));
        self.step(width);
    }

    /// Takes a run of characters that mean nothing but themselves; most of a file is such runs.
    pub(super) fn read_words(&mut self, into: &mut Span<'a>) {
        let rest = self.text.get(self.position..).unwrap_or_default();
        let length = chars::inner_run(rest);
        if length > 0 {
            into.append(self.text, self.position, self.position + length);
            self.newlines = 0;
            self.position += length;
            let characters = i64::try_from(length).unwrap_or(i64::MAX);
            self.mark.index += characters;
            self.mark.column += characters;
        }
    }

    /// Takes so many blanks that were stepped over last.
    pub(super) fn read_blanks(&self, blanks: usize, into: &mut Span<'a>) {
        if blanks > 0 {
            into.append(self.text, self.position - blanks, self.position);
        }
    }

    /// Steps over a line break, if one follows.
    pub(super) fn skip_line(&mut self) {
        if !self.is_break(0) {
            return;
        }
        let crlf = self.at(0) == b'\r' && self.at(1) == b'\n';
        self.mark.index += 1 + i64::from(crlf);
        self.position += if crlf { 2 } else { chars::width(self.at(0)) };
        self.mark.column = 0;
        self.mark.line += 1;
        self.newlines += 1;
    }

    /// Takes a line break, if one follows: CR, LF, CR LF and NEL become LF, the others are kept.
    pub(super) fn read_line(&mut self, into: &mut Span<'a>) {
        if !self.is_break(0) {
            return;
        }
        if self.at(0) == 0xE2 {
            into.extend(&self.text[self.position..self.position + 3]);
        } else {
            into.push(b'\n');
        }
        self.skip_line();
    }

    fn step(&mut self, width: usize) {
        self.position += width;
        self.mark.index += 1;
        self.mark.column += 1;
    }
}

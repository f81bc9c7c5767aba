//! Plain scalars, and the folding of breaks that they share with quoted ones.

use super::{Scanner, error_at};
use crate::store::Error;
use crate::store::yaml::cursor::Cursor;
use crate::store::yaml::span::Span;
use crate::store::yaml::token::{Kind, Token};

/// White space between two words of a scalar, until it is known what it comes to.
#[derive(Default)]
pub(super) struct Gap<'a> {
    /// How many blanks, as long as no break was seen.
    blanks: usize,
    first_break: Span<'a>,
    more_breaks: Span<'a>,
    /// Whether a break was seen.
    pub(super) broken: bool,
}

impl<'a> Gap<'a> {
    /// Takes the next blank or line break.
    pub(super) fn take(&mut self, cursor: &mut Cursor<'a>) {
        if cursor.is_blank(0) {
            cursor.skip();
            self.blanks += usize::from(!self.broken);
        } else if self.broken {
            cursor.read_line(&mut self.more_breaks);
        } else {
            self.blanks = 0;
            cursor.read_line(&mut self.first_break);
            self.broken = true;
        }
    }

    /// Writes what the white space means that ends here: itself without a break, a space for one break, the
    /// others for several. LS and PS are never folded.
    pub(super) fn flush(&mut self, cursor: &Cursor<'a>, into: &mut Span<'a>) {
        if !self.broken {
            cursor.read_blanks(std::mem::take(&mut self.blanks), into);
            return;
        }
        if self.first_break.first() == Some(&b'\n') {
            if self.more_breaks.is_empty() {
                into.push(b' ');
            }
        } else {
            into.extend(&self.first_break);
        }
        into.extend(&self.more_breaks);
        *self = Self::default();
    }
}

impl<'a> Scanner<'a> {
    pub(super) fn scan_plain(&mut self) -> Result<Token<'a>, Error> {
        let mut token = Token::new(Kind::Scalar, self.cursor.mark);
        token.plain = true;
        let indent = self.indent + 1;
        let flow = self.flow_level > 0;
        let mut gap = Gap::default();
        loop {
            if self.cursor.is_document_indicator() || self.cursor.at(0) == b'#' {
                break;
            }
            while !self.cursor.is_white_or_end(0) {
                let byte = self.cursor.at(0);
                if byte == b':' && self.cursor.is_white_or_end(1)
                    || flow && matches!(byte, b',' | b'?' | b'[' | b']' | b'{' | b'}')
                {
                    break;
                }
                gap.flush(&self.cursor, &mut token.value);
                self.cursor.read(&mut token.value);
                self.cursor.read_words(&mut token.value);
            }
            if !(self.cursor.is_blank(0) || self.cursor.is_break(0)) {
                break;
            }
            while self.cursor.is_blank(0) || self.cursor.is_break(0) {
                if gap.broken && self.cursor.at(0) == b'\t' && self.cursor.mark.column < indent {
                    return Err(error_at(self.cursor.mark, "a tab in the indentation of a plain value"));
                }
                gap.take(&mut self.cursor);
            }
            if !flow && self.cursor.mark.column < indent {
                break;
            }
        }
        if gap.broken {
            self.key_allowed = true;
        }
        Ok(token)
    }
}

//! Literal and folded scalars.

use super::{Scanner, error_at};
use crate::store::Error;
use crate::store::yaml::cursor::Mark;
use crate::store::yaml::span::Span;
use crate::store::yaml::token::{Kind, Token};

/// What becomes of the breaks at the end of a block scalar.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chomping {
    Strip,
    Clip,
    Keep,
}

impl<'a> Scanner<'a> {
    pub(super) fn scan_block_scalar(&mut self, literal: bool) -> Result<Token<'a>, Error> {
        let mut token = Token::new(Kind::Scalar, self.cursor.mark);
        let start = token.start;
        self.cursor.skip();
        let (chomping, increment) = self.scan_block_header(start)?;
        // Column 0 stands for: not known yet.
        let mut indent = if increment > 0 { self.indent.max(0) + increment } else { 0 };
        let value = &mut token.value;
        let mut last_break = Span::default();
        let mut breaks = Span::default();
        self.scan_block_breaks(&mut indent, &mut breaks, start)?;
        let mut after_blank = false;
        while self.cursor.mark.column == indent && !self.cursor.is_end() {
            let blank = self.cursor.is_blank(0);
            let folds = !literal && !after_blank && !blank && last_break.first() == Some(&b'\n');
            if !folds {
                value.extend(&last_break);
            } else if breaks.is_empty() {
                value.push(b' ');
            }
            last_break = Span::default();
            value.extend(&breaks);
            breaks = Span::default();
            after_blank = blank;
            while !self.cursor.is_break_or_end(0) {
                self.cursor.read(value);
                self.cursor.read_words(value);
            }
            self.cursor.read_line(&mut last_break);
            self.scan_block_breaks(&mut indent, &mut breaks, start)?;
        }
        if chomping != Chomping::Strip {
            value.extend(&last_break);
        }
        if chomping == Chomping::Keep {
            value.extend(&breaks);
        }
        Ok(token)
    }

    /// The rest of the first line: chomping and indentation indicators in either order, a comment.
    fn scan_block_header(&mut self, start: Mark) -> Result<(Chomping, i64), Error> {
        let mut chomping = self.scan_chomping();
        let mut increment = 0;
        let digit = self.cursor.at(0);
        if digit.is_ascii_digit() {
            if digit == b'0' {
                return Err(error_at(start, "a block value with an indentation of 0"));
            }
            increment = i64::from(digit - b'0');
            self.cursor.skip();
            if chomping.is_none() {
                chomping = self.scan_chomping();
            }
        }
        while self.cursor.is_blank(0) {
            self.cursor.skip();
        }
        if self.cursor.at(0) == b'#' {
            self.scan_line_comment(start);
            while !self.cursor.is_break_or_end(0) {
                self.cursor.skip();
            }
        }
        if !self.cursor.is_break_or_end(0) {
            return Err(error_at(start, "text after '|' or '>' on the same line"));
        }
        self.cursor.skip_line();
        Ok((chomping.unwrap_or(Chomping::Clip), increment))
    }

    fn scan_chomping(&mut self) -> Option<Chomping> {
        let chomping = match self.cursor.at(0) {
            b'+' => Chomping::Keep,
            b'-' => Chomping::Strip,
            _ => return None,
        };
        self.cursor.skip();
        Some(chomping)
    }

    /// Indentation and empty lines; settles the indent where the header did not.
    fn scan_block_breaks(
        &mut self,
        indent: &mut i64,
        breaks: &mut Span<'a>,
        start: Mark,
    ) -> Result<(), Error> {
        let mut deepest = 0;
        loop {
            while (*indent == 0 || self.cursor.mark.column < *indent) && self.cursor.at(0) == b' ' {
                self.cursor.skip();
            }
            deepest = deepest.max(self.cursor.mark.column);
            if (*indent == 0 || self.cursor.mark.column < *indent) && self.cursor.at(0) == b'\t' {
                return Err(error_at(start, "a block value with a tab in its indentation"));
            }
            if !self.cursor.is_break(0) {
                break;
            }
            self.cursor.read_line(breaks);
        }
        if *indent == 0 {
            *indent = deepest.max(self.indent + 1).max(1);
        }
        Ok(())
    }
}

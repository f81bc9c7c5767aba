//! Scalars in single and double quotes.

use super::plain::Gap;
use super::{Scanner, error_at};
use crate::store::Error;
use crate::store::yaml::cursor::Mark;
use crate::store::yaml::span::Span;
use crate::store::yaml::token::{Kind, Token};

impl<'a> Scanner<'a> {
    pub(super) fn scan_quoted(&mut self, single: bool) -> Result<Token<'a>, Error> {
        let mut token = Token::new(Kind::Scalar, self.cursor.mark);
        let quote = if single { b'\'' } else { b'"' };
        self.cursor.skip();
        loop {
            if self.cursor.is_document_indicator() {
                return Err(error_at(token.start, "a quoted value that is interrupted by '---' or '...'"));
            }
            if self.cursor.is_end() {
                return Err(error_at(token.start, "a quoted value without a closing quote"));
            }
            // Blanks after an escaped break are not part of the value, and neither are those before it.
            let mut gap = Gap::default();
            while !self.cursor.is_white_or_end(0) {
                match self.cursor.at(0) {
                    b'\'' if single && self.cursor.at(1) == b'\'' => {
                        token.value.push(b'\'');
                        self.cursor.skip();
                        self.cursor.skip();
                    }
                    byte if byte == quote => break,
                    b'\\' if !single && self.cursor.is_break(1) => {
                        self.cursor.skip();
                        self.cursor.skip_line();
                        gap.broken = true;
                        break;
                    }
                    b'\\' if !single => self.scan_escape(token.start, &mut token.value)?,
                    _ => {
                        self.cursor.read(&mut token.value);
                        self.cursor.read_words(&mut token.value);
                    }
                }
            }
            if self.cursor.at(0) == quote {
                break;
            }
            while self.cursor.is_blank(0) || self.cursor.is_break(0) {
                gap.take(&mut self.cursor);
            }
            gap.flush(&self.cursor, &mut token.value);
        }
        self.cursor.skip();
        Ok(token)
    }

    fn scan_escape(&mut self, start: Mark, into: &mut Span<'a>) -> Result<(), Error> {
        let digits = match self.cursor.at(1) {
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            letter => {
                let character = match letter {
                    b'0' => '\0',
                    b'a' => '\x07',
                    b'b' => '\x08',
                    b't' | b'\t' => '\t',
                    b'n' => '\n',
                    b'v' => '\x0B',
                    b'f' => '\x0C',
                    b'r' => '\r',
                    b'e' => '\x1B',
                    b' ' | b'"' | b'\'' | b'\\' => char::from(letter),
                    b'N' => '\u{85}',
                    b'_' => '\u{A0}',
                    b'L' => '\u{2028}',
                    b'P' => '\u{2029}',
                    _ => return Err(error_at(self.cursor.mark, "an unknown escape in double quotes")),
                };
                into.push_char(character);
                self.cursor.skip();
                self.cursor.skip();
                return Ok(());
            }
        };
        self.cursor.skip();
        self.cursor.skip();
        let mut code = 0_u32;
        for _ in 0..digits {
            let Some(digit) = char::from(self.cursor.at(0)).to_digit(16) else {
                return Err(error_at(start, "an escape in double quotes with too few hexadecimal digits"));
            };
            // Eight digits are 32 bits: nothing is shifted out.
            code = code << 4 | digit;
            self.cursor.skip();
        }
        match char::from_u32(code) {
            Some(character) => into.push_char(character),
            None => return Err(error_at(start, "an escape in double quotes that is not a valid character")),
        }
        Ok(())
    }
}

//! Directives, anchors, aliases and tags.

use super::{Scanner, error_at};
use crate::store::Error;
use crate::store::yaml::chars;
use crate::store::yaml::cursor::Mark;
use crate::store::yaml::span::Span;
use crate::store::yaml::token::{Kind, Token};

impl<'a> Scanner<'a> {
    /// `%YAML 1.1` or `%TAG !handle! prefix`, with the rest of the line.
    pub(super) fn scan_directive(&mut self) -> Result<Token<'a>, Error> {
        let start = self.cursor.mark;
        self.cursor.skip();
        let mut name = Span::default();
        self.read_word(&mut name);
        if !self.cursor.is_white_or_end(0) {
            return Err(error_at(start, "a directive without a valid name"));
        }
        let token = match &*name {
            b"YAML" => self.scan_version(start)?,
            b"TAG" => self.scan_tag_directive(start)?,
            _ => return Err(error_at(start, "an unknown directive")),
        };
        self.skip_blanks();
        if self.cursor.at(0) == b'#' {
            while !self.cursor.is_break_or_end(0) {
                self.cursor.skip();
            }
        }
        if !self.cursor.is_break_or_end(0) {
            return Err(error_at(start, "text after a directive"));
        }
        self.cursor.skip_line();
        Ok(token)
    }

    fn scan_version(&mut self, start: Mark) -> Result<Token<'a>, Error> {
        self.skip_blanks();
        let mut token = Token::new(Kind::VersionDirective, start);
        let major = self.scan_version_number(start)?;
        if self.cursor.at(0) != b'.' {
            return Err(error_at(start, "a %YAML directive without a version like 1.1"));
        }
        self.cursor.skip();
        let minor = self.scan_version_number(start)?;
        token.value.extend(&[major, minor]);
        Ok(token)
    }

    /// One or two digits.
    fn scan_version_number(&mut self, start: Mark) -> Result<u8, Error> {
        let mut number = 0;
        let mut length = 0;
        while self.cursor.at(0).is_ascii_digit() && length <= 2 {
            number = number % 10 * 10 + (self.cursor.at(0) - b'0');
            length += 1;
            self.cursor.skip();
        }
        if length == 0 || length > 2 {
            return Err(error_at(start, "a %YAML directive without a version like 1.1"));
        }
        Ok(number)
    }

    fn scan_tag_directive(&mut self, start: Mark) -> Result<Token<'a>, Error> {
        const MESSAGE: &str = "a %TAG directive that is not '%TAG !handle! prefix'";
        let mut token = Token::new(Kind::TagDirective, start);
        self.skip_blanks();
        self.scan_tag_handle(start, &mut token.value)?;
        let is_handle = *token.value == *b"!" || token.value.len() > 1 && token.value.ends_with(b"!");
        if !is_handle || !self.cursor.is_blank(0) {
            return Err(error_at(start, MESSAGE));
        }
        self.skip_blanks();
        if !self.scan_tag_uri(start, &mut token.suffix)? || !self.cursor.is_white_or_end(0) {
            return Err(error_at(start, MESSAGE));
        }
        Ok(token)
    }

    pub(super) fn scan_anchor(&mut self, kind: Kind) -> Result<Token<'a>, Error> {
        let mut token = Token::new(kind, self.cursor.mark);
        self.cursor.skip();
        self.read_word(&mut token.value);
        let ends = self.cursor.is_white_or_end(0)
            || matches!(self.cursor.at(0), b'?' | b':' | b',' | b']' | b'}' | b'%' | b'@' | b'`');
        if token.value.is_empty() || !ends {
            return Err(error_at(token.start, "'&' or '*' without a name of letters, digits, '_' and '-'"));
        }
        Ok(token)
    }

    /// `!<uri>`, `!suffix`, `!handle!suffix` or a lone `!`; the last has an empty handle.
    pub(super) fn scan_tag(&mut self) -> Result<Token<'a>, Error> {
        let mut token = Token::new(Kind::Tag, self.cursor.mark);
        let start = token.start;
        if self.cursor.at(1) == b'<' {
            self.cursor.skip();
            self.cursor.skip();
            if !self.scan_tag_uri(start, &mut token.suffix)? || self.cursor.at(0) != b'>' {
                return Err(error_at(start, "a tag that begins with '!<' but has no '>'"));
            }
            self.cursor.skip();
        } else {
            let mut handle = Span::default();
            self.scan_tag_handle(start, &mut handle)?;
            if handle.len() > 1 && handle.ends_with(b"!") {
                if !self.scan_tag_uri(start, &mut token.suffix)? {
                    return Err(error_at(start, "a tag without a name after its handle"));
                }
                token.value = handle;
            } else {
                // It was the beginning of a name, not a handle.
                token.suffix.extend(&handle[1..]);
                self.scan_tag_uri(start, &mut token.suffix)?;
                if token.suffix.is_empty() {
                    token.suffix.push(b'!');
                } else {
                    token.value.push(b'!');
                }
            }
        }
        if !self.cursor.is_white_or_end(0) {
            return Err(error_at(start, "a tag without white space after it"));
        }
        Ok(token)
    }

    /// `!`, letters, and `!` if one follows.
    fn scan_tag_handle(&mut self, start: Mark, into: &mut Span<'a>) -> Result<(), Error> {
        if self.cursor.at(0) != b'!' {
            return Err(error_at(start, "a tag handle that does not begin with '!'"));
        }
        self.cursor.read(into);
        self.read_word(into);
        if self.cursor.at(0) == b'!' {
            self.cursor.read(into);
        }
        Ok(())
    }

    /// Characters of a URI, with `%` escapes decoded. Tells whether there were any.
    fn scan_tag_uri(&mut self, start: Mark, into: &mut Span<'a>) -> Result<bool, Error> {
        let mut any = false;
        loop {
            match self.cursor.at(0) {
                b'%' => self.scan_uri_escapes(start, into)?,
                byte if chars::is_word(byte) || b";/?:@&=+$,.!~*'()[]".contains(&byte) => {
                    self.cursor.read(into);
                }
                _ => return Ok(any),
            }
            any = true;
        }
    }

    /// The escaped bytes of one character.
    fn scan_uri_escapes(&mut self, start: Mark, into: &mut Span<'a>) -> Result<(), Error> {
        let mut left = None;
        while left != Some(0) {
            let digits = [self.cursor.at(1), self.cursor.at(2)].map(|byte| char::from(byte).to_digit(16));
            let octet = match digits {
                [Some(high), Some(low)] if self.cursor.at(0) == b'%' => u8::try_from(high << 4 | low).ok(),
                _ => None,
            };
            let valid = octet.filter(|&octet| match left {
                None => octet < 0x80 || (0xC0..0xF8).contains(&octet),
                Some(_) => octet & 0xC0 == 0x80,
            });
            let Some(octet) = valid else {
                return Err(error_at(start, "a tag with an invalid '%' escape"));
            };
            left = Some(left.unwrap_or_else(|| chars::width(octet)) - 1);
            into.push(octet);
            for _ in 0..3 {
                self.cursor.skip();
            }
        }
        Ok(())
    }

    fn read_word(&mut self, into: &mut Span<'a>) {
        while chars::is_word(self.cursor.at(0)) {
            self.cursor.read(into);
        }
    }

    fn skip_blanks(&mut self) {
        while self.cursor.is_blank(0) {
            self.cursor.skip();
        }
    }
}

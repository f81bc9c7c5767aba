//! One function for each token of structure.

use super::{Scanner, error_at};
use crate::store::Error;
use crate::store::yaml::token::{Kind, Token};

impl<'a> Scanner<'a> {
    pub(super) fn fetch_stream_end(&mut self) -> Result<(), Error> {
        if self.cursor.mark.column != 0 {
            self.cursor.mark.column = 0;
            self.cursor.mark.line += 1;
        }
        self.unroll_indent(-1, self.cursor.mark);
        self.remove_key()?;
        self.key_allowed = false;
        self.push(Token::new(Kind::StreamEnd, self.cursor.mark));
        Ok(())
    }

    pub(super) fn fetch_directive(&mut self) -> Result<(), Error> {
        self.unroll_indent(-1, self.cursor.mark);
        self.remove_key()?;
        self.key_allowed = false;
        let token = self.scan_directive()?;
        self.push(token);
        Ok(())
    }

    pub(super) fn fetch_document_indicator(&mut self, kind: Kind) -> Result<(), Error> {
        self.unroll_indent(-1, self.cursor.mark);
        self.remove_key()?;
        self.key_allowed = false;
        let token = Token::new(kind, self.cursor.mark);
        for _ in 0..3 {
            self.cursor.skip();
        }
        self.push(token);
        Ok(())
    }

    pub(super) fn fetch_flow_start(&mut self, kind: Kind) -> Result<(), Error> {
        self.save_key()?;
        self.increase_flow_level()?;
        self.key_allowed = true;
        self.fetch_character(kind);
        Ok(())
    }

    pub(super) fn fetch_flow_end(&mut self, kind: Kind) -> Result<(), Error> {
        self.remove_key()?;
        self.decrease_flow_level();
        self.key_allowed = false;
        self.fetch_character(kind);
        Ok(())
    }

    pub(super) fn fetch_flow_entry(&mut self) -> Result<(), Error> {
        self.remove_key()?;
        self.key_allowed = true;
        self.fetch_character(Kind::FlowEntry);
        Ok(())
    }

    /// In flow the parser refuses the `-`.
    pub(super) fn fetch_block_entry(&mut self) -> Result<(), Error> {
        if self.flow_level == 0 {
            self.require_key_allowed("a list item is not allowed here")?;
            self.roll_indent(None, Kind::BlockSequenceStart, self.cursor.mark)?;
        }
        self.remove_key()?;
        self.key_allowed = true;
        self.fetch_character(Kind::BlockEntry);
        Ok(())
    }

    pub(super) fn fetch_key(&mut self) -> Result<(), Error> {
        if self.flow_level == 0 {
            self.require_key_allowed("a key is not allowed here")?;
            self.roll_indent(None, Kind::BlockMappingStart, self.cursor.mark)?;
        }
        self.remove_key()?;
        self.key_allowed = self.flow_level == 0;
        self.fetch_character(Kind::Key);
        Ok(())
    }

    pub(super) fn fetch_value(&mut self) -> Result<(), Error> {
        if let Some((number, mark)) = self.take_key()? {
            self.insert(number, Token::new(Kind::Key, mark));
            self.roll_indent(Some(number), Kind::BlockMappingStart, mark)?;
            self.key_allowed = false;
        } else {
            if self.flow_level == 0 {
                self.require_key_allowed("a mapping is not allowed here")?;
                self.roll_indent(None, Kind::BlockMappingStart, self.cursor.mark)?;
            }
            self.key_allowed = self.flow_level == 0;
        }
        self.fetch_character(Kind::Value);
        Ok(())
    }

    pub(super) fn fetch_anchor(&mut self, kind: Kind) -> Result<(), Error> {
        self.save_key()?;
        self.key_allowed = false;
        let token = self.scan_anchor(kind)?;
        self.push(token);
        Ok(())
    }

    pub(super) fn fetch_tag(&mut self) -> Result<(), Error> {
        self.save_key()?;
        self.key_allowed = false;
        let token = self.scan_tag()?;
        self.push(token);
        Ok(())
    }

    pub(super) fn fetch_block_scalar(&mut self, literal: bool) -> Result<(), Error> {
        self.remove_key()?;
        self.key_allowed = true;
        let token = self.scan_block_scalar(literal)?;
        self.push(token);
        Ok(())
    }

    pub(super) fn fetch_quoted(&mut self, single: bool) -> Result<(), Error> {
        self.save_key()?;
        self.key_allowed = false;
        let token = self.scan_quoted(single)?;
        self.push(token);
        Ok(())
    }

    pub(super) fn fetch_plain(&mut self) -> Result<(), Error> {
        self.save_key()?;
        self.key_allowed = false;
        let token = self.scan_plain()?;
        self.push(token);
        Ok(())
    }

    /// Spaces and tabs, breaks and comments up to the next token. A tab counts as space in flow and
    /// where no key may begin.
    pub(super) fn scan_to_next_token(&mut self) -> Result<(), Error> {
        let scan = self.cursor.mark;
        loop {
            if self.cursor.mark.index == 0 && self.cursor.at(0) == 0xEF && self.is_byte_order_mark() {
                self.cursor.skip();
            }
            while self.cursor.at(0) == b' '
                || self.cursor.at(0) == b'\t' && (self.flow_level > 0 || !self.key_allowed)
            {
                self.cursor.skip();
            }
            self.lift_line_comment();
            if self.cursor.at(0) == b'#' {
                self.scan_comments(scan);
            }
            if !self.cursor.is_break(0) {
                return Ok(());
            }
            self.cursor.skip_line();
            if self.flow_level == 0 {
                self.key_allowed = true;
            }
        }
    }

    fn is_byte_order_mark(&self) -> bool {
        self.cursor.at(1) == 0xBB && self.cursor.at(2) == 0xBF
    }

    fn fetch_character(&mut self, kind: Kind) {
        let token = Token::new(kind, self.cursor.mark);
        self.cursor.skip();
        self.push(token);
    }

    fn require_key_allowed(&self, message: &str) -> Result<(), Error> {
        if self.key_allowed { Ok(()) } else { Err(error_at(self.cursor.mark, message)) }
    }
}

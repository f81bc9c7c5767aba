//! Text to tokens, with the comments kept.
//!
//! Which comment belongs to which token is decided here by the same look-ahead and the same marks
//! as go-yaml uses: sops authenticates an encrypted comment by the collection it is read into.

use std::collections::VecDeque;

use super::cursor::{Cursor, Mark};
use super::token::{Comment, Kind, Token};
use crate::store::Error;

mod block;
mod comments;
mod fetch;
mod plain;
mod quoted;
mod structure;
mod tags;

/// Consumed tokens are forgotten in portions of this size; the last two stay, the comment rules
/// look back at them.
const CONSUMED_TOKENS: usize = 64;

/// The scanner's state.
pub(super) struct Scanner<'a> {
    cursor: Cursor<'a>,
    tokens: Vec<Token<'a>>,
    /// The next token to hand out.
    head: usize,
    /// How many were handed out.
    parsed: usize,
    started: bool,
    pub(super) comments: VecDeque<Comment>,
    flow_level: usize,
    /// The column of the innermost block collection, -1 outside of all.
    indent: i64,
    indents: Vec<i64>,
    /// Whether what comes next may be a key without `?`.
    key_allowed: bool,
    /// The possible key of each flow level.
    keys: Vec<PossibleKey>,
}

/// A place that turns out to be a key when a `:` follows.
#[derive(Clone, Copy, Default)]
struct PossibleKey {
    possible: bool,
    /// Without the `:` the text is wrong.
    required: bool,
    token: usize,
    mark: Mark,
}

impl<'a> Scanner<'a> {
    /// A scanner of a text that begins with this line of a file.
    pub(super) fn new(text: &'a [u8], line: usize) -> Self {
        Self {
            cursor: Cursor::new(text, line),
            tokens: Vec::new(),
            head: 0,
            parsed: 0,
            started: false,
            comments: VecDeque::new(),
            flow_level: 0,
            indent: -1,
            indents: Vec::new(),
            key_allowed: true,
            keys: vec![PossibleKey::default()],
        }
    }

    /// The next token.
    ///
    /// # Errors
    /// Text that is not a token.
    pub(super) fn peek(&mut self) -> Result<&mut Token<'a>, Error> {
        while self.needs_more()? {
            self.fetch_next()?;
        }
        Ok(&mut self.tokens[self.head])
    }

    /// Steps over the token that was peeked at.
    pub(super) fn skip(&mut self) {
        self.parsed += 1;
        self.head += 1;
        if self.head >= CONSUMED_TOKENS {
            self.tokens.drain(..self.head - 2);
            self.head = 2;
        }
    }

    /// Two tokens of look-ahead settle comments; a possible key at the head needs its `:` seen.
    fn needs_more(&mut self) -> Result<bool, Error> {
        if self.head + 2 >= self.tokens.len() {
            return Ok(true);
        }
        match self.keys.iter().position(|key| key.possible && key.token == self.parsed) {
            None => Ok(false),
            Some(level) => self.is_key_valid(level),
        }
    }

    fn fetch_next(&mut self) -> Result<(), Error> {
        if !self.started {
            self.started = true;
            self.push(Token::new(Kind::StreamStart, self.cursor.mark));
            return Ok(());
        }
        let scan = self.cursor.mark;
        self.scan_to_next_token()?;
        self.unroll_indent(self.cursor.mark.column, scan);
        if self.cursor.is_end() {
            return self.fetch_stream_end();
        }
        if self.cursor.mark.column == 0 {
            if self.cursor.at(0) == b'%' {
                return self.fetch_directive();
            }
            if self.cursor.is_indicator(b'-') {
                return self.fetch_document_indicator(Kind::DocumentStart);
            }
            if self.cursor.is_indicator(b'.') {
                return self.fetch_document_indicator(Kind::DocumentEnd);
            }
        }
        let first = self.cursor.at(0);
        let joint = if self.flow_level == 0 { b':' } else { b',' };
        let mark = match self.tokens.last() {
            Some(token) if first == joint => token.start,
            _ => self.cursor.mark,
        };
        self.fetch_content(first)?;
        // A comment after a lone `-` is the head of what follows.
        if self.tokens.last().is_none_or(|token| token.kind != Kind::BlockEntry) {
            self.scan_line_comment(mark);
        }
        Ok(())
    }

    fn fetch_content(&mut self, first: u8) -> Result<(), Error> {
        let flow = self.flow_level > 0;
        let white_follows = self.cursor.is_white_or_end(1);
        match first {
            b'[' => self.fetch_flow_start(Kind::FlowSequenceStart),
            b'{' => self.fetch_flow_start(Kind::FlowMappingStart),
            b']' => self.fetch_flow_end(Kind::FlowSequenceEnd),
            b'}' => self.fetch_flow_end(Kind::FlowMappingEnd),
            b',' => self.fetch_flow_entry(),
            b'-' if white_follows => self.fetch_block_entry(),
            b'?' if flow || white_follows => self.fetch_key(),
            b':' if flow || white_follows => self.fetch_value(),
            b'*' => self.fetch_anchor(Kind::Alias),
            b'&' => self.fetch_anchor(Kind::Anchor),
            b'!' => self.fetch_tag(),
            b'|' if !flow => self.fetch_block_scalar(true),
            b'>' if !flow => self.fetch_block_scalar(false),
            b'\'' => self.fetch_quoted(true),
            b'"' => self.fetch_quoted(false),
            b'|' | b'>' | b'#' | b'%' | b'@' | b'`' => {
                Err(self.error_here("a character that cannot start a value"))
            }
            _ if self.cursor.is_white_or_end(0) => {
                Err(self.error_here("a tab where only spaces are allowed"))
            }
            _ => self.fetch_plain(),
        }
    }

    fn push(&mut self, token: Token<'a>) {
        self.tokens.push(token);
    }

    /// Puts a token before one that has not been handed out, given by its number.
    fn insert(&mut self, number: usize, token: Token<'a>) {
        let at = self.head + number.saturating_sub(self.parsed);
        self.tokens.insert(at.min(self.tokens.len()), token);
    }

    fn error_here(&self, message: &str) -> Error {
        error_at(self.cursor.mark, message)
    }
}

/// A syntax error at a place.
pub(super) fn error_at(mark: Mark, message: &str) -> Error {
    Error::Syntax { line: usize::try_from(mark.line).unwrap_or(0) + 1, message: message.to_owned() }
}

//! Indentation, flow levels and keys without `?`.

use super::{PossibleKey, Scanner, error_at};
use crate::store::Error;
use crate::store::yaml::cursor::Mark;
use crate::store::yaml::limits;
use crate::store::yaml::token::{Kind, Token};

/// A key without `?` ends at the latest this many characters after its start (YAML 1.2, 7.4.2).
const KEY_CHARACTERS: i64 = 1024;

impl<'a> Scanner<'a> {
    /// Whether the possible key of a flow level still is one; it is not on a later line or too far on.
    pub(super) fn is_key_valid(&mut self, level: usize) -> Result<bool, Error> {
        let here = self.cursor.mark;
        let Some(key) = self.keys.get_mut(level).filter(|key| key.possible) else {
            return Ok(false);
        };
        if key.mark.line < here.line || key.mark.index + KEY_CHARACTERS < here.index {
            if key.required {
                return Err(key_without_value(key.mark));
            }
            key.possible = false;
            return Ok(false);
        }
        Ok(true)
    }

    /// Notes that what starts here may become a key.
    pub(super) fn save_key(&mut self) -> Result<(), Error> {
        if !self.key_allowed {
            return Ok(());
        }
        self.remove_key()?;
        let required = self.flow_level == 0 && self.indent == self.cursor.mark.column;
        let token = self.next_number();
        let level = self.keys.len() - 1;
        self.keys[level] = PossibleKey { possible: true, required, token, mark: self.cursor.mark };
        Ok(())
    }

    /// Gives up the possible key of this flow level.
    pub(super) fn remove_key(&mut self) -> Result<(), Error> {
        if let Some(key) = self.keys.last_mut().filter(|key| key.possible) {
            if key.required {
                return Err(key_without_value(key.mark));
            }
            key.possible = false;
        }
        Ok(())
    }

    /// Uses the possible key of this flow level up, if it still is one.
    pub(super) fn take_key(&mut self) -> Result<Option<(usize, Mark)>, Error> {
        let level = self.keys.len() - 1;
        if !self.is_key_valid(level)? {
            return Ok(None);
        }
        let key = &mut self.keys[level];
        key.possible = false;
        Ok(Some((key.token, key.mark)))
    }

    pub(super) fn increase_flow_level(&mut self) -> Result<(), Error> {
        let token = self.next_number();
        self.keys.push(PossibleKey { token, mark: self.cursor.mark, ..PossibleKey::default() });
        self.flow_level += 1;
        self.check_depth(self.flow_level)
    }

    pub(super) fn decrease_flow_level(&mut self) {
        if self.flow_level > 0 {
            self.flow_level -= 1;
            self.keys.pop();
        }
    }

    /// Opens a block collection where the column is deeper than the one around it. Its start goes
    /// before the token of that number, or to the end.
    pub(super) fn roll_indent(&mut self, number: Option<usize>, kind: Kind, mark: Mark) -> Result<(), Error> {
        if self.flow_level > 0 || self.indent >= mark.column {
            return Ok(());
        }
        self.indents.push(self.indent);
        self.indent = mark.column;
        self.check_depth(self.indents.len())?;
        let token = Token::new(kind, mark);
        match number {
            Some(number) => self.insert(number, token),
            None => self.push(token),
        }
        Ok(())
    }

    /// Closes the block collections that are deeper than the column.
    ///
    /// The end is placed before comments that were just read at the indent of a block that ends, or
    /// of one around it, so that those stay with the blocks they are aligned with.
    pub(super) fn unroll_indent(&mut self, column: i64, scan: Mark) {
        if self.flow_level > 0 {
            return;
        }
        let mut mark = scan;
        mark.index -= 1;
        while self.indent > column {
            let mut stop = mark.index;
            for comment in self.comments.iter().rev() {
                if comment.end.index < stop {
                    break;
                }
                if comment.start.column == self.indent + 1 {
                    mark = comment.start;
                }
                // As long as one comment begins where another ended, there is nothing between them.
                stop = comment.scan.index;
            }
            self.push(Token::new(Kind::BlockEnd, mark));
            self.indent = self.indents.pop().unwrap_or(-1);
        }
    }

    fn next_number(&self) -> usize {
        self.parsed + (self.tokens.len() - self.head)
    }

    fn check_depth(&self, depth: usize) -> Result<(), Error> {
        if depth > limits::DEPTH {
            let line = usize::try_from(self.cursor.mark.line).unwrap_or(0) + 1;
            return Err(Error::Limit { line, limit: limits::DEPTH, what: "levels of nesting" });
        }
        Ok(())
    }
}

fn key_without_value(mark: Mark) -> Error {
    error_at(mark, "a key without its ':'")
}

//! Text to tree, by the rules of Go's token stream.

use super::string;
use crate::sops::text::Text;
use crate::sops::tree::{Branch, Item, Key, Value};
use crate::store::{Error, limits};

/// A text and how far it was read.
pub(super) struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0, depth: 0 }
    }

    /// The top-level object. Anything after it is ignored.
    ///
    /// # Errors
    /// Another value, a text that is no JSON, a number beyond the range of floats, too much nesting.
    pub(super) fn document(&mut self) -> Result<Branch, Error> {
        match self.peek() {
            Some(b'{') => self.object(),
            None => Err(self.wrong("the file is empty; it needs at least {}")),
            // sops refuses it as well: what it would write back has none.
            Some(0xEF | 0xFE | 0xFF) => {
                Err(self.wrong("the file starts with a byte order mark; save it as UTF-8 without one"))
            }
            Some(_) => {
                Err(self.wrong("the file must be a JSON object, starting with {; put anything else into one"))
            }
        }
    }

    /// A single value of any kind, with nothing after it.
    ///
    /// # Errors
    /// As [`Reader::document`]; something after it.
    pub(super) fn lone_value(&mut self) -> Result<Value, Error> {
        let value = self.value()?;
        match self.peek() {
            None => Ok(value),
            Some(_) => Err(self.wrong("there is something after the value")),
        }
    }

    pub(super) fn value(&mut self) -> Result<Value, Error> {
        match self.peek() {
            Some(b'{') => self.object().map(Value::Map),
            Some(b'[') => self.list().map(Value::List),
            Some(b'"') => self.string().map(Value::Str),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Value::Bool(true)),
            Some(b'f') => self.literal("false", Value::Bool(false)),
            Some(b'n') => self.literal("null", Value::Null),
            Some(_) => Err(self.wrong("a value is missing")),
            None => Err(self.ended()),
        }
    }

    fn object(&mut self) -> Result<Branch, Error> {
        let mut branch = Branch::new();
        self.open()?;
        if !self.closes(b'}') {
            loop {
                let key = self.key()?;
                branch.push(Item::Entry(Key::Str(key), self.value()?));
                if !self.goes_on_in_object()? {
                    break;
                }
            }
        }
        // In a large file, room that was made in advance and is not used adds up.
        branch.shrink_to_fit();
        Ok(branch)
    }

    /// A key with its colon.
    pub(super) fn key(&mut self) -> Result<Text, Error> {
        match self.peek() {
            Some(b'"') => {}
            Some(_) => return Err(self.wrong("expected a key in double quotes")),
            None => return Err(self.ended()),
        }
        let key = self.string()?;
        match self.peek() {
            Some(b':') => self.at += 1,
            Some(_) => return Err(self.wrong("expected a colon after the key")),
            None => return Err(self.ended()),
        }
        Ok(key)
    }

    /// Steps over what follows an entry; false if the object ends.
    pub(super) fn goes_on_in_object(&mut self) -> Result<bool, Error> {
        let goes_on = self.goes_on(b'}', "expected a comma or } after an entry")?;
        self.depth -= usize::from(!goes_on);
        Ok(goes_on)
    }

    /// Steps over what follows an item; false if the list ends.
    pub(super) fn goes_on_in_list(&mut self) -> Result<bool, Error> {
        let goes_on = self.goes_on(b']', "expected a comma or ] after an item")?;
        self.depth -= usize::from(!goes_on);
        Ok(goes_on)
    }

    fn list(&mut self) -> Result<Vec<Value>, Error> {
        let mut items = Vec::new();
        self.open()?;
        if !self.closes(b']') {
            loop {
                items.push(self.value()?);
                if !self.goes_on_in_list()? {
                    break;
                }
            }
        }
        items.shrink_to_fit();
        Ok(items)
    }

    /// Steps over the bracket that opens a collection.
    pub(super) fn open(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > limits::DEPTH {
            let what = "levels of nesting";
            return Err(Error::Limit { line: self.line(), limit: limits::DEPTH, what });
        }
        self.at += 1;
        Ok(())
    }

    /// Steps over the bracket that closes a collection, if it comes next.
    pub(super) fn closes(&mut self, bracket: u8) -> bool {
        let closes = self.peek() == Some(bracket);
        self.at += usize::from(closes);
        self.depth -= usize::from(closes);
        closes
    }

    /// Steps over the comma or bracket after an element; false if the collection ends.
    fn goes_on(&mut self, bracket: u8, otherwise: &str) -> Result<bool, Error> {
        match self.peek() {
            Some(b',') => self.at += 1,
            Some(byte) if byte == bracket => {
                self.at += 1;
                return Ok(false);
            }
            Some(_) => return Err(self.wrong(otherwise)),
            None => return Err(self.ended()),
        }
        Ok(true)
    }

    fn string(&mut self) -> Result<Text, Error> {
        let start = self.at + 1;
        let Some(length) = string::length(&self.input[start..]) else {
            // The line where it starts tells more than the last one.
            return Err(self.wrong("a string has no closing quote"));
        };
        let text = string::decode(&self.input[start..start + length]).map_err(|(at, what)| {
            self.at = start + at;
            self.wrong(what)
        })?;
        self.at = start + length + 1;
        Ok(text)
    }

    fn number(&mut self) -> Result<Value, Error> {
        let start = self.at;
        self.at += usize::from(self.here() == Some(b'-'));
        if self.here() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        let whole = self.at;
        if self.here() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.here(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.here(), Some(b'+' | b'-')));
            self.digits()?;
        }
        // Nothing but ASCII was stepped over.
        let text = std::str::from_utf8(&self.input[start..self.at]).unwrap_or_default();
        if self.at == whole
            && let Ok(number) = text.parse()
        {
            return Ok(Value::Int(number));
        }
        match text.parse() {
            Ok(number) if f64::is_finite(number) => Ok(Value::Float(number)),
            _ => Err(self.wrong("a number is too large for a float")),
        }
    }

    fn digits(&mut self) -> Result<(), Error> {
        let start = self.at;
        while self.here().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.wrong("a digit is missing in a number"));
        }
        Ok(())
    }

    fn literal(&mut self, name: &str, value: Value) -> Result<Value, Error> {
        if !self.input[self.at..].starts_with(name.as_bytes()) {
            return Err(self.wrong("expected a value; strings need double quotes"));
        }
        self.at += name.len();
        Ok(value)
    }

    fn here(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    /// The next byte that is not white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while matches!(self.here(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.here()
    }

    fn line(&self) -> usize {
        let before = &self.input[..self.at.min(self.input.len())];
        1 + memchr::memchr_iter(b'\n', before).count()
    }

    fn wrong(&self, message: &str) -> Error {
        Error::Syntax { line: self.line(), message: message.to_owned() }
    }

    fn ended(&self) -> Error {
        self.wrong("the file ends inside its JSON object")
    }
}

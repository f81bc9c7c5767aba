//! Tree to text, in the layout of Go's `json.Indent`.

use zeroize::Zeroizing;

use super::string;
use crate::sops::buffer::Buffer;
use crate::sops::float;
use crate::sops::tree::{Branch, Item, Key, Value};
use crate::sops::value;
use crate::store::{Error, limits, size};

/// Spaces per level at most. sops knows no bound, and ends for want of memory.
const WIDEST: i64 = 1000;

/// The text so far.
pub(super) struct Emitter {
    out: Buffer,
    /// One level of indentation.
    unit: Vec<u8>,
    depth: usize,
}

impl Emitter {
    /// # Errors
    /// An indent below -1, or one that is out of all reason.
    pub(super) fn new(indent: i64) -> Result<Self, Error> {
        let unit = match indent {
            -1 => vec![b'\t'],
            0..=WIDEST => b" ".repeat(usize::try_from(indent).unwrap_or_default()),
            _ => {
                return Err(Error::Unwritable(format!(
                    "the indentation of JSON must be -1 for a tab, or 0 to {WIDEST} spaces"
                )));
            }
        };
        Ok(Self { out: Buffer::default(), unit, depth: 0 })
    }

    /// Writes a whole file.
    ///
    /// # Errors
    /// As [`Emitter::value`].
    pub(super) fn document(&mut self, branch: &Branch) -> Result<(), Error> {
        self.out = Buffer::with_capacity(size::branch(branch, self.unit.len()));
        self.object(branch)?;
        self.out.push(b'\n');
        Ok(())
    }

    /// Writes a value. Comments in it are left out, as in sops.
    ///
    /// # Errors
    /// A float that is not a number, a key that is not a string, a comment in place of a value, too much nesting.
    pub(super) fn value(&mut self, value: &Value) -> Result<(), Error> {
        match value {
            Value::Null => self.out.extend(b"null"),
            Value::Bool(true) => self.out.extend(b"true"),
            Value::Bool(false) => self.out.extend(b"false"),
            Value::Uint(number) => self.out.extend(number.to_string().as_bytes()),
            Value::Float(number) if number.is_finite() => {
                self.out.extend(Zeroizing::new(float::general(*number, -6..21, 1)).as_bytes());
            }
            Value::Float(_) => return Err(unwritable("infinity and NaN")),
            Value::Int(_) | Value::Str(_) | Value::Time(_) | Value::Bytes(_) => {
                let bytes = value::to_bytes(value);
                let bytes = bytes.as_deref().unwrap_or_default();
                match value {
                    Value::Int(_) => self.out.extend(bytes),
                    _ => string::encode(&mut self.out, bytes),
                }
            }
            Value::Map(branch) => self.object(branch)?,
            Value::List(items) => self.list(items)?,
            Value::Comment(_) => return Err(unwritable("a comment in place of a value")),
        }
        Ok(())
    }

    fn object(&mut self, branch: &[Item]) -> Result<(), Error> {
        let entries = branch.iter().filter_map(|item| match item {
            Item::Entry(key, value) => Some((key, value)),
            Item::Comment(_) => None,
        });
        self.collection([b'{', b'}'], entries, |emitter, (key, value)| {
            let Key::Str(key) = key else { return Err(unwritable("a key that is not a string")) };
            string::encode(&mut emitter.out, key.as_bytes());
            emitter.out.extend(b": ");
            emitter.value(value)
        })
    }

    fn list(&mut self, items: &[Value]) -> Result<(), Error> {
        let items = items.iter().filter(|item| !matches!(item, Value::Comment(_)));
        self.collection([b'[', b']'], items, Self::value)
    }

    /// Brackets and what is between them, each element on a line of its own.
    fn collection<T>(
        &mut self,
        [open, close]: [u8; 2],
        elements: impl Iterator<Item = T>,
        write: impl Fn(&mut Self, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.depth == limits::DEPTH {
            return Err(Error::Unwritable(format!("more than {} levels of nesting", limits::DEPTH)));
        }
        self.depth += 1;
        self.out.push(open);
        let mut empty = true;
        for element in elements {
            if !empty {
                self.out.push(b',');
            }
            empty = false;
            self.new_line();
            write(self, element)?;
        }
        self.depth -= 1;
        if !empty {
            self.new_line();
        }
        self.out.push(close);
        Ok(())
    }

    fn new_line(&mut self) {
        self.out.push(b'\n');
        for _ in 0..self.depth {
            self.out.extend(&self.unit);
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out.into_vec()
    }
}

fn unwritable(what: &str) -> Error {
    Error::Unwritable(format!("JSON cannot hold {what}"))
}

//! A scalar's text: where nothing in it is folded or escaped, the very bytes of the input.

use std::ops::Deref;

use crate::sops::buffer::Buffer;

/// A stretch of the input, or a copy where it stands for something else than its bytes.
pub(super) enum Span<'a> {
    Input(&'a [u8]),
    Copy(Buffer),
}

impl<'a> Span<'a> {
    /// Appends the bytes of the input that end at `end`. As long as they follow what is here, nothing is copied.
    pub(super) fn append(&mut self, input: &'a [u8], start: usize, end: usize) {
        let bytes = &input[start..end];
        match self {
            Self::Input([]) => *self = Self::Input(bytes),
            Self::Input(before) if before.as_ptr_range().end == bytes.as_ptr() => {
                *self = Self::Input(&input[start - before.len()..end]);
            }
            _ => self.extend(bytes),
        }
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.copy().extend(bytes);
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.copy().push(byte);
    }

    pub(super) fn push_char(&mut self, character: char) {
        self.copy().push_char(character);
    }

    /// The same without the input.
    pub(super) fn into_owned(mut self) -> Span<'static> {
        Span::Copy(std::mem::take(self.copy()))
    }

    fn copy(&mut self) -> &mut Buffer {
        if let Self::Input(bytes) = self {
            *self = Self::Copy(Buffer::from(*bytes));
        }
        match self {
            Self::Copy(buffer) => buffer,
            Self::Input(_) => unreachable!("it was copied"),
        }
    }
}

impl Default for Span<'_> {
    fn default() -> Self {
        Self::Input(&[])
    }
}

impl Deref for Span<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Input(bytes) => bytes,
            Self::Copy(buffer) => buffer,
        }
    }
}

//! A growable byte buffer that leaves no copies of its content behind.

use std::ops::Deref;

use zeroize::Zeroize;

/// Bytes that are wiped on drop and, unlike a plain vector's, also when growth moves them.
#[derive(Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// An empty one with room for so many bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Appends a byte.
    pub fn push(&mut self, byte: u8) {
        if self.0.len() == self.0.capacity() {
            self.grow(1);
        }
        self.0.push(byte);
    }

    /// Appends bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.0.capacity() - self.0.len() < bytes.len() {
            self.grow(bytes.len());
        }
        self.0.extend_from_slice(bytes);
    }

    /// Appends a character in UTF-8.
    pub fn push_char(&mut self, character: char) {
        self.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
    }

    /// Appends to a list of lines, of which this holds those before.
    pub fn extend_line(&mut self, line: &[u8]) {
        if !self.0.is_empty() {
            self.push(b'\n');
        }
        self.extend(line);
    }

    /// Wipes the content.
    pub fn clear(&mut self) {
        self.wipe();
        self.0.clear();
    }

    /// Takes the content out, for an owner that wipes it or hands it on.
    #[must_use]
    pub fn into_vec(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    fn grow(&mut self, more: usize) {
        let mut next = Vec::with_capacity((self.0.len() + more).max(self.0.capacity() * 2).max(16));
        next.extend_from_slice(&self.0);
        self.wipe();
        self.0 = next;
    }

    /// What lies behind the length never held anything. An empty vector is left alone: most buffers
    /// are, and a fill of no bytes at its dangling address is slow on some processors.
    fn wipe(&mut self) {
        if !self.0.is_empty() {
            self.0.as_mut_slice().zeroize();
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.wipe();
    }
}

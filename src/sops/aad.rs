//! The additional data of a value: the keys from the document's root to it, each followed by a colon.

/// Additional data that grows and shrinks with a walk through the tree. List positions are not part of
/// it, and nothing is escaped: that is how sops defines it.
#[derive(Clone, Debug, Default)]
pub(super) struct Aad {
    bytes: Vec<u8>,
    /// Where each key starts.
    starts: Vec<usize>,
}

impl Aad {
    pub(super) fn push(&mut self, key: &[u8]) {
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(key);
        self.bytes.push(b':');
    }

    pub(super) fn pop(&mut self) {
        if let Some(start) = self.starts.pop() {
            self.bytes.truncate(start);
        }
    }

    /// How many keys there are.
    pub(super) fn depth(&self) -> usize {
        self.starts.len()
    }

    /// The bytes of the present place. At the root that is a lone colon.
    pub(super) fn as_bytes(&self) -> &[u8] {
        if self.starts.is_empty() { b":" } else { &self.bytes }
    }

    /// The bytes of the enclosing places, nearest first.
    pub(super) fn enclosing(&self) -> impl Iterator<Item = &[u8]> {
        self.starts.iter().rev().map(|&start| if start == 0 { b":".as_slice() } else { &self.bytes[..start] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_followed_by_a_colon_and_the_root_is_a_lone_one() {
        let mut aad = Aad::default();
        assert_eq!(aad.as_bytes(), b":");
        aad.push(b"m");
        aad.push(b"k:z");
        assert_eq!(aad.as_bytes(), b"m:k:z:");
        assert_eq!(aad.enclosing().collect::<Vec<_>>(), [b"m:".as_slice(), b":"]);
        aad.pop();
        assert_eq!(aad.as_bytes(), b"m:");
        aad.pop();
        assert_eq!(aad.as_bytes(), b":");
    }

    #[test]
    fn an_empty_key_is_not_the_root() {
        let mut aad = Aad::default();
        aad.push(b"");
        aad.push(b"");
        assert_eq!(aad.as_bytes(), b"::");
    }
}

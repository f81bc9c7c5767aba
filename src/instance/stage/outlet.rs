//! Bytes for a reader that may be slow: a limited number of them is kept, and nobody waits for the reader.

use std::io;

/// What has not been taken yet.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    pending: Vec<u8>,
}

impl Outlet {
    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Adds bytes, or drops them all where more than `limit` would wait.
    pub(super) fn push(&mut self, bytes: &[u8], limit: usize) -> bool {
        let fits = self.pending.len() + bytes.len() <= limit;
        if fits {
            self.pending.extend_from_slice(bytes);
        }
        fits
    }

    /// Writes as much as is taken now; `false` once the other end is gone.
    pub(super) fn flush(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> bool {
        let mut done = 0;
        let open = loop {
            let Some(rest) = self.pending.get(done..).filter(|rest| !rest.is_empty()) else { break true };
            match write(rest) {
                Ok(0) => break false,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        self.pending.drain(..done);
        open
    }
}

#[cfg(test)]
mod tests {
    use super::Outlet;
    use std::io::{self, Write};

    #[test]
    fn who_is_slow_gets_the_rest_later_and_loses_what_is_too_much() {
        let mut outlet = Outlet::default();
        assert!(outlet.push(b"one two", 8));
        assert!(!outlet.push(b"three", 8));
        let mut taken = Vec::new();
        let mut room = 4;
        let slow = |bytes: &[u8]| {
            let count = bytes.len().min(room);
            room -= count;
            if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { taken.write(&bytes[..count]) }
        };
        assert!(outlet.flush(slow), "slow is not gone");
        assert_eq!(outlet.len(), 3);
        assert!(outlet.push(b"four!", 8));
        assert!(outlet.flush(|bytes| taken.write(bytes)));
        assert_eq!(taken, b"one twofour!");
        outlet.push(b"x", 8);
        assert!(!outlet.flush(|_| Err(io::ErrorKind::BrokenPipe.into())));
    }
}

//! Lines put together from pieces as they come. Each byte is looked at once, and a line that never ends takes no
//! memory without end.

/// The part of a line that has come so far.
#[derive(Debug)]
pub struct Lines {
    longest: usize,
    partial: Vec<u8>,
    /// The line is too long already: the rest of it is dropped as well.
    dropping: bool,
    /// Lines that were dropped, and nobody has been told yet.
    dropped: usize,
}

impl Lines {
    /// A line of more than `longest` bytes is dropped whole.
    #[must_use]
    pub fn new(longest: usize) -> Self {
        Self { longest, partial: Vec::new(), dropping: false, dropped: 0 }
    }

    /// Takes a piece, and gives the lines that it completes, without their line feeds.
    pub fn push(&mut self, mut piece: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = piece.split_at(end);
            self.extend(line);
            let line = std::mem::take(&mut self.partial);
            if std::mem::take(&mut self.dropping) {
                self.dropped += 1;
            } else {
                lines.push(line);
            }
            piece = rest.get(1..).unwrap_or_default();
        }
        self.extend(piece);
        lines
    }

    /// How many lines were too long since this was asked last.
    pub fn take_dropped(&mut self) -> usize {
        std::mem::take(&mut self.dropped)
    }

    /// Forgets the part that has come: its sender starts anew.
    pub fn clear(&mut self) {
        (self.partial, self.dropping) = (Vec::new(), false);
    }

    fn extend(&mut self, piece: &[u8]) {
        if self.dropping {
        } else if self.partial.len() + piece.len() > self.longest {
            (self.partial, self.dropping) = (Vec::new(), true);
        } else {
            self.partial.extend_from_slice(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;
    use std::time::{Duration, Instant};

    #[test]
    fn lines_are_put_together_from_pieces() {
        let mut lines = Lines::new(100);
        assert_eq!(lines.push(b"on"), Vec::<Vec<u8>>::new());
        assert_eq!(lines.push(b"e\ntwo\n\nth"), [b"one".to_vec(), b"two".to_vec(), Vec::new()]);
        assert_eq!(lines.push(b"ree\n"), [b"three".to_vec()]);
    }

    #[test]
    fn a_line_that_is_too_long_is_dropped_and_the_next_one_is_not() {
        let mut lines = Lines::new(4);
        assert!(lines.push(b"12345").is_empty());
        assert!(lines.push(b"6").is_empty());
        assert_eq!(lines.take_dropped(), 0, "it has not ended");
        assert_eq!(lines.push(b"7\nnext\n"), [b"next".to_vec()]);
        assert_eq!((lines.take_dropped(), lines.take_dropped()), (1, 0));
        assert!(lines.push(b"part").is_empty());
        lines.clear();
        assert_eq!(lines.push(b"new\n"), [b"new".to_vec()]);
    }

    #[test]
    fn the_work_grows_with_the_bytes_and_not_with_their_square() {
        let begun = Instant::now();
        let mut lines = Lines::new(8 << 20);
        // One endless line, a byte at a time, and a piece of nothing but line feeds.
        for _ in 0..4 << 20 {
            lines.push(b"x");
        }
        assert_eq!(lines.push(&vec![b'\n'; 4 << 20]).len(), 4 << 20);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}

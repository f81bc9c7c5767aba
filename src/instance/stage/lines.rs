//! Lines from a socket that is read only when it has something.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use crate::vm::lines;

/// Longest line, in bytes; what is longer is dropped whole.
const LINE_MAX: usize = 1 << 20;
/// Bytes taken at once, so that one sender does not keep the others waiting.
const READ_MAX: usize = 16 << 10;

/// A socket's lines.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) socket: UnixStream,
    lines: lines::Lines,
    /// What was read before this began.
    before: Vec<u8>,
}

impl Lines {
    /// Reads a socket from here on; `before` was read from it already.
    pub(super) fn new(socket: UnixStream, before: &[u8]) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, lines: lines::Lines::new(LINE_MAX), before: before.to_vec() })
    }

    /// The whole lines that have come; `None` once the other end is closed.
    pub(super) fn receive(&mut self) -> Option<Vec<String>> {
        let mut lines = self.lines.push(&std::mem::take(&mut self.before));
        let mut chunk = vec![0; READ_MAX];
        let open = match self.socket.read(&mut chunk) {
            Ok(0) => false,
            Ok(count) => {
                lines.extend(self.lines.push(chunk.get(..count).unwrap_or_default()));
                true
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        };
        let text = |line: &Vec<u8>| String::from_utf8_lossy(line).trim_end().to_owned();
        if open || !lines.is_empty() { Some(lines.iter().map(text).collect()) } else { None }
    }

    /// Forgets a line that has begun: its sender starts anew.
    pub(super) fn clear(&mut self) {
        self.lines.clear();
    }

    /// Sends a line, unless the other end has let so many pile up that it takes no more.
    pub(super) fn send(&mut self, line: &str) {
        let _ = self.socket.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_MAX, Lines};
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn lines_come_whole_and_the_end_is_told() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut lines = Lines::new(ours, b"be").unwrap();
        theirs.write_all(b"fore\r\npart").unwrap();
        assert_eq!(lines.receive().unwrap(), ["before"]);
        assert!(lines.receive().unwrap().is_empty());
        theirs.write_all(b"ial\n").unwrap();
        assert_eq!(lines.receive().unwrap(), ["partial"]);
        drop(theirs);
        assert_eq!(lines.receive(), None);
    }

    #[test]
    fn an_endless_line_is_dropped_and_the_next_one_read() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut lines = Lines::new(ours, &vec![b'x'; LINE_MAX + 1]).unwrap();
        theirs.write_all(b"x").unwrap();
        assert!(lines.receive().unwrap().is_empty());
        theirs.write_all(b"x\nnext\n").unwrap();
        assert_eq!(lines.receive().unwrap(), ["next"]);
    }
}

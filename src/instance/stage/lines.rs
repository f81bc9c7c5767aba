//! Lines from a socket that is read only when it has something.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;

/// Longest line, in bytes; what is longer is dropped whole.
const LINE_MAX: usize = 1 << 20;
/// Bytes taken at once, so that one talker does not keep the others waiting.
const READ_MAX: usize = 64 << 10;

/// A socket's lines.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) socket: UnixStream,
    partial: Vec<u8>,
    dropping: bool,
}

impl Lines {
    /// Reads a socket from here on; `before` was read from it already.
    pub(super) fn new(socket: UnixStream, before: &[u8]) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, partial: before.to_vec(), dropping: false })
    }

    /// The whole lines that have come; `None` once the other end is closed.
    pub(super) fn receive(&mut self) -> Option<Vec<String>> {
        let mut chunk = vec![0; READ_MAX];
        let open = match self.socket.read(&mut chunk) {
            Ok(0) => false,
            Ok(count) => {
                self.partial.extend_from_slice(chunk.get(..count).unwrap_or_default());
                true
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        };
        let lines = self.split();
        if open || !lines.is_empty() { Some(lines) } else { None }
    }

    fn split(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let rest = self.partial.split_off(end + 1);
            let line = std::mem::replace(&mut self.partial, rest);
            if !std::mem::take(&mut self.dropping) {
                lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        }
        if self.partial.len() > LINE_MAX {
            self.partial.clear();
            self.dropping = true;
        }
        lines
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

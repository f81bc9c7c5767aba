//! Lines from a socket that is read only when it has something.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::instance::stage::outlet::Outlet;
use crate::vm::lines;

/// Longest line of QEMU or a guest, in bytes; what is longer is dropped whole.
pub(super) const LINE_MAX: usize = 1 << 20;
/// Bytes taken at once, so that one sender does not keep the others waiting.
const READ_MAX: usize = 16 << 10;
/// Bytes that are thrown away at once: more than a socket holds.
const CLEARED_MAX: usize = 1 << 20;
/// Bytes that wait for a peer that does not read.
const WAITING_MAX: usize = 1 << 20;

/// A socket's lines, both ways.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) socket: UnixStream,
    lines: lines::Lines,
    out: Outlet,
}

impl Lines {
    /// Reads a socket from here on. A line of more than `longest` bytes is dropped whole.
    pub(super) fn new(socket: UnixStream, longest: usize) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, lines: lines::Lines::new(longest), out: Outlet::default() })
    }

    /// What to wait for.
    pub(super) fn watched(&self) -> PollFd<'_> {
        let write = if self.out.len() > 0 { PollFlags::POLLOUT } else { PollFlags::empty() };
        PollFd::new(self.socket.as_fd(), PollFlags::POLLIN | write)
    }

    /// What to wait for where only the rest of what is sent counts.
    pub(super) fn writable(&self) -> PollFd<'_> {
        PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)
    }

    /// The whole lines that have come; `None` once the other end is closed.
    pub(super) fn receive(&mut self) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        let mut chunk = vec![0; READ_MAX];
        let open = match self.socket.read(&mut chunk) {
            Ok(0) => false,
            Ok(count) => {
                lines = self.lines.push(chunk.get(..count).unwrap_or_default());
                true
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        };
        let text = |line: &Vec<u8>| String::from_utf8_lossy(line).trim_end().to_owned();
        if open { Some(lines.iter().map(text).collect()) } else { None }
    }

    /// How many lines were too long since this was asked last.
    pub(super) fn take_dropped(&mut self) -> usize {
        self.lines.take_dropped()
    }

    /// Forgets what has come and was not looked at, a line that has begun, and what was not taken: the peer starts anew.
    pub(super) fn clear(&mut self) {
        let mut chunk = [0; READ_MAX];
        for _ in 0..CLEARED_MAX / READ_MAX {
            if !self.socket.read(&mut chunk).is_ok_and(|count| count > 0) {
                break;
            }
        }
        self.lines.clear();
        self.out = Outlet::default();
    }

    /// Sends a line, or drops it whole where the peer has let so many pile up.
    pub(super) fn send(&mut self, line: &[u8]) {
        self.send_within(line, WAITING_MAX);
    }

    /// The same where so many bytes may wait.
    pub(super) fn send_within(&mut self, line: &[u8], waiting: usize) {
        self.out.push(line, waiting);
        self.flush();
    }

    /// Sends a line with a file, once all before it has been taken.
    pub(super) fn send_with_file(&mut self, line: &[u8], file: BorrowedFd<'_>) -> io::Result<()> {
        if !self.flush() || !self.is_flushed() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let files = [file.as_raw_fd()];
        let along = [ControlMessage::ScmRights(&files)];
        let sent = sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[io::IoSlice::new(line)],
            &along,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        self.send(line.get(sent..).unwrap_or_default());
        Ok(())
    }

    /// Writes what the peer takes now; `false` once it is gone.
    pub(super) fn flush(&mut self) -> bool {
        let mut socket = &self.socket;
        self.out.flush(|bytes| socket.write(bytes))
    }

    /// Whether everything has been taken.
    pub(super) fn is_flushed(&self) -> bool {
        self.out.len() == 0
    }

    /// The socket, and what it is still to be sent.
    pub(super) fn into_parts(self) -> (UnixStream, Outlet) {
        (self.socket, self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_MAX, Lines};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn lines_come_whole_and_the_end_is_told() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut lines = Lines::new(ours, LINE_MAX).unwrap();
        theirs.write_all(b"before\r\npart").unwrap();
        assert_eq!(lines.receive().unwrap(), ["before"]);
        assert!(lines.receive().unwrap().is_empty());
        theirs.write_all(b"ial\n").unwrap();
        assert_eq!(lines.receive().unwrap(), ["partial"]);
        drop(theirs);
        assert_eq!(lines.receive(), None);
    }

    #[test]
    fn what_came_before_a_new_beginning_is_not_read() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut lines = Lines::new(ours, LINE_MAX).unwrap();
        theirs.write_all(b"begun").unwrap();
        assert!(lines.receive().unwrap().is_empty());
        theirs.write_all(&b"of the boot before\n".repeat(5000)).unwrap();
        lines.clear();
        theirs.write_all(b"of this one\n").unwrap();
        assert_eq!(lines.receive().unwrap(), ["of this one"]);
    }

    #[test]
    fn an_endless_line_is_dropped_and_the_next_one_read() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut lines = Lines::new(ours, 100).unwrap();
        theirs.write_all(&[b'x'; 101]).unwrap();
        assert!(lines.receive().unwrap().is_empty());
        theirs.write_all(b"x\nnext\n").unwrap();
        assert_eq!(lines.receive().unwrap(), ["next"]);
        assert_eq!(lines.take_dropped(), 1);
    }

    #[test]
    fn a_peer_that_does_not_read_gets_whole_lines_or_none() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut lines = Lines::new(ours, LINE_MAX).unwrap();
        for n in 0..200_000 {
            lines.send(format!("line {n}\n").as_bytes());
        }
        assert!(!lines.is_flushed());
        let mut text = Vec::new();
        while !lines.is_flushed() {
            let mut chunk = vec![0; 64 << 10];
            let count = theirs.read(&mut chunk).unwrap();
            text.extend_from_slice(&chunk[..count]);
            assert!(lines.flush());
        }
        drop(lines);
        theirs.read_to_end(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().enumerate().all(|(n, line)| line == format!("line {n}")));
        assert!(text.lines().count() > 10_000);
    }
}

//! Standard input, output and error.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::AsFd as _;

use zeroize::Zeroizing;

/// The first buffer for what comes from a stream.
const FIRST: usize = 1 << 14;

/// All of standard input.
///
/// # Errors
/// The system refuses.
pub fn read_stdin() -> io::Result<Zeroizing<Vec<u8>>> {
    // Not through the buffer of Rust's own, which is never wiped.
    read_wiping(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// All of a stream. Every buffer that becomes too small is wiped.
pub(super) fn read_wiping(mut stream: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(vec![0; FIRST]);
    let mut filled = 0;
    loop {
        if filled == text.len() {
            let mut larger = Zeroizing::new(vec![0; text.len() * 2]);
            larger[..filled].copy_from_slice(&text);
            text = larger;
        }
        match stream.read(&mut text[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    text.truncate(filled);
    Ok(text)
}

/// Bytes to stdout, as they are and at once.
///
/// # Errors
/// Stdout cannot be written. A reader that went away is not an error.
pub fn to_stdout(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// A line to stderr. Nothing can be done where stderr is gone, so its errors are dropped.
pub fn to_stderr(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte more each time.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            if self.1.is_multiple_of(7) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = self.1.min(buffer.len()).min(self.0.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    #[test]
    fn a_stream_is_read_whole_in_whatever_pieces_it_comes() {
        for length in [0, 1, FIRST - 1, FIRST, FIRST + 1, 5 * FIRST] {
            let text: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
            assert_eq!(*read_wiping(Drops(&text, 0)).expect("read"), text, "{length}");
        }
    }
}

//! The standard streams of this process.

use std::io::{self, Read as _, Write as _};

use zeroize::Zeroizing;

/// All of standard input.
///
/// # Errors
/// The system refuses.
pub fn read_stdin() -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::new());
    io::stdin().lock().read_to_end(&mut text)?;
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

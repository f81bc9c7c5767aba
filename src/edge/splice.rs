//! Standard input and output, connected to a socket.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::socket::{Shutdown, shutdown};

/// Passes on both directions until the socket's other side ends; `first` has come from there already. True where it
/// ended though there was more to be said from here.
///
/// # Errors
/// Nobody takes what comes.
pub fn stdio(socket: OwnedFd, first: &[u8]) -> io::Result<bool> {
    let mut socket = File::from(socket);
    let mut up = socket.try_clone()?;
    let all_said = Arc::new(AtomicBool::new(false));
    let said = Arc::clone(&all_said);
    thread::spawn(move || {
        let _ = copy(&mut io::stdin().lock(), &mut up);
        said.store(true, Ordering::SeqCst);
        let _ = shutdown(up.as_raw_fd(), Shutdown::Write);
    });
    let mut stdout = io::stdout().lock();
    stdout.write_all(first)?;
    stdout.flush()?;
    match copy(&mut socket, &mut stdout) {
        // Whoever is killed, or killed with its connection, does not say goodbye.
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
        _ => Ok(!all_said.load(Ordering::SeqCst)),
    }
}

/// Passes on what comes as soon as it comes.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&buffer[..count])?;
        to.flush()?;
    }
}

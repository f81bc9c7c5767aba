//! Changes of one file by several processes, one after the other.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A directory or file that no other process of civm changes until this is dropped.
#[derive(Debug)]
pub struct Lock {
    _held: Option<Flock<File>>,
}

impl Lock {
    /// Waits until nobody else has it. On a file system without such locks nobody waits.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(held) => return Ok(Self { _held: Some(held) }),
                Err((again, Errno::EINTR)) => file = again,
                Err(_) => return Ok(Self { _held: None }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_locked_directory_is_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let held = Lock::of(directory.path()).expect("locked");
        let released = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let _lock = Lock::of(directory.path()).expect("locked");
                released.load(Ordering::SeqCst)
            });
            std::thread::sleep(std::time::Duration::from_millis(50));
            released.store(true, Ordering::SeqCst);
            drop(held);
            assert!(waiter.join().expect("joined"), "it did not wait");
        });
    }
}

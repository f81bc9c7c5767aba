//! A named pipe from which every reader gets the same content; nothing is stored.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use zeroize::Zeroizing;

/// How long dropping it waits for the server thread, which hangs only if a program replaced the pipe.
const PATIENCE: Duration = Duration::from_secs(1);

/// A named pipe that serves its content as long as the value lives.
///
/// A pipe delivers its content once, so each reader gets its own: as soon as one is opened, a new one takes its
/// name. Readers that open it in the same instant share one pipe; they need a regular file.
pub struct Fifo {
    path: PathBuf,
    over: Arc<AtomicBool>,
    /// Closed when the server thread ends.
    server: Receiver<()>,
}

impl Fifo {
    /// Serves a content, to this user alone, under a name that must not exist yet. The directory must be private.
    ///
    /// # Errors
    ///
    /// The pipe cannot be made.
    pub fn serve(path: PathBuf, content: Zeroizing<Vec<u8>>) -> io::Result<Self> {
        make(&path)?;
        let over = Arc::new(AtomicBool::new(false));
        let (end, server) = mpsc::channel();
        {
            let (path, over) = (path.clone(), Arc::clone(&over));
            thread::spawn(move || {
                // Where no further pipe can be made, those who come later find none that is served.
                let _ = serve(&path, &Arc::new(content), &over);
                drop::<Sender<()>>(end);
            });
        }
        Ok(Self { path, over, server })
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // The server may wait for a reader; this is one, and takes nothing.
        let _last = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&self.path);
        let _ = self.server.recv_timeout(PATIENCE);
    }
}

fn make(path: &Path) -> io::Result<()> {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(io::Error::from)
}

fn serve(path: &Path, content: &Arc<Zeroizing<Vec<u8>>>, over: &AtomicBool) -> io::Result<()> {
    // A name that cannot be in use: it is longer by a letter than the only other one.
    let mut next = path.as_os_str().to_owned();
    next.push("~");
    let next = Path::new(&next);
    loop {
        make(next)?;
        // This waits for a reader.
        let pipe = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
        if !pipe.metadata()?.file_type().is_fifo() {
            // The reader put something of its own there.
            return fs::remove_file(next);
        }
        fs::rename(next, path)?;
        if over.load(Ordering::SeqCst) {
            return Ok(());
        }
        // A reader that opens several before it reads one must not wait for itself.
        let content = Arc::clone(content);
        thread::spawn(move || fill(pipe, &content));
    }
}

/// A reader that closes the pipe early is not an error.
fn fill(mut pipe: File, content: &[u8]) {
    let _ = pipe.write_all(content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    fn served(content: &[u8]) -> (tempfile::TempDir, PathBuf, Fifo) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("secret");
        let fifo = Fifo::serve(path.clone(), Zeroizing::new(content.to_vec())).expect("served");
        (directory, path, fifo)
    }

    #[test]
    fn every_reader_gets_the_content_once() {
        let (_directory, path, _fifo) = served(b"content");
        let metadata = fs::symlink_metadata(&path).expect("there");
        assert!(metadata.file_type().is_fifo() && metadata.permissions().mode() & 0o777 == 0o600);
        for _ in 0..50 {
            assert_eq!(fs::read(&path).expect("read"), b"content");
        }
    }

    #[test]
    fn a_reader_of_two_at_once_does_not_wait_for_itself() {
        let content = vec![b'x'; 1 << 20];
        let (_directory, path, _fifo) = served(&content);
        let mut first = File::open(&path).expect("open");
        // Its pipe has given way to a fresh one when something comes out of it.
        let mut start = [0];
        first.read_exact(&mut start).expect("read");
        assert_eq!(fs::read(&path).expect("read"), content);
        let mut rest = Vec::new();
        first.read_to_end(&mut rest).expect("read");
        assert_eq!(rest.len() + 1, content.len());
    }

    #[test]
    fn the_end_leaves_nothing_to_wait_for() {
        for read in [false, true] {
            let (directory, path, fifo) = served(b"content");
            if read {
                drop(File::open(&path).expect("a reader that reads nothing"));
            }
            drop(fifo);
            let entries = fs::read_dir(directory.path()).expect("listed").count();
            assert_eq!(entries, 1, "the pipe itself");
        }
    }

    #[test]
    fn a_program_that_puts_something_else_in_its_place_keeps_nobody() {
        let (directory, path, fifo) = served(b"content");
        let other = directory.path().join("other");
        fs::write(&other, "mine").expect("written");
        fs::rename(&other, &path).expect("renamed");
        drop(fifo);
        assert_eq!(fs::read(&path).expect("read"), b"mine");
    }
}

//! A log of bounded size: when it is full, it becomes the one before, and a new one begins.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that is written to its end.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    written: u64,
    limit: u64,
}

impl Log {
    /// Begins a new log; those of earlier runs are removed. The two files hold `limit` bytes each at most.
    pub(super) fn create(path: PathBuf, limit: u64) -> io::Result<Self> {
        let _ = fs::remove_file(before(&path));
        let file = open(&path, true)?;
        Ok(Self { path, file, written: 0, limit })
    }

    /// Goes on with a log that somebody else began.
    pub(super) fn go_on(path: PathBuf, limit: u64) -> io::Result<Self> {
        let file = open(&path, false)?;
        let written = file.metadata()?.len();
        Ok(Self { path, file, written, limit })
    }

    /// Adds bytes, as far as the file system takes them: a machine runs on without its log.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(usize::try_from(self.limit).unwrap_or(usize::MAX)) {
            if self.written + piece.len() as u64 > self.limit {
                self.rotate();
            }
            self.written += piece.len() as u64;
            let _ = self.file.write_all(piece);
        }
    }

    /// What is there becomes the log before.
    pub(super) fn rotate(&mut self) {
        let renamed = fs::rename(&self.path, before(&self.path));
        if let Ok(file) = renamed.and_then(|()| open(&self.path, true)) {
            self.file = file;
        } else {
            // Rather begin again in place than grow.
            let _ = self.file.set_len(0);
        }
        self.written = 0;
    }
}

fn open(path: &Path, fresh: bool) -> io::Result<File> {
    if fresh {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// The log before: `NAME.1`.
fn before(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::Log;
    use std::fs;

    #[test]
    fn a_log_never_takes_more_than_twice_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "of an earlier run").unwrap();
        let mut log = Log::create(path.clone(), 100).unwrap();
        for n in 0..1000 {
            log.append(format!("line {n}\n").as_bytes());
        }
        log.append(&[b'x'; 950]);
        let sizes: Vec<u64> =
            fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
        assert!(sizes.len() == 2 && sizes.iter().all(|size| *size <= 100), "{sizes:?}");
        log.append(b"last");
        assert!(fs::read_to_string(&path).unwrap().ends_with("last"));
        let mut log = Log::create(path.clone(), 100).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "that of the run before is gone");
        log.append(b"one");
        let mut log = Log::go_on(path.clone(), 100).unwrap();
        log.append(b"two");
        assert_eq!(fs::read_to_string(&path).unwrap(), "onetwo");
        log.rotate();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }
}

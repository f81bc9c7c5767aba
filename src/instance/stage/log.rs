//! Logs of bounded size, of which the last few are kept: `NAME` is that of this run or boot, `NAME.1` the one before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Logs before the present one that are kept.
pub(crate) const KEPT: u32 = 5;

/// Bytes of QEMU's own messages in the log of one run.
pub(super) const QEMU_LOG_MAX: u64 = 128 << 10;

/// A file that is written to its end.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    written: u64,
    limit: u64,
}

impl Log {
    /// Begins a new log of at most `limit` bytes; the last ones are kept beside it.
    pub(super) fn begin(path: PathBuf, limit: u64) -> io::Result<Self> {
        let rotated = rotate(&path);
        let file = open(&path)?;
        let mut log = Self { path, written: file.metadata()?.len(), file, limit };
        if rotated.is_err() {
            // Rather begin again in place than mix two.
            log.file.set_len(0)?;
            log.written = 0;
        }
        Ok(log)
    }

    /// Goes on with a log that somebody else began.
    pub(super) fn go_on(path: PathBuf, limit: u64) -> io::Result<Self> {
        let file = open(&path)?;
        let written = file.metadata()?.len();
        Ok(Self { path, file, written, limit })
    }

    /// The file, for another process that writes to it.
    pub(super) fn share(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Adds bytes, as far as the file system takes them: a machine runs on without its log.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let piece_max = usize::try_from(self.limit / 2).unwrap_or(usize::MAX);
        for piece in bytes.chunks(piece_max.max(1)) {
            if self.written + piece.len() as u64 > self.limit {
                self.shorten();
            }
            self.written += piece.len() as u64;
            let _ = self.file.write_all(piece);
        }
    }

    /// Drops the older half, whole lines where there are any. It stays the same file: others write to it as well, and
    /// `tail -f` follows it.
    fn shorten(&mut self) {
        let newer = self.newer_half().unwrap_or_default();
        let line = newer.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let newer = newer.get(line..).unwrap_or_default();
        let _ = self.file.set_len(0).and_then(|()| self.file.write_all(newer));
        self.written = newer.len() as u64;
    }

    fn newer_half(&self) -> io::Result<Vec<u8>> {
        let mut newer = Vec::new();
        let mut from = File::open(&self.path)?;
        let length = from.metadata()?.len();
        from.seek(SeekFrom::Start(length.saturating_sub(self.limit / 2)))?;
        from.take(self.limit / 2).read_to_end(&mut newer)?;
        Ok(newer)
    }
}

/// `NAME` becomes `NAME.1`, that `NAME.2`, and so on; the oldest goes. An empty one is not worth a number.
fn rotate(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.len() == 0 => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    for number in (1..KEPT).rev() {
        match fs::rename(numbered(path, number), numbered(path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, numbered(path, 1))
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.custom_flags(nix::libc::O_NOFOLLOW).open(path)
}

/// A log before: `NAME.1`.
pub(crate) fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::{KEPT, Log, numbered};
    use std::fs;

    #[test]
    fn a_log_never_takes_more_than_its_limit_and_keeps_the_newest_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = Log::begin(path.clone(), 100).unwrap();
        for n in 0..1000 {
            log.append(format!("line {n}\n").as_bytes());
            assert!(path.metadata().unwrap().len() <= 100);
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("line ") && text.ends_with("line 998\nline 999\n"), "{text}");
        assert!(text.len() >= 45, "{text}");
        log.append(&[b'x'; 950]);
        assert!(path.metadata().unwrap().len() <= 100);
        log.append(b"last");
        assert!(fs::read_to_string(&path).unwrap().ends_with("last"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let mut log = Log::go_on(path.clone(), 100).unwrap();
        log.append(b"two");
        assert!(fs::read_to_string(&path).unwrap().ends_with("lasttwo"));
    }

    #[test]
    fn the_last_few_logs_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        for n in 0..10 {
            let mut log = Log::begin(path.clone(), 100).unwrap();
            // One that stayed empty takes no number.
            drop(Log::begin(path.clone(), 100).unwrap());
            log.append(format!("{n}").as_bytes());
        }
        let text = |path| fs::read_to_string(path).unwrap();
        assert_eq!(text(path.clone()), "9");
        for number in 1..=KEPT {
            assert_eq!(text(numbered(&path, number)), format!("{}", 9 - number));
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1 + KEPT as usize);
    }
}

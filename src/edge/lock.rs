//! Locks between processes of civm, on files and directories. A lock ends with its value and with its process,
//! however that ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{major, minor};
use nix::unistd::Pid;

/// What a file system answers that has no such locks: some network file systems lock only what is open for
/// writing, which a directory never is.
const NO_LOCKS: [Errno; 5] = [Errno::EBADF, Errno::EINVAL, Errno::ENOLCK, Errno::ENOSYS, Errno::EOPNOTSUPP];

/// A file or directory that no other process of civm has locked until this is dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Locks a directory, or a file that exists. Waits until nobody else has it; on a file system without locks
    /// nobody waits.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub fn exclusive(path: &Path) -> io::Result<Self> {
        Self::wait(open(path)?)
    }

    /// The same at once: `None` where another has it.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or the file system has no locks.
    pub fn try_exclusive(path: &Path) -> io::Result<Option<Self>> {
        Self::try_open(open(path)?)
    }

    /// Locks what is open already; see [`Lock::exclusive`].
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn wait(file: File) -> io::Result<Self> {
        Self::until_done(file, File::lock)
    }

    /// Locks what is open already; see [`Lock::try_exclusive`].
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn try_open(file: File) -> io::Result<Option<Self>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Keeps others from locking what is open already, but not from sharing it like this. On a file system without
    /// locks nobody is kept from anything.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn share(file: File) -> io::Result<Self> {
        Self::until_done(file, File::lock_shared)
    }

    fn until_done(file: File, lock: fn(&File) -> io::Result<()>) -> io::Result<Self> {
        loop {
            match lock(&file) {
                Ok(()) => return Ok(Self(file)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if has_no_locks(&error) => return Ok(Self(file)),
                Err(error) => return Err(error),
            }
        }
    }

    /// What is locked.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.0
    }
}

fn has_no_locks(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| NO_LOCKS.contains(&Errno::from_raw(number)))
}

/// Opens a file that is there to be locked, mode 0600, made where there is none. It stays: who removes a lock's file
/// lets two hold the lock.
///
/// # Errors
///
/// The system refuses.
pub fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Opens what is to be locked. If it is a pipe, nobody is waited for at its other end.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Whether somebody holds an exclusive lock. To look takes a shared one for an instant, so that a
/// [`Lock::try_exclusive`] of that instant may fail.
#[must_use]
pub fn is_held(path: &Path) -> bool {
    open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The process that holds a lock, if the kernel tells: it names the one that took it, which may have left it to a
/// child.
#[must_use]
pub fn holder(path: &Path) -> Option<Pid> {
    let metadata = fs::metadata(path).ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| holder_in(line, metadata.dev(), metadata.ino()))
}

/// `1: FLOCK  ADVISORY  WRITE 4242 08:01:131 0 EOF`: device numbers in hexadecimal, the inode in decimal. A waiter's
/// line has an arrow in it: `1: -> FLOCK …`.
fn holder_in(line: &str, device: u64, inode: u64) -> Option<Pid> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK", _, _, pid, place, ..] = fields.as_slice() else { return None };
    let mut place = place.split(':');
    let mut number = |radix| u64::from_str_radix(place.next()?, radix).ok();
    let same = (number(16)?, number(16)?, number(10)?) == (major(device), minor(device), inode);
    let pid = pid.parse().ok().filter(|pid: &i32| *pid > 0)?;
    same.then(|| Pid::from_raw(pid))
}

/// Waits until a lock that was let go can be had. A program that another test is just starting has it for an instant
/// more: until it runs, it shares every descriptor of this process.
#[cfg(test)]
pub(crate) fn wait_until_free<T>(try_lock: impl Fn() -> io::Result<Option<T>>) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while try_lock().expect("it can be asked for").is_none() {
        assert!(std::time::Instant::now() < until, "the lock is still held");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_locked_directory_is_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let held = Lock::exclusive(directory.path()).expect("locked");
        assert!(is_held(directory.path()));
        assert!(Lock::try_exclusive(directory.path()).expect("asked").is_none());
        let released = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let _lock = Lock::exclusive(directory.path()).expect("locked");
                released.load(Ordering::SeqCst)
            });
            std::thread::sleep(std::time::Duration::from_millis(50));
            released.store(true, Ordering::SeqCst);
            drop(held);
            assert!(waiter.join().expect("joined"), "it did not wait");
        });
        assert!(!is_held(directory.path()));
    }

    #[test]
    fn a_lock_file_is_made_private_and_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        assert!(Lock::try_exclusive(&path).is_err() && !is_held(&path));
        let held = Lock::try_open(open_file(&path).expect("made")).expect("asked");
        assert!(held.is_some() && is_held(&path));
        assert!(Lock::try_open(open_file(&path).expect("opened")).expect("asked").is_none());
        drop(held);
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o600);
    }

    #[test]
    fn those_who_share_keep_out_who_wants_it_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || File::open(directory.path()).expect("opened");
        let shared = [Lock::share(open()), Lock::share(open())].map(|lock| lock.expect("shared"));
        assert!(Lock::try_open(open()).expect("asked").is_none());
        drop(shared);
        assert!(Lock::try_open(open()).expect("asked").is_some());
    }

    #[test]
    fn the_holder_is_known_by_its_device_and_inode() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let held = Lock::wait(open_file(&path).expect("made")).expect("locked");
        // Some file systems show another device in /proc/locks than to stat: no answer, but never a wrong one.
        assert!([None, Some(Pid::this())].contains(&holder(&path)));
        drop(held);
        assert_eq!(holder(&path), None);
        let line = "1: FLOCK  ADVISORY  WRITE 4242 08:1f:131 0 EOF";
        let device = nix::sys::stat::makedev(8, 0x1f);
        assert_eq!(holder_in(line, device, 131), Some(Pid::from_raw(4242)));
        assert_eq!(holder_in(line, nix::sys::stat::makedev(8, 0x1e), 131), None, "another device");
        assert_eq!(holder_in(line, device, 132), None);
        assert_eq!(holder_in("1: -> FLOCK  ADVISORY  WRITE 4242 08:1f:131 0 EOF", device, 131), None);
        assert_eq!(holder_in("1: POSIX  ADVISORY  WRITE 4242 08:1f:131 0 EOF", device, 131), None);
    }
}

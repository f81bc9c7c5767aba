//! Files replaced or created in one step: whatever happens in between, a reader sees the old or the new.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use thiserror::Error;

/// Links followed before a chain counts as a loop; the kernel's own limit.
const LINKS_FOLLOWED: usize = 40;
/// Permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;

/// A file that was not written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// There is one already, and it is not to be replaced.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// A directory.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The system refused.
    #[error("cannot write {}: {source}", .path.display())]
    Io {
        /// The file that was to be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Replaces a file, or creates it with `mode_if_new` less the umask.
///
/// The new content is written beside the file and synced, takes over its mode and, where the system
/// allows, its owner and group, then the name; the directory is synced last. A symbolic link is followed:
/// the file it leads to is replaced, the link stays. A second hard link keeps the old content. What is no
/// file to be replaced (a pipe, a device, an open file as `/dev/stdout`) is written into.
///
/// # Errors
///
/// The path is a directory, or the system refuses.
pub fn replace(path: &Path, content: &[u8], mode_if_new: u32) -> Result<(), WriteError> {
    let failed = |source| WriteError::Io { path: path.to_owned(), source };
    if let Some(stream) = open_stream(path).map_err(failed)? {
        return write_into(stream, content).map_err(failed);
    }
    let target = follow_links(path).map_err(failed)?;
    let existing = existing(path, &target)?;
    let (directory, _) = split(&target).map_err(failed)?;
    let temporary = write_beside(&target, content, existing.as_ref(), mode_if_new).map_err(failed)?;
    temporary.persist(&target).map_err(|error| failed(error.error))?;
    sync_directory(&directory).map_err(failed)
}

/// Creates a file with exactly this mode, whatever the umask is.
///
/// Whatever has that name already is an error and stays as it is, unless `force`: then it is replaced as
/// [`replace`] does, links followed, and gets the mode; a pipe or a device is written into.
///
/// # Errors
///
/// There is a file already, or the system refuses.
pub fn create(path: &Path, content: &[u8], mode: u32, force: bool) -> Result<(), WriteError> {
    let failed = |source| WriteError::Io { path: path.to_owned(), source };
    let target = if force {
        if let Some(stream) = open_stream(path).map_err(failed)? {
            return write_into(stream, content).map_err(failed);
        }
        let target = follow_links(path).map_err(failed)?;
        existing(path, &target)?;
        target
    } else if path.symlink_metadata().is_ok() {
        return Err(WriteError::Exists(path.to_owned()));
    } else {
        path.to_owned()
    };
    let (directory, _) = split(&target).map_err(failed)?;
    let temporary = write_beside(&target, content, None, mode).map_err(failed)?;
    temporary.as_file().set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
    if force {
        temporary.persist(&target).map_err(|error| failed(error.error))?;
    } else {
        temporary.persist_noclobber(&target).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => WriteError::Exists(path.to_owned()),
            _ => failed(error.error),
        })?;
    }
    sync_directory(&directory).map_err(failed)
}

/// The regular file that is to be replaced, if there is one.
fn existing(path: &Path, target: &Path) -> Result<Option<Metadata>, WriteError> {
    match fs::metadata(target) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata)),
        Ok(_) => Err(WriteError::NotAFile(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(WriteError::Io { path: path.to_owned(), source }),
    }
}

/// What a path leads to if it is no file that could be replaced: a pipe, a device, an open file.
fn open_stream(path: &Path) -> io::Result<Option<File>> {
    if let Some(number) = descriptor(path) {
        // A second descriptor of the same open file goes on where the others are, and works for sockets.
        return match number.as_str() {
            "1" => io::stdout().as_fd().try_clone_to_owned().map(|own| Some(own.into())),
            "2" => io::stderr().as_fd().try_clone_to_owned().map(|own| Some(own.into())),
            _ => OpenOptions::new().append(true).open(path).map(Some),
        };
    }
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => {
            OpenOptions::new().write(true).open(path).map(Some)
        }
        _ => Ok(None),
    }
}

/// The number of the open file of this process that a path names, as `/dev/stdout` and `/dev/fd/3` do. Such a
/// link looks like one to a path but leads to the open file itself.
fn descriptor(path: &Path) -> Option<String> {
    let open_files = fs::canonicalize("/proc/self/fd").ok()?;
    let mut path = path.to_owned();
    for _ in 0..LINKS_FOLLOWED {
        let (directory, name) = split(&path).ok()?;
        let link = fs::read_link(&path).ok()?;
        if fs::canonicalize(&directory).is_ok_and(|directory| directory == open_files) {
            return name.into_string().ok();
        }
        path = directory.join(link);
    }
    None
}

/// There is nothing to sync: what a pipe or a device was given, it has.
fn write_into(mut stream: File, content: &[u8]) -> io::Result<()> {
    stream.write_all(content)
}

/// The file at the end of a chain of symbolic links; it need not exist.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_FOLLOWED {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => {
                let link = fs::read_link(&path)?;
                path = path.parent().unwrap_or(Path::new("")).join(link);
            }
            _ => return Ok(path),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

fn split(path: &Path) -> io::Result<(PathBuf, OsString)> {
    let name = path.file_name().ok_or_else(|| io::Error::other("the path ends in no file name"))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((directory, name.to_owned()))
}

fn write_beside(
    target: &Path,
    content: &[u8],
    like: Option<&Metadata>,
    mode_if_new: u32,
) -> io::Result<NamedTempFile> {
    let (directory, name) = split(target)?;
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    // Until it has its content, the file is nobody else's, even where the one it replaces is open to all.
    let mode = if like.is_some() { mode_if_new & 0o600 } else { mode_if_new };
    // Opened and written without tempfile's own functions, which put the temporary name into their errors.
    let mut temporary = tempfile::Builder::new()
        .prefix(&prefix)
        .make_in(directory, |path| OpenOptions::new().write(true).create_new(true).mode(mode).open(path))?;
    temporary.as_file_mut().write_all(content)?;
    if let Some(like) = like {
        take_over(temporary.as_file(), like)?;
    }
    temporary.as_file().sync_all()?;
    Ok(temporary)
}

/// Owner first: a change of owner clears set-id bits, which the mode then restores. A group or owner that
/// the system will not give leaves the file to its writer, without the rights that only the lost group had.
fn take_over(file: &File, like: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    let mut mode = like.mode() & PERMISSIONS;
    if own.uid() != like.uid() && fchown(file, Some(like.uid()), None).is_err() {
        mode &= 0o0777;
    }
    if own.gid() != like.gid() && fchown(file, None, Some(like.gid())).is_err() {
        mode = without_group(mode);
    }
    file.set_permissions(Permissions::from_mode(mode))
}

/// A mode for a file that another group has now: that group gets at most what everybody has.
fn without_group(mode: u32) -> u32 {
    mode & (0o0707 | ((mode & 0o7) << 3))
}

/// Some file systems cannot sync a directory and say so; there is nothing more to do on them.
fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").mode() & PERMISSIONS
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("secrets.yaml");
        fs::write(&file, "old and longer").expect("written");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("set");
        let before = fs::metadata(&file).expect("exists").ino();
        replace(&file, b"new", 0o600).expect("replaced");
        assert_eq!(fs::read(&file).expect("readable"), b"new");
        assert_eq!(mode(&file), 0o640);
        assert_ne!(fs::metadata(&file).expect("exists").ino(), before, "written in place");
        assert_eq!(names(directory.path()), ["secrets.yaml"]);
    }

    #[test]
    fn a_new_file_gets_the_given_mode() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("new");
        replace(&file, b"x", 0o600).expect("created");
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn a_link_stays_and_the_file_behind_it_is_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let real = directory.path().join("real");
        let deep = directory.path().join("deep");
        fs::create_dir(&deep).expect("made");
        fs::write(&real, "old").expect("written");
        symlink("../real", deep.join("second")).expect("linked");
        symlink("deep/second", directory.path().join("first")).expect("linked");
        replace(&directory.path().join("first"), b"new", 0o600).expect("replaced");
        assert_eq!(fs::read(&real).expect("readable"), b"new");
        assert!(fs::symlink_metadata(directory.path().join("first")).expect("there").is_symlink());
        symlink("not-yet", directory.path().join("dangling")).expect("linked");
        replace(&directory.path().join("dangling"), b"made", 0o600).expect("created");
        assert_eq!(fs::read(directory.path().join("not-yet")).expect("readable"), b"made");
    }

    #[test]
    fn loops_directories_and_missing_directories_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        symlink("b", path("a")).expect("linked");
        symlink("a", path("b")).expect("linked");
        assert!(matches!(replace(&path("a"), b"", 0o600), Err(WriteError::Io { .. })));
        assert!(matches!(replace(directory.path(), b"", 0o600), Err(WriteError::NotAFile(_))));
        let error = replace(&path("no/such"), b"", 0o600).expect_err("no directory").to_string();
        assert!(error.contains("no/such"), "{error}");
        assert!(matches!(create(directory.path(), b"", 0o600, true), Err(WriteError::NotAFile(_))));
    }

    #[test]
    fn create_never_overwrites_unless_forced() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("key");
        create(&file, b"one", 0o600, false).expect("created");
        assert!(matches!(create(&file, b"two", 0o600, false), Err(WriteError::Exists(_))));
        assert_eq!(fs::read(&file).expect("readable"), b"one");
        fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("set");
        create(&file, b"three", 0o600, true).expect("forced");
        assert_eq!((fs::read(&file).expect("readable"), mode(&file)), (b"three".to_vec(), 0o600));
        symlink("nowhere", directory.path().join("link")).expect("linked");
        let link = directory.path().join("link");
        assert!(matches!(create(&link, b"x", 0o600, false), Err(WriteError::Exists(_))));
    }

    #[test]
    fn create_sets_the_mode_whatever_the_umask() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("key");
        create(&file, b"", 0o666, false).expect("created");
        assert_eq!(mode(&file), 0o666);
    }

    #[test]
    fn pipes_and_devices_are_written_into_and_stay_what_they_are() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        symlink("/dev/null", path("null")).expect("linked");
        replace(&path("null"), b"x", 0o600).expect("written");
        create(&path("null"), b"x", 0o600, true).expect("written");
        assert!(matches!(create(&path("null"), b"x", 0o600, false), Err(WriteError::Exists(_))));
        assert!(fs::symlink_metadata(path("null")).expect("there").is_symlink());

        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        symlink("pipe", path("to-pipe")).expect("linked");
        // Open at both ends, so that no writer waits.
        let mut pipe = OpenOptions::new().read(true).write(true).open(path("pipe")).expect("opened");
        replace(&path("to-pipe"), b"one", 0o600).expect("written");
        create(&path("pipe"), b"two", 0o600, true).expect("written");
        let mut read = [0; 6];
        io::Read::read_exact(&mut pipe, &mut read).expect("read");
        assert_eq!(&read, b"onetwo");
        assert_eq!(names(directory.path()), ["null", "pipe", "to-pipe"]);
    }

    #[test]
    fn an_open_file_is_written_into_where_it_is() {
        use std::io::{Read, Seek};
        use std::os::fd::AsRawFd;
        let mut open = tempfile::tempfile().expect("a file");
        open.write_all(b"before, ").expect("written");
        let path = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        replace(&path, b"after", 0o600).expect("written");
        let mut text = String::new();
        open.rewind().and_then(|()| open.read_to_string(&mut text)).expect("read");
        assert_eq!(text, "before, after");
    }

    #[test]
    fn a_forced_creation_follows_a_link_and_sets_the_mode() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        fs::write(path("real"), "old").expect("written");
        fs::set_permissions(path("real"), Permissions::from_mode(0o644)).expect("set");
        symlink("real", path("link")).expect("linked");
        create(&path("link"), b"new", 0o600, true).expect("forced");
        assert!(fs::symlink_metadata(path("link")).expect("there").is_symlink());
        assert_eq!(
            (fs::read(path("real")).expect("readable"), mode(&path("real"))),
            (b"new".to_vec(), 0o600)
        );
        symlink("not-yet", path("dangling")).expect("linked");
        create(&path("dangling"), b"made", 0o600, true).expect("forced");
        assert_eq!(fs::read(path("not-yet")).expect("readable"), b"made");
    }

    #[test]
    fn errors_do_not_name_the_temporary_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("none/key");
        for error in [replace(&file, b"", 0o600), create(&file, b"", 0o600, true)] {
            let error = error.expect_err("no directory").to_string();
            assert!(!error.contains(".key.") && !error.contains("at path"), "{error}");
            assert!(error.contains("none/key: No such file"), "{error}");
        }
    }

    #[test]
    fn another_group_gets_at_most_what_everybody_has() {
        let modes = [0o644, 0o664, 0o640, 0o751, 0o2755].map(without_group);
        assert_eq!(modes, [0o644, 0o644, 0o600, 0o711, 0o755]);
    }
}

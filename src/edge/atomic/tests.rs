//! What replacing and creating files keeps and refuses.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, symlink};

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("exists").mode() & 0o7777
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
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
    assert_eq!((fs::read(path("real")).expect("readable"), mode(&path("real"))), (b"new".to_vec(), 0o600));
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
fn a_swap_happens_only_while_the_old_is_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("s.yaml");
    assert!(!swap(&file, Some(b"old"), b"new", 0o600).expect("asked"), "there is none");
    assert!(swap(&file, None, b"old", 0o640).expect("made"));
    assert_eq!(mode(&file) & !0o640, 0, "what the umask leaves of the mode");
    assert!(!swap(&file, None, b"new", 0o600).expect("asked"), "there is one");
    assert!(!swap(&file, Some(b"other"), b"new", 0o600).expect("asked"));
    assert_eq!(fs::read(&file).expect("there"), b"old");
    assert!(swap(&file, Some(b"old"), b"new", 0o600).expect("swapped"));
    assert_eq!(fs::read(&file).expect("there"), b"new");
    assert_eq!(names(directory.path()), ["s.yaml"]);
}

#[test]
fn swaps_by_every_name_of_a_file_come_one_after_the_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    fs::write(path("real"), "").expect("written");
    symlink("real", path("link")).expect("linked");
    fs::hard_link(path("real"), path("other")).expect("linked");
    std::thread::scope(|scope| {
        for name in ["real", "link", "other", "real"] {
            let file = path(name);
            scope.spawn(move || {
                for _ in 0..25 {
                    loop {
                        let before = read_locked(&file).expect("read");
                        let after = [&before[..], b"x"].concat();
                        if swap(&file, Some(&before), &after, 0o600).expect("written") {
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(fs::read(path("real")).expect("there").len(), 100);
    assert_eq!(fs::metadata(path("other")).expect("there").nlink(), 2, "the links stay");
    assert_eq!(names(directory.path()), ["link", "other", "real"]);
}

#[test]
fn further_names_and_attributes_stay() {
    use xattr::FileExt as _;
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    fs::write(path("one"), "old").expect("written");
    fs::hard_link(path("one"), path("two")).expect("linked");
    replace(&path("one"), b"longer than before", 0o600).expect("replaced");
    replace(&path("one"), b"new", 0o600).expect("replaced");
    assert_eq!(fs::read(path("two")).expect("there"), b"new");
    fs::remove_file(path("two")).expect("removed");
    let open = File::open(path("one")).expect("opened");
    if open.set_xattr("user.note", b"kept").is_err() {
        eprintln!("skipped: no extended attributes in {}", directory.path().display());
        return;
    }
    let before = fs::metadata(path("one")).expect("there").ino();
    replace(&path("one"), b"newer", 0o600).expect("replaced");
    assert_ne!(fs::metadata(path("one")).expect("there").ino(), before, "written in place");
    assert_eq!(xattr::get(path("one"), "user.note").expect("read").as_deref(), Some(&b"kept"[..]));
    create(&path("one"), b"plain", 0o600, true).expect("forced");
    assert_eq!(xattr::get(path("one"), "user.note").expect("read"), None, "a new file");
}

/// What a kill in the middle of a write leaves: a file that is not whole, and the directory with the whole of it.
fn broken_off(directory: &Path, holds: &str) -> (PathBuf, PathBuf) {
    let left = directory.join(".civm-tmp-left");
    fs::create_dir_all(left.join("whole")).expect("made");
    fs::set_permissions(&left, Permissions::from_mode(0o700)).expect("set");
    fs::write(left.join(".gitignore"), "*\n").expect("written");
    fs::write(left.join("whole/s.yaml"), "all of it").expect("written");
    let file = directory.join("s.yaml");
    fs::write(&file, holds).expect("written");
    (file, left)
}

#[test]
fn a_write_that_was_broken_off_is_finished() {
    for (holds, wanted) in [
        ("", "all of it"),
        ("all", "all of it"),
        ("all of it", "all of it"),
        // Somebody else has written since.
        ("other", "other"),
        ("all of it, and more", "all of it, and more"),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, left) = broken_off(directory.path(), holds);
        sweep(directory.path());
        assert_eq!(fs::read_to_string(&file).expect("there"), wanted, "{holds}");
        assert!(!left.exists(), "{holds}");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let (file, left) = broken_off(directory.path(), "");
    fs::remove_file(&file).expect("removed");
    sweep(directory.path());
    assert!(!file.exists() && !left.exists(), "who removed it wanted it gone");
    let directory = tempfile::tempdir().expect("a directory");
    let (file, left) = broken_off(directory.path(), "");
    fs::write(directory.path().join("other"), "").expect("written");
    fs::remove_file(&file).expect("removed");
    symlink("other", &file).expect("linked");
    sweep(directory.path());
    assert_eq!(fs::read(directory.path().join("other")).expect("there"), b"", "a link is not followed");
    assert!(left.exists(), "it is not finished");
}

#[test]
fn what_a_project_brings_along_under_that_name_is_nothing_to_finish() {
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("key"), "not of the project").expect("written");
    // As git checks it out.
    let directory = tempfile::tempdir().expect("a directory");
    let (file, left) = broken_off(directory.path(), "");
    fs::set_permissions(&left, Permissions::from_mode(0o755)).expect("set");
    sweep(directory.path());
    assert!(fs::read(&file).expect("there").is_empty() && left.exists());
    // Links lead nowhere, whatever the mode is.
    for link_directory in [false, true] {
        let directory = tempfile::tempdir().expect("a directory");
        let (_, left) = broken_off(directory.path(), "");
        let whole = left.join("whole");
        fs::remove_dir_all(&whole).expect("removed");
        let file = directory.path().join("key");
        fs::write(&file, "").expect("written");
        if link_directory {
            symlink(outside.path(), &whole).expect("linked");
        } else {
            fs::create_dir(&whole).expect("made");
            symlink(outside.path().join("key"), whole.join("key")).expect("linked");
        }
        sweep(directory.path());
        assert!(fs::read(&file).expect("there").is_empty(), "read through a link");
        assert!(outside.path().join("key").exists());
    }
}

#[test]
fn a_write_under_way_is_left_alone_and_a_dead_one_goes_with_the_next() {
    let directory = tempfile::tempdir().expect("a directory");
    let living = Staging::make(directory.path()).expect("made");
    let mut plain = living.file(0o600).expect("made");
    plain.write_all(b"hush").expect("written");
    let (file, left) = broken_off(directory.path(), "old");
    fs::remove_dir_all(left.join("whole")).expect("removed");
    replace(&file, b"new", 0o600).expect("replaced");
    assert!(!left.exists());
    assert_eq!(names(directory.path()).len(), 2, "the living one and the file");
    drop(living);
    assert_eq!(names(directory.path()), ["s.yaml"]);
}

#[test]
fn an_update_writes_only_what_is_different() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let inode = || path.metadata().unwrap().ino();
    update(&path, b"one", 0o600).unwrap();
    let first = inode();
    update(&path, b"one", 0o600).unwrap();
    assert_eq!(inode(), first);
    update(&path, b"two", 0o600).unwrap();
    assert_ne!(inode(), first);
    assert_eq!(fs::read(&path).unwrap(), b"two");
}

#[test]
fn files_whose_directory_is_synced_later_are_there_at_once_and_nothing_is_left_beside_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |number: usize| directory.path().join(format!("{number:02}"));
    (0..32).for_each(|number| fs::write(path(number), "old").expect("written"));
    let unsynced = Unsynced::default();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (unsynced, path) = (&unsynced, &path);
            scope.spawn(move || {
                for number in (thread * 4)..(thread * 4 + 4) {
                    assert!(swap_unsynced(&path(number), b"old", b"new", 0o600, unsynced).expect("written"));
                    assert_eq!(fs::read(path(number)).expect("read"), b"new");
                    assert!(
                        !swap_unsynced(&path(number), b"old", b"newer", 0o600, unsynced).expect("refused")
                    );
                }
            });
        }
    });
    let directories = unsynced.directories();
    assert_eq!(directories.len(), 1, "one sync for all of them");
    assert!(directories.into_iter().flat_map(UnsyncedDirectory::sync).next().is_none());
    assert_eq!(names(directory.path()).len(), 32);
}

#[test]
fn a_content_that_goes_on_is_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    for (holds, expected) in [("old and more", "old"), ("ol", "old"), ("", "old"), ("old", "")] {
        fs::write(&file, holds).expect("written");
        assert!(!swap(&file, Some(expected.as_bytes()), b"new", 0o600).expect("looked"), "{holds}");
        assert_eq!(fs::read_to_string(&file).expect("read"), holds);
    }
    fs::write(&file, "").expect("written");
    assert!(swap(&file, Some(b""), b"new", 0o600).expect("looked"));
    assert_eq!(names(directory.path()), ["file"]);
}

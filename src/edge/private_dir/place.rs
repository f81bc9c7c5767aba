//! The places that private directories are made in: each is a directory of this user alone.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::unistd::Uid;

use super::Refused;
use crate::edge::environment::Environment;
use crate::edge::held_dir::{NAME_LEN, is_named, open, try_lock};
use crate::edge::lock::Lock;

/// Longest path of a place, in bytes, below which ssh still has room for the control socket of root: 90
/// bytes at most (unix(7) has 107, ssh appends 17 while it makes one). Every other socket is shorter by far.
pub(super) const BASE_MAX: usize = 90 - "/ssh-root".len() - NAME_LEN - "/".len();
/// How often to try again if others remove a place as it is made.
const TRIES: u32 = 100;

/// The directories of the machine that may hold a place in memory, in the order of preference, with the
/// place in each.
fn shared(environment: &Environment) -> Vec<(PathBuf, PathBuf)> {
    let mut shared: Vec<(PathBuf, PathBuf)> = Vec::new();
    let runtime = environment.non_empty("XDG_RUNTIME_DIR").map(PathBuf::from);
    for directory in runtime.into_iter().chain([PathBuf::from(format!("/run/user/{}", Uid::effective()))]) {
        if !shared.iter().any(|(known, _)| *known == directory) {
            shared.push((directory.clone(), directory.join("civm")));
        }
    }
    shared
}

/// Where every user may make a place in memory that needs no session.
const SHM: &str = "/dev/shm";

/// The name of that place. Anybody can guess it, and take it before its user does.
fn shm_name() -> String {
    format!("civm-{}", Uid::effective())
}

/// Places of this user's with names that nobody could guess, made where the other name was taken.
fn hidden_bases(directory: &Path) -> Vec<PathBuf> {
    let prefix = format!("{}-", shm_name());
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let named = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    named.map(|entry| entry.path()).filter(|path| check_own(path).is_ok()).collect()
}

/// The place in this directory: the one that anybody can name, if it is ours, else one that nobody could take.
fn find_shm(directory: &Path) -> Result<PathBuf, Refused> {
    let base = directory.join(shm_name());
    // Before anything is made there.
    let memory = open(directory).map_err(|error| plain(&error)).and_then(|directory| tmpfs(&directory));
    if let Err(reason) = memory {
        return Err(Refused { place: base, reason });
    }
    let Err(reason) = check_tmpfs(&base, true) else { return Ok(base) };
    if let Some(hidden) = hidden_bases(directory).into_iter().find(|base| check_tmpfs(base, false).is_ok()) {
        return Ok(hidden);
    }
    let made = tempfile::Builder::new()
        .prefix(&format!("{}-", shm_name()))
        .rand_bytes(NAME_LEN)
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(directory);
    match made {
        Ok(made) if check_tmpfs(made.path(), false).is_ok() => Ok(made.keep()),
        _ => Err(Refused { place: base, reason }),
    }
}

/// The place on a disk, if there is no better one.
pub(super) fn temporary_base(environment: &Environment) -> PathBuf {
    environment.temp_dir().join(format!("civm-{}", Uid::effective()))
}

/// Whether a directory is called as a place in memory is.
pub(super) fn is_called_so(base: &Path) -> bool {
    let name = base.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let shm = shm_name();
    name == "civm" || name == shm || name.starts_with(&format!("{shm}-"))
}

/// Every place that may have something of this user in it.
pub(super) fn bases(environment: &Environment) -> Vec<PathBuf> {
    let mut bases: Vec<PathBuf> = shared(environment).into_iter().map(|(_, base)| base).collect();
    bases.push(Path::new(SHM).join(shm_name()));
    bases.extend(hidden_bases(Path::new(SHM)));
    bases.push(temporary_base(environment));
    bases
}

/// The first usable place, and those before it with what is wrong with them.
pub(super) fn find_base(environment: &Environment) -> (Option<PathBuf>, Vec<Refused>) {
    let mut refused: Vec<Refused> = Vec::new();
    for (place, base) in shared(environment) {
        let checked = check_length(&base).and_then(|()| check_tmpfs(&place, false));
        match checked.and_then(|()| check_tmpfs(&base, true)) {
            Ok(()) => return (Some(base), refused),
            Err(reason) => refused.push(Refused { place, reason }),
        }
    }
    match find_shm(Path::new(SHM)) {
        Ok(base) => (Some(base), refused),
        Err(shm) => {
            refused.push(shm);
            (None, refused)
        }
    }
}

/// Sockets of an instance are made below.
fn check_length(base: &Path) -> Result<(), String> {
    if base.as_os_str().len() > BASE_MAX { Err("path too long for a socket".into()) } else { Ok(()) }
}

/// Opens a place so that nobody removes it while the value lives; makes it where it has just gone.
///
/// A place that is ours stays ours while it is there: those of its kind lie in directories where others
/// cannot rename it.
pub(super) fn hold(base: &Path, on_tmpfs: bool) -> io::Result<Lock> {
    for _ in 0..TRIES {
        let Some(held) = open_held(base, on_tmpfs)? else { continue };
        return Ok(held);
    }
    Err(unsteady())
}

fn open_held(base: &Path, on_tmpfs: bool) -> io::Result<Option<Lock>> {
    let directory = make_and_open(base)?;
    owned(&directory)
        .and_then(|()| if on_tmpfs { tmpfs(&directory) } else { Ok(()) })
        .map_err(io::Error::other)?;
    let held = Lock::share(directory)?;
    Ok(is_named(held.file(), base)?.then_some(held))
}

/// Opens a directory, made with mode 0700 where there is none. Others may remove it in between.
fn make_and_open(path: &Path) -> io::Result<File> {
    for _ in 0..TRIES {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        match open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
    }
    Err(unsteady())
}

fn unsteady() -> io::Error {
    io::Error::other("it is removed as soon as it is made")
}

/// Removes a place with nothing in it that nobody holds.
pub(super) fn remove(base: &Path) {
    if let Ok(Some(_lock)) = try_lock(base) {
        // Refused where something is in it.
        let _ = fs::remove_dir(base);
    }
}

/// A tmpfs directory that is ours alone; `make` creates it first.
pub(super) fn check_tmpfs(path: &Path, make: bool) -> Result<(), String> {
    let directory = if make { open_own(path)? } else { check_own(path)? };
    tmpfs(&directory)
}

fn tmpfs(directory: &File) -> Result<(), String> {
    let system = fstatfs(directory).map_err(|error| error.desc().to_lowercase())?;
    if system.filesystem_type() == TMPFS_MAGIC { Ok(()) } else { Err("not a tmpfs".into()) }
}

/// Makes a directory of mode 0700 unless there is one, then checks it.
pub(super) fn open_own(path: &Path) -> Result<File, String> {
    let directory = make_and_open(path).map_err(|error| plain(&error))?;
    owned(&directory)?;
    Ok(directory)
}

/// Opens a directory without following a link in its last part, and checks owner and mode on what was opened.
pub(super) fn check_own(path: &Path) -> Result<File, String> {
    let directory = open(path).map_err(|error| plain(&error))?;
    owned(&directory)?;
    Ok(directory)
}

fn owned(directory: &File) -> Result<(), String> {
    let metadata = directory.metadata().map_err(|error| plain(&error))?;
    if metadata.uid() != Uid::effective().as_raw() {
        return Err(format!("belongs to user {}", metadata.uid()));
    }
    match metadata.mode() & 0o7777 {
        0o700 => Ok(()),
        mode => Err(format!("has mode {mode:04o}, not 0700")),
    }
}

/// An error's words, without the number that `io::Error` adds.
fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_somebody_else_has_taken_leads_to_one_that_nobody_could() {
        let Ok(directory) = tempfile::tempdir_in(SHM) else {
            eprintln!("skipped: no {SHM}");
            return;
        };
        let taken = directory.path().join(shm_name());
        // Another user's directory is refused like one that others may enter.
        DirBuilder::new().create(&taken).expect("made");
        fs::set_permissions(&taken, fs::Permissions::from_mode(0o777)).expect("open to all");
        let base = find_shm(directory.path()).expect("a place all the same");
        assert_ne!(base, taken);
        assert_eq!(base.metadata().expect("it is there").mode() & 0o7777, 0o700);
        assert_eq!(find_shm(directory.path()).expect("a place"), base, "the next one finds it");
        assert_eq!(hidden_bases(directory.path()), [base], "and so does who sweeps");
        fs::set_permissions(&taken, fs::Permissions::from_mode(0o700)).expect("ours alone");
        assert_eq!(find_shm(directory.path()).expect("a place"), taken);
    }
}

//! The plaintext of a sops file, as a file for one program.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::process::ExitStatus;

use nix::sys::memfd::{MFdFlags, memfd_create};
use zeroize::Zeroizing;

use super::super::error::Error;
use super::Run;
use crate::edge::atomic::{self, WriteError};
use crate::edge::fifo::Fifo;
use crate::edge::foreground::Foreground;
use crate::edge::private_dir::{PrivateDir, Refused};

/// The default name, as in sops.
const NAME: &str = "tmp-file";

/// What kind of file the program gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A named pipe, whose content is stored nowhere.
    Fifo,
    /// A regular file, in memory if possible.
    Regular,
}

/// The file that the program gets.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its kind.
    pub shape: Shape,
    /// Its name in a directory of its own.
    pub name: Option<PathBuf>,
}

/// Runs a program with a plaintext in a file, whose path replaces every `{}`, and returns its exit status; `None` if
/// it runs in the background. Signals are passed on to the program, and the file is removed when it ends, however that
/// happens. `on_disk` is called if a regular file cannot be kept in memory.
///
/// # Errors
/// A name that leads elsewhere; no such user; the file cannot be created; the program cannot be started.
pub fn with_file(
    run: &Run<'_>,
    plaintext: Zeroizing<Vec<u8>>,
    place: &Place,
    on_disk: &dyn Fn(&[Refused]),
) -> Result<Option<ExitStatus>, Error> {
    let name = place.name.as_deref().unwrap_or(Path::new(NAME));
    let local = name.components().all(|part| matches!(part, Component::Normal(_)));
    if !local || name.file_name().is_none() {
        return Err(Error::NotLocal(name.to_path_buf()));
    }
    let account = run.account()?;
    let start = |path: &OsStr, foreground| {
        run.start(run.command(&run.program.with_path(path), account.as_ref())?, foreground)
    };
    let foreground = Foreground::watch().map_err(|source| run.failed(source))?;
    if run.background {
        // Nobody stays to serve a pipe or to remove a file: this one disappears when the last process closes it.
        let (path, _open) = anonymous(&plaintext).map_err(|source| write_error(name, source))?;
        return start(path.as_os_str(), foreground);
    }
    // Only a parent that handles signals itself can clean up after the program.
    let dir = PrivateDir::in_memory_if_possible(run.environment)?;
    let path = dir.path().join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|source| write_error(&path, source))?;
    }
    match place.shape {
        Shape::Fifo => {
            let _served =
                Fifo::serve(path.clone(), plaintext).map_err(|source| write_error(&path, source))?;
            start(path.as_os_str(), foreground)
        }
        Shape::Regular => {
            if !dir.on_tmpfs() {
                on_disk(dir.refused());
            }
            atomic::create(&path, &plaintext, 0o600, false)?;
            start(path.as_os_str(), foreground)
        }
    }
}

fn write_error(path: &Path, source: io::Error) -> Error {
    Error::Write(WriteError::Io { path: path.to_path_buf(), source })
}

/// A file without a name, which the program inherits, and the path under which it finds it.
fn anonymous(content: &[u8]) -> io::Result<(PathBuf, OwnedFd)> {
    let open = memfd_create(NAME, MFdFlags::empty())?;
    let mut file = fs::File::from(open);
    file.write_all(content)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    Ok((path, file.into()))
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::super::Program;
    use super::*;
    use crate::edge::environment::Environment;

    #[test]
    fn a_program_left_to_itself_finds_its_file_after_all() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("out");
        let environment = Environment::of_process().with("OUT", &out);
        let run = Run {
            program: Program::Line("sleep 0.2; cat {} {} > \"$OUT.part\"; mv \"$OUT.part\" \"$OUT\"".into()),
            environment: &environment,
            pristine: false,
            user: None,
            background: true,
        };
        let place = Place { shape: Shape::Fifo, name: None };
        let ended = with_file(&run, Zeroizing::new(b"hush\n".to_vec()), &place, &|_| {}).expect("started");
        assert!(ended.is_none() && !out.exists(), "nobody waits");
        let end = Instant::now() + Duration::from_secs(20);
        while !out.exists() && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(fs::read(&out).expect("written"), b"hush\nhush\n");
    }
}

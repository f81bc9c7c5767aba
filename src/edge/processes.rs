//! Who has a file open, as far as `/proc` tells this user.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A process, in words: `process 42 (qemu-system-x86)`.
fn named(pid: u32, directory: &Path) -> String {
    let name = fs::read_to_string(directory.join("comm")).unwrap_or_default();
    format!("process {pid} ({})", name.trim())
}

/// All processes that can be seen: number and directory below `/proc`.
fn all() -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

/// Whether a process has an open file that is looked for.
fn has_open(directory: &Path, is_wanted: impl Fn(&Path) -> bool) -> bool {
    open_files(directory).any(|fd| is_wanted(&fd))
}

/// The links of a process's `fd` directory.
fn open_files(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory.join("fd")).into_iter().flatten().flatten().map(|fd| fd.path())
}

/// The links in `fd` directories that lead to a file, of the processes whose names begin with one of these words.
pub fn links_to<'a>(file: &'a Path, names: &'a [&str]) -> impl Iterator<Item = PathBuf> + 'a {
    let is_named = move |directory: &Path| {
        let name = fs::read_to_string(directory.join("comm")).unwrap_or_default();
        names.iter().any(|word| name.starts_with(word))
    };
    let open = all()
        .filter(move |(_, directory)| is_named(directory))
        .flat_map(|(_, directory)| open_files(&directory));
    open.filter(move |link| fs::read_link(link).is_ok_and(|target| target == file))
}

/// The first process with an open file that is looked for, in words. It is given the process's number and the link in
/// its `fd` directory.
pub fn first_with(is_wanted: impl Fn(u32, &Path) -> bool) -> Option<String> {
    let (pid, directory) = all().find(|(pid, directory)| has_open(directory, |fd| is_wanted(*pid, fd)))?;
    Some(named(pid, &directory))
}

/// The processes, but for this one, that have a file below a directory open or name it in their arguments.
#[must_use]
pub fn using(dir: &Path) -> Vec<String> {
    let text = [dir.as_os_str().as_bytes(), b"/"].concat();
    let names = |directory: &Path| {
        let arguments = fs::read(directory.join("cmdline")).unwrap_or_default();
        arguments.windows(text.len()).any(|part| part == text)
    };
    let below = |fd: &Path| fs::read_link(fd).is_ok_and(|file| file.starts_with(dir));
    let users = all().filter(|(pid, directory)| {
        *pid != std::process::id() && (names(directory) || has_open(directory, below))
    });
    users.map(|(pid, directory)| named(pid, &directory)).collect()
}

/// The processes, but for this one, that run a program.
#[must_use]
pub fn running(program: &Path) -> Vec<String> {
    let runs = |directory: &Path| fs::read_link(directory.join("exe")).is_ok_and(|exe| exe == program);
    let users = all().filter(|(pid, directory)| *pid != std::process::id() && runs(directory));
    users.map(|(pid, directory)| named(pid, &directory)).collect()
}

#[cfg(test)]
mod tests {
    use super::{running, using};
    use std::fs::File;
    use std::process::{Command, Stdio};

    #[test]
    fn who_has_a_file_open_or_names_it_uses_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        File::create(&path).unwrap();
        assert_eq!(using(directory.path()), [""; 0]);
        let run = |command: &mut Command| command.stdout(Stdio::null()).spawn().unwrap();
        let mut open = run(Command::new("sleep").arg("60").stdin(File::open(&path).unwrap()));
        // A child is this very program until it runs its own.
        let mut names = run(Command::new("tail").arg("-f").arg(&path));
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let wanted = [open.id(), names.id()].map(|pid| format!("process {pid} ("));
        let both = || {
            let users = using(directory.path());
            wanted.iter().all(|wanted| users.iter().any(|user| user.starts_with(wanted)))
        };
        while !both() {
            assert!(std::time::Instant::now() < until, "{:?}", using(directory.path()));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let sleep = std::fs::read_link(format!("/proc/{}/exe", open.id())).unwrap();
        assert!(running(&sleep).iter().any(|user| user.starts_with(&wanted[0])));
        assert_eq!(running(&path), [""; 0]);
        for child in [&mut open, &mut names] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(using(directory.path()), [""; 0]);
    }
}

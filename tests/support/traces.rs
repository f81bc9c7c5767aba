//! What instances leave behind: processes, the key that was staged, locks, and files that no run leaves.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How many moments a test of kills tries: so many, unless `CIVM_POINTS` says another number.
pub fn points(usual: u32) -> u32 {
    std::env::var("CIVM_POINTS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// The living processes that belong to one state directory.
pub struct Processes {
    mark: String,
    /// Those that were seen: number and start.
    seen: RefCell<BTreeSet<(i32, u64)>>,
}

impl Processes {
    /// Those that have `mark` in their arguments, as callers and stages have. The machines are the supervisors'
    /// children: one that runs as a user of its own is given no path.
    pub fn of(mark: &Path) -> Self {
        Self { mark: mark.to_string_lossy().into_owned(), seen: RefCell::default() }
    }

    /// Number and arguments. Whoever was seen once is looked for ever after.
    pub fn living(&self) -> Vec<(Pid, String)> {
        let mut found = Vec::new();
        let mut rest = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // Those of a dead process that nobody has waited for yet are empty.
            let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
            let Some((parent, started)) = parent_and_start(&entry.path()) else { continue };
            if arguments.contains(&self.mark) || self.seen.borrow().contains(&(pid, started)) {
                found.push((pid, started, arguments));
            } else {
                rest.push((pid, parent, started, arguments));
            }
        }
        for (pid, parent, started, arguments) in rest {
            let of_stage =
                |(stage, _, text): &(i32, u64, String)| *stage == parent && text.contains("__supervisor");
            if !arguments.is_empty() && found.iter().any(of_stage) {
                found.push((pid, started, arguments));
            }
        }
        self.seen.borrow_mut().extend(found.iter().map(|(pid, started, _)| (*pid, *started)));
        let living = found.into_iter().filter(|(_, _, arguments)| !arguments.is_empty());
        living.map(|(pid, _, arguments)| (Pid::from_raw(pid), arguments)).collect()
    }

    /// Kills the process of this name if there is one.
    pub fn kill_if_there(&self, name: &str) -> bool {
        let processes = self.living();
        let victim = processes.iter().find(|(_, arguments)| arguments.contains(name));
        victim.is_some_and(|(pid, _)| kill(*pid, Signal::SIGKILL).is_ok())
    }
}

/// A process's parent and when it started.
fn parent_and_start(directory: &Path) -> Option<(i32, u64)> {
    let stat = fs::read_to_string(directory.join("stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

/// Largest file in which a key is looked for, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// The files in which a key can be read: below some directories, and in every file system in memory that this process,
/// or any other whose view it may take, has mounted.
pub fn readable_keys(key: &[u8], directories: &[PathBuf]) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = directories.to_vec();
    let mut views = BTreeSet::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let process = entry.path();
        let Ok(view) = fs::read_link(process.join("ns/mnt")) else { continue };
        if views.insert(view) {
            places.extend(memory_mounts(&process));
        }
    }
    let files = places.iter().flat_map(|place| walkdir::WalkDir::new(place).same_file_system(true)).flatten();
    let small = files.filter(|entry| {
        entry.file_type().is_file() && entry.metadata().is_ok_and(|found| found.len() <= FILE_MAX)
    });
    let has_key = |path: &PathBuf| {
        fs::read(path).is_ok_and(|bytes| bytes.windows(key.len()).any(|window| window == key))
    };
    small.map(walkdir::DirEntry::into_path).filter(has_key).collect()
}

/// Where a process sees file systems that are in memory, as seen from here.
fn memory_mounts(process: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    let mounts = text.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        let place = before.split(' ').nth(4)?.trim_start_matches('/');
        ["tmpfs", "ramfs"].contains(&kind).then(|| process.join("root").join(place))
    });
    mounts.collect()
}

/// What an instance that is down has in its directory of state; logs may have a number behind their name.
const OF_INSTANCE: [&str; 13] = [
    "instance.json",
    "request.json",
    "started.json",
    "disk.json",
    "boot.json",
    "lock",
    "supervisor.lock",
    "up.lock",
    "known_hosts",
    "ssh_host_ed25519_key",
    "console.log",
    "qemu.log",
    "events.jsonl",
];

/// What is wrong below a state directory whose instances are all down: locks that are held, and what is only there
/// while one runs or starts. Half a file that somebody was killed over is another thing: see [`partials`].
pub fn left_in_state(state: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for project in directories(&state.join("civm")) {
        let entries = walkdir::WalkDir::new(&project).min_depth(2).into_iter();
        for entry in entries.filter_entry(|entry| !is_partial(entry.path())).flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = name.split_once(".log.").map_or(name.clone(), |(log, _)| format!("{log}.log"));
            let kind = kind.split_once(".jsonl.").map_or(kind.clone(), |(log, _)| format!("{log}.jsonl"));
            if !entry.file_type().is_file() || !OF_INSTANCE.contains(&kind.as_str()) {
                left.push(format!("{} is left", entry.path().display()));
            } else if name.ends_with("lock") && is_locked(entry.path()) {
                left.push(format!("{} is held", entry.path().display()));
            }
        }
    }
    left
}

/// The halves of files below a directory. Whoever writes there next removes them.
pub fn partials(directory: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(directory).into_iter().flatten().map(walkdir::DirEntry::into_path);
    entries.filter(|path| is_partial(path)).collect()
}

fn is_partial(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".civm-tmp-"))
}

fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Which of these ports of the loopback somebody has.
pub fn taken(ports: &[u16]) -> Vec<u16> {
    let is_taken = |port: &&u16| std::net::TcpListener::bind(("127.0.0.1", **port)).is_err();
    ports.iter().filter(is_taken).copied().collect()
}

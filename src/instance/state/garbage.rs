//! What dead instances left in the state directory and in memory.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use walkdir::WalkDir;

use super::record::{FILE as RECORD, Phase, Record};
use super::view::Seen;
use super::{Home, Place, directories, try_lock};
use crate::edge::lock::is_held;
use crate::host::project::Project;
use crate::instance::error::Error;

/// Logs of an instance; rotated ones have a number behind the name.
const LOGS: [&str; 3] = ["console.log", "qemu.log", "events.jsonl"];
/// Files of an instance that say nothing once its host is gone.
const OF_HOST: [&str; 3] = [RECORD, "known_hosts", "ephemeral.qcow2"];

/// What may be removed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Logs that were written within this time are kept.
    pub keep_logs: Duration,
    /// Whether the state of hosts that do not exist any more goes, but for their keys.
    pub gone_hosts: bool,
    /// Whether the state of projects that do not exist any more goes with its keys.
    pub gone_projects: bool,
}

/// Something that nobody needs any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// A directory or file, or several files of one directory.
    pub paths: Vec<PathBuf>,
    /// What they take on the disk, in bytes.
    pub size: u64,
    /// Why they may go, as text for the user.
    pub reason: String,
    /// The dead instances that they belong to.
    places: Vec<Place>,
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As every start of an instance does it.
    Sweep,
    /// File by file.
    Files,
    /// With all that is in it.
    Tree,
}

impl Limits {
    /// Only what every start of an instance removes as well.
    pub const LEFTOVERS: Self = Self { keep_logs: Duration::MAX, gone_hosts: false, gone_projects: false };
}

impl Home {
    /// What dead instances left. What cannot be read, because another version of civm wrote it, is never among it.
    #[must_use]
    pub fn garbage(&self, limits: Limits) -> Vec<Garbage> {
        let view = self.view();
        let mut garbage = Vec::new();
        let mut gone: Vec<PathBuf> = Vec::new();
        for Seen { place, record, is_alive } in &view.seen {
            let Ok(Some(record)) = record else { continue };
            if *is_alive {
                continue;
            }
            garbage.extend(place.leftovers(record));
            let project_gone = !record.project.is_dir();
            let state = place.path.parent().unwrap_or(&place.path).to_path_buf();
            if project_gone && limits.gone_projects && may_go(&state) {
                if !gone.contains(&state) {
                    gone.push(state);
                }
                continue;
            }
            // A configuration of a flake has no host.yaml; its runner says that it is one.
            let host_gone = limits.gone_hosts && !is_host(record) && !place.runner().is_symlink();
            let age = if host_gone { Duration::ZERO } else { limits.keep_logs };
            let mut paths = place.logs(age);
            let reason = match (project_gone, host_gone) {
                (true, true) => format!("the project {} does not exist", record.project.display()),
                (false, true) => format!("{} has no host `{}`", record.project.display(), record.host),
                _ => format!("old logs of `{}`, which does not run", place.name),
            };
            if host_gone {
                let files = OF_HOST.iter().map(|name| place.path.join(name));
                paths.extend(files.filter(|path| path.symlink_metadata().is_ok()));
            }
            garbage.extend(Garbage::of(paths, reason, vec![place.clone()], Way::Files));
        }
        for state in gone {
            let of_it = view.seen.iter().filter(|seen| seen.place.path.parent() == Some(&state));
            let of_it: Vec<Place> = of_it.map(|seen| seen.place.clone()).collect();
            let reason = match of_it.first() {
                Some(place) => {
                    format!("the project {} does not exist; with its keys", place.project.display())
                }
                None => continue,
            };
            garbage.extend(Garbage::of(vec![state], reason, of_it, Way::Tree));
        }
        garbage
    }
}

impl Place {
    /// What a killed instance left in memory, and its disk where that was only for the one run.
    fn leftovers(&self, record: &Record) -> Option<Garbage> {
        let ended = record.phase == Phase::Ended;
        let disk =
            record.disk.iter().filter(|disk| !ended && record.ephemeral && disk.parent() == Some(&self.path));
        let runtime = record.runtime.iter().filter(|runtime| self.owns(runtime));
        let paths = runtime.chain(disk).filter(|path| path.symlink_metadata().is_ok());
        let reason = format!("left by `{}`, which was killed", self.name);
        Garbage::of(paths.cloned().collect(), reason, vec![self.clone()], Way::Sweep)
    }

    /// The logs that were not written to for a time.
    fn logs(&self, age: Duration) -> Vec<PathBuf> {
        let before = SystemTime::now().checked_sub(age);
        let is_log = |name: &str| LOGS.iter().any(|log| name.strip_prefix(log).is_some_and(is_rotation));
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let logs = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_log));
        let old = logs.filter(|entry| {
            let modified =
                entry.metadata().ok().filter(fs::Metadata::is_file).and_then(|found| found.modified().ok());
            modified.zip(before).is_some_and(|(modified, before)| modified <= before)
        });
        let mut old: Vec<PathBuf> = old.map(|entry| entry.path()).collect();
        old.sort();
        old
    }
}

/// What may follow a log's name: nothing, or `.1`.
fn is_rotation(rest: &str) -> bool {
    rest.is_empty() || rest.strip_prefix('.').is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Whether the host of a record is still one of its project's.
fn is_host(record: &Record) -> bool {
    Project::at(&record.project).is_ok_and(|project| project.host_file(&record.host).is_file())
}

/// Whether nothing in the state of a project is in use, or written by another version of civm.
fn may_go(state: &Path) -> bool {
    directories(state).iter().all(|path| {
        Record::load(path).is_ok() && !is_held(&path.join("lock")) && !is_held(&path.join("supervisor.lock"))
    })
}

impl Garbage {
    fn of(paths: Vec<PathBuf>, reason: String, places: Vec<Place>, way: Way) -> Option<Self> {
        let size = paths.iter().map(|path| size(path)).sum();
        (!paths.is_empty()).then_some(Self { paths, size, reason, places, way })
    }

    /// Removes it, unless an instance that it belongs to has been started meanwhile. Says whether it is gone.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self) -> Result<bool, Error> {
        if self.way == Way::Sweep {
            self.places.iter().for_each(Place::sweep);
            return Ok(!self.paths.iter().any(|path| path.exists()));
        }
        let mut locks = Vec::new();
        for place in &self.places {
            let Some(lock) = try_lock(&place.lock())? else { return Ok(false) };
            locks.push(lock);
            if is_held(&place.supervisor_lock()) {
                return Ok(false);
            }
        }
        for path in &self.paths {
            let removed =
                if self.way == Way::Tree { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.map_err(Error::file("cannot remove", path))?;
        }
        Ok(true)
    }
}

/// What a file or tree takes on the disk.
fn size(path: &Path) -> u64 {
    let entries = WalkDir::new(path).into_iter().flatten().filter_map(|entry| entry.metadata().ok());
    entries.map(|found| found.blocks() * 512).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::environment::Environment;

    struct World {
        directory: tempfile::TempDir,
        home: Home,
    }

    impl World {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let environment = Environment::empty().with("XDG_STATE_HOME", directory.path().join("state"));
            let home = Home::find(&environment).unwrap();
            Self { directory, home }
        }

        fn project(&self, name: &str, hosts: &[&str]) -> PathBuf {
            let project = self.directory.path().join(name);
            for host in hosts {
                let dir = project.join("hosts").join(host);
                fs::create_dir_all(&dir).unwrap();
                fs::write(dir.join("host.yaml"), "").unwrap();
            }
            project
        }

        /// A dead instance with logs and a host key.
        fn dead(&self, project: &Path, host: &str) -> Place {
            let place = self.home.project(project).unwrap().place(host).unwrap();
            let record = Record { phase: Phase::Ended, ..Record::new(&place, &place.name, 1) };
            record.save(&place.path).unwrap();
            for name in ["console.log", "console.log.1", "qemu.log", "ssh_host_ed25519_key", "notes.log"] {
                fs::write(place.path.join(name), "x").unwrap();
            }
            place
        }

        fn remove(&self, keep_logs: u64, gone_projects: bool) -> Vec<String> {
            let limits =
                Limits { keep_logs: Duration::from_secs(keep_logs), gone_hosts: true, gone_projects };
            let garbage = self.home.garbage(limits);
            garbage.iter().for_each(remove_once_free);
            garbage.into_iter().map(|one| one.reason).collect()
        }
    }

    /// A child that another test has just started holds the locks of this process until it runs its program.
    fn remove_once_free(one: &Garbage) {
        crate::edge::lock::wait_until_free(|| Ok(one.remove().unwrap().then_some(())));
    }

    #[test]
    fn logs_go_when_they_are_old_and_keys_and_records_stay() {
        let world = World::new();
        let project = world.project("p", &["a"]);
        let place = world.dead(&project, "a");
        assert_eq!(world.remove(3600, true), [""; 0]);
        assert_eq!(world.remove(0, true), ["old logs of `a`, which does not run"]);
        let left = |name: &str| place.path.join(name).exists();
        assert!(!left("console.log") && !left("console.log.1") && !left("qemu.log"));
        assert!(left("ssh_host_ed25519_key") && left(RECORD) && left("notes.log"));
    }

    #[test]
    fn a_host_that_is_gone_leaves_its_key_and_a_project_only_when_asked() {
        let world = World::new();
        let project = world.project("p", &["a"]);
        let place = world.dead(&project, "b");
        assert!(world.remove(3600, true)[0].ends_with("has no host `b`"));
        assert!(!place.path.join(RECORD).exists() && place.host_key().exists());
        let place = world.dead(&project, "a");
        fs::remove_dir_all(&project).unwrap();
        let living = world.project("q", &["c"]);
        let other = world.dead(&living, "c");
        let limits = Limits { keep_logs: Duration::MAX, gone_hosts: true, gone_projects: true };
        let [whole] = world.home.garbage(limits).try_into().unwrap();
        assert_eq!(whole.paths, [place.path.parent().unwrap()]);
        assert!(world.remove(3600, false)[0].ends_with("does not exist"));
        assert!(place.host_key().exists());
        remove_once_free(&whole);
        assert!(!place.path.exists() && other.path.exists());
    }

    #[test]
    fn what_lives_or_is_of_another_version_is_left_alone() {
        let world = World::new();
        let project = world.project("p", &["a"]);
        let place = world.dead(&project, "b");
        let strange = world.dead(&project, "c");
        fs::write(strange.path.join(RECORD), r#"{"version": 99, "phase": "ready"}"#).unwrap();
        let lock = try_lock(&place.lock()).unwrap();
        assert_eq!(world.remove(0, true), [""; 0]);
        fs::remove_dir_all(&project).unwrap();
        assert_eq!(world.remove(0, true), [""; 0]);
        drop(lock);
        crate::edge::lock::wait_until_free(|| Ok(try_lock(&place.lock()).unwrap()));
        assert_eq!(
            world.remove(0, true).len(),
            1,
            "without the tree, in which another version has something"
        );
        assert!(strange.path.join(RECORD).exists() && strange.path.join("qemu.log").exists());
        assert!(place.host_key().exists());
    }

    #[test]
    fn what_was_started_meanwhile_is_not_removed() {
        let world = World::new();
        let place = world.dead(&world.project("p", &["a"]), "b");
        let limits = Limits { keep_logs: Duration::ZERO, gone_hosts: true, gone_projects: false };
        let [one] = world.home.garbage(limits).try_into().unwrap();
        let _lock = try_lock(&place.lock()).unwrap();
        assert!(!one.remove().unwrap() && place.path.join("qemu.log").exists());
    }
}

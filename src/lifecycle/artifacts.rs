//! Files from the net: fetched once, checked, and kept in civm's cache by their hash.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::edge::environment::Environment;
use crate::edge::lock::Lock;
use crate::edge::{fetch, hex};
use crate::host::artifacts::Artifact;
use crate::host::layer::ARTIFACTS;
use crate::instance::plan::{Content, Staged};
use crate::lifecycle::{Error, Observer, Progress, image_cache};

/// Below civm's cache, and in the share.
const DIR: &str = "artifacts";
/// Prefix of those that are not complete.
const PARTIAL: &str = ".partial-";
/// The most bytes of one, and of all of a host: they lie in memory while its machine runs.
const ONE_MAX: u64 = 1 << 30;
const ALL_MAX: u64 = 2 << 30;
/// How often a server is asked, and how long civm waits in between.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

/// Fetches those that are not in the cache. With all of them there nothing is asked of anybody.
pub(super) fn ensure(
    artifacts: &[Artifact],
    environment: &Environment,
    observer: &mut dyn Observer,
) -> Result<(), Error> {
    if artifacts.is_empty() {
        return Ok(());
    }
    let dir = dir(environment)?;
    let failed = |source| Error::File { what: "cannot create", path: dir.clone(), source };
    fs::create_dir_all(&dir).map_err(failed)?;
    sweep(&dir);
    let mut all = 0;
    for (hash, artifact) in by_hash(artifacts) {
        let path = dir.join(hash);
        if path.is_file() {
            // When it was used last is its time; where that cannot be written down, it counts as old.
            let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        } else {
            one(artifact, &dir, environment, observer)?;
        }
        all += path.metadata().map_or(0, |found| found.len());
        if all > ALL_MAX {
            return Err(Error::Artifact {
                url: artifact.url.clone(),
                reason: format!("all artifacts of the host together are larger than {} GiB", ALL_MAX >> 30),
            });
        }
    }
    Ok(())
}

/// Removes those that no start has used for so long, unless it is a dry run: their paths and sizes.
#[must_use]
pub fn collect(environment: &Environment, unused_for: Duration, dry_run: bool) -> Vec<(PathBuf, u64)> {
    let Ok(dir) = dir(environment) else { return Vec::new() };
    if !dry_run {
        sweep(&dir);
    }
    let mut gone = Vec::new();
    for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
        let (path, found) = (entry.path(), entry.metadata());
        let is_partial = entry.file_name().to_str().is_some_and(|name| name.starts_with(PARTIAL));
        let Ok(found) = found else { continue };
        let age = found.modified().ok().and_then(|used| used.elapsed().ok());
        if found.is_file()
            && !is_partial
            && age.is_some_and(|age| age >= unused_for)
            && (dry_run || fs::remove_file(&path).is_ok())
        {
            gone.push((path, found.len()));
        }
    }
    gone.sort();
    gone
}

/// Those files, as they are staged.
pub(super) fn staged(artifacts: &[Artifact], environment: &Environment) -> Result<Vec<Staged>, Error> {
    if artifacts.is_empty() {
        return Ok(Vec::new());
    }
    let dir = dir(environment)?;
    let staged = |hash: &str| Staged {
        path: format!("{ARTIFACTS}/{hash}"),
        mode: 0o400,
        content: Content::File(dir.join(hash)),
    };
    Ok(by_hash(artifacts).into_keys().map(staged).collect())
}

fn dir(environment: &Environment) -> Result<PathBuf, Error> {
    Ok(image_cache(environment).ok_or(Error::NoCache)?.join(DIR))
}

/// Two destinations of one file are one file.
fn by_hash(artifacts: &[Artifact]) -> BTreeMap<&str, &Artifact> {
    artifacts.iter().map(|artifact| (artifact.layer.sha256.as_str(), artifact)).collect()
}

/// Fetches one, checks it and puts it in its place.
fn one(
    artifact: &Artifact,
    dir: &Path,
    environment: &Environment,
    observer: &mut dyn Observer,
) -> Result<(), Error> {
    let (url, wanted) = (&artifact.url, &artifact.layer.sha256);
    let failed = |reason: String| Error::Artifact { url: url.clone(), reason };
    let path = dir.join(wanted);
    for left in (0..TRIES).rev() {
        let partial = partial(dir).map_err(|source| Error::File {
            what: "cannot create a file in",
            path: dir.to_owned(),
            source,
        })?;
        // Who sweeps sees that somebody still writes it.
        let _lock = partial.reopen().and_then(Lock::wait).map_err(|error| failed(error.to_string()))?;
        let mut to = Hashing { file: partial.as_file(), hash: Sha256::new() };
        let mut progress = |done, total| observer.tell(Progress::Fetching { url, done, total });
        progress(0, None);
        match fetch::fetch(url, &mut to, ONE_MAX, environment, &mut progress) {
            Ok(()) => {}
            Err(error) if error.may_pass() && left > 0 => {
                observer.tell(Progress::Warning(format!("{url}: {error}; trying again")));
                thread::sleep(PAUSE);
                continue;
            }
            Err(error) => {
                let by_hand =
                    format!("{error}; a copy that you have can be put in its place: {}", path.display());
                return Err(failed(by_hand));
            }
        }
        let found = hex::encode(&to.hash.finalize());
        if found != *wanted {
            return Err(failed(format!(
                "what came has another SHA-256 than host.yaml says, {found} and not {wanted}: nothing of it was kept"
            )));
        }
        partial.as_file().sync_all().map_err(|error| failed(error.to_string()))?;
        let persisted = partial.persist(&path);
        persisted.map_err(|error| Error::File {
            what: "cannot write",
            path: path.clone(),
            source: error.error,
        })?;
        observer.tell(Progress::Fetched { url });
        return Ok(());
    }
    Ok(())
}

fn partial(dir: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(PARTIAL).tempfile_in(dir)
}

/// Removes what killed civms left. One that still writes has a lock on its file.
fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_partial = entry.file_name().to_str().is_some_and(|name| name.starts_with(PARTIAL));
        if is_partial && Lock::try_exclusive(&path).is_ok_and(|lock| lock.is_some()) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// What is written, and its hash.
struct Hashing<'a> {
    file: &'a File,
    hash: Sha256,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::fetch::testing::{self, Server};
    use crate::host::layer;
    use crate::secrets;

    #[derive(Default)]
    struct Heard(Vec<String>);

    impl Observer for Heard {
        fn tell(&mut self, progress: Progress<'_>) {
            match progress {
                Progress::Fetching { done: 0, .. } => self.0.push("begins".to_owned()),
                Progress::Fetched { .. } => self.0.push("done".to_owned()),
                Progress::Warning(text) => self.0.push(text),
                _ => {}
            }
        }
        fn boots_without_secrets(&mut self, _: &str, _: &secrets::Error) -> Option<bool> {
            None
        }
    }

    fn environment(cache: &Path) -> Environment {
        Environment::empty().with("SSL_CERT_FILE", testing::certificates()).with("XDG_CACHE_HOME", cache)
    }

    fn artifact(url: String, content: &[u8], path: &str) -> Artifact {
        let sha256 = hex::encode(&Sha256::digest(content));
        Artifact {
            url,
            layer: layer::Artifact { path: path.to_owned(), sha256, ..layer::Artifact::default() },
        }
    }

    #[test]
    fn what_is_in_the_cache_is_not_asked_for_again() {
        let dir = tempfile::tempdir().expect("a cache");
        let server = Server::start(|_| (200, String::new(), b"war".to_vec()));
        let environment = environment(dir.path());
        let two = ["/a", "/b"].map(|path| artifact(server.url("/war"), b"war", path));
        let mut heard = Heard::default();
        for _ in 0..2 {
            ensure(&two, &environment, &mut heard).expect("fetched");
        }
        assert_eq!((server.asked(), heard.0), (1, vec!["begins".to_owned(), "done".to_owned()]));
        let [one] = &staged(&two, &environment).expect("staged")[..] else { panic!("one file") };
        assert_eq!(one.path, format!("artifacts/{}", two[0].layer.sha256));
        let Content::File(path) = &one.content else { panic!("a file") };
        assert_eq!(fs::read(path).expect("kept"), b"war");
    }

    #[test]
    fn what_is_something_else_is_not_kept() {
        let dir = tempfile::tempdir().expect("a cache");
        let server = Server::start(|_| (200, String::new(), b"evil".to_vec()));
        let environment = environment(dir.path());
        let wanted = artifact(server.url("/war"), b"war", "/a");
        let error = ensure(&[wanted], &environment, &mut Heard::default()).expect_err("another").to_string();
        assert!(error.contains("another SHA-256 than host.yaml says, "), "{error}");
        assert!(error.contains("nothing of it was kept"), "{error}");
        assert_eq!(fs::read_dir(dir.path().join("civm/artifacts")).expect("the cache").count(), 0);
    }

    #[test]
    fn a_server_that_fails_is_asked_again_and_one_that_has_nothing_is_not() {
        let dir = tempfile::tempdir().expect("a cache");
        let tries = std::sync::atomic::AtomicUsize::new(0);
        let server = Server::start(move |path| match path {
            "/war" if tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 => {
                (503, String::new(), Vec::new())
            }
            "/war" => (200, String::new(), b"war".to_vec()),
            _ => (404, String::new(), Vec::new()),
        });
        let environment = environment(dir.path());
        let mut heard = Heard::default();
        ensure(&[artifact(server.url("/war"), b"war", "/a")], &environment, &mut heard).expect("at last");
        assert!(
            heard.0.iter().any(|text| text.ends_with("the server answers 503; trying again")),
            "{:?}",
            heard.0
        );
        let error = ensure(&[artifact(server.url("/none"), b"none", "/a")], &environment, &mut heard);
        let error = error.expect_err("nothing there").to_string();
        assert!(
            error.contains("the server answers 404; a copy that you have can be put in its place: "),
            "{error}"
        );
        assert_eq!(server.asked(), 3);
    }

    #[test]
    fn what_nobody_has_used_for_long_goes() {
        let dir = tempfile::tempdir().expect("a cache");
        let environment = Environment::empty().with("XDG_CACHE_HOME", dir.path());
        let cache = super::dir(&environment).expect("a cache");
        fs::create_dir_all(&cache).expect("a folder");
        let day = Duration::from_secs(24 * 3600);
        for (name, age) in [("old", 40 * day), ("new", day)] {
            let file = File::create(cache.join(name)).expect("a file");
            file.set_modified(SystemTime::now() - age).expect("a time");
        }
        let wanted = vec![(cache.join("old"), 0)];
        assert_eq!(collect(&environment, 30 * day, true), wanted);
        assert!(cache.join("old").exists(), "a dry run removes nothing");
        assert_eq!(collect(&environment, 30 * day, false), wanted);
        assert!(!cache.join("old").exists() && cache.join("new").exists());
    }

    #[test]
    fn what_a_killed_civm_left_is_removed_and_what_another_writes_is_not() {
        let dir = tempfile::tempdir().expect("a cache");
        let dead = dir.path().join(format!("{PARTIAL}dead"));
        fs::write(&dead, "").expect("a file");
        let alive = partial(dir.path()).expect("a file");
        let _lock = Lock::wait(alive.reopen().expect("open")).expect("locked");
        sweep(dir.path());
        assert!(!dead.exists() && alive.path().exists());
    }
}

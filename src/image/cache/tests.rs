use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::edge::lock::wait_until_free;

fn silent(_: Event) {}

/// A cache in a directory of its own, which is the temporary directory as well.
fn world() -> (tempfile::TempDir, Environment) {
    let dir = tempfile::tempdir().expect("tempdir");
    let environment = Environment::of_process().for_package_tools().with("TMPDIR", dir.path());
    (dir, environment)
}

fn begun(cache: &Cache, id: &str) -> Build {
    cache.begin(id, &mut silent).expect("begin").expect("not built yet")
}

/// What a kill leaves: no destructor runs, and the kernel lets the lock go.
fn kill(mut build: Build) -> [PathBuf; 2] {
    let remains = build.remains();
    let lock = build.cache.lock_path(&build.id);
    build.dir = "/nonexistent".into();
    build.scratch = "/nonexistent".into();
    drop(build);
    wait_until_free(|| open_file(&lock).and_then(Lock::try_open));
    assert!(remains.iter().all(|dir| dir.is_dir()), "{remains:?}");
    remains
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("dir").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_finished_build_is_found_and_not_built_again() {
    let (dir, environment) = world();
    let cache = Cache::open(dir.path(), &environment).expect("cache");
    let build = begun(&cache, "abc");
    let scratch = build.scratch.clone();
    fs::create_dir(build.dir.join("modules")).expect("mkdir");
    fs::write(build.dir.join("modules/a.ko"), "x").expect("write");
    fs::write(build.dir.join("disk"), "x").expect("write");
    let image = build.finish().expect("finish");
    assert_eq!(names(&image), ["contents.json", "disk", "modules"]);
    assert!(!scratch.exists());
    assert_eq!(cache.find("abc"), Some(image));
    assert!(cache.begin("abc", &mut silent).expect("begin").is_none());
}

#[test]
fn an_image_that_is_not_complete_is_built_again() {
    let (dir, environment) = world();
    let cache = Cache::open(dir.path(), &environment).expect("cache");
    let damages: [fn(&Path); 4] = [
        |image| fs::write(image.join("disk"), "").expect("cut"),
        |image| fs::remove_file(image.join("sub/file")).expect("removed"),
        |image| fs::remove_file(image.join(CONTENTS)).expect("removed"),
        |image| fs::write(image.join(CONTENTS), "{\"disk\":").expect("cut"),
    ];
    for damage in damages {
        let build = begun(&cache, "abc");
        fs::create_dir(build.dir.join("sub")).expect("mkdir");
        fs::write(build.dir.join("sub/file"), "y").expect("write");
        fs::write(build.dir.join("disk"), "x").expect("write");
        damage(&build.finish().expect("finish"));
        assert_eq!(cache.find("abc"), None);
    }
    drop(begun(&cache, "abc"));
    assert_eq!(names(&dir.path().join("images")), ["abc.lock"], "the damaged one is gone");
}

#[test]
fn a_failed_build_leaves_nothing() {
    let (dir, environment) = world();
    let cache = Cache::open(dir.path(), &environment).expect("cache");
    drop(begun(&cache, "abc"));
    assert_eq!(
        (names(dir.path()), names(&dir.path().join("images"))),
        (vec!["images".into()], vec!["abc.lock".into()])
    );
    assert_eq!(cache.find("abc"), None);
}

#[test]
fn what_a_killed_build_left_is_swept() {
    let (dir, environment) = world();
    let cache = Cache::open(dir.path(), &environment).expect("cache");
    let mut remains = kill(begun(&cache, "old")).to_vec();
    remains.extend(kill(begun(&cache, "older")));
    // As earlier versions named it.
    let early = dir.path().join("images/.building-0f");
    fs::create_dir(&early).expect("mkdir");
    remains.push(early);
    cache.sweep();
    assert!(remains.iter().all(|dir| !dir.exists()), "{remains:?}");
}

#[test]
fn a_build_that_was_killed_does_not_hinder_the_next() {
    let (dir, environment) = world();
    let cache = Cache::open(dir.path(), &environment).expect("cache");
    let [scratch, killed] = kill(begun(&cache, "abc"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Its last processes still write where they did.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = fs::create_dir_all(scratch.join("a/b/c"));
                let _ = fs::write(killed.join("late"), "x");
            }
        });
        for _ in 0..20 {
            let next = begun(&cache, "abc");
            assert!(next.dir != killed && next.scratch != scratch);
            assert_eq!(names(&next.dir), [SCRATCH_NOTE]);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn only_what_civm_made_is_removed_outside_the_cache() {
    let (dir, environment) = world();
    let cache = Cache::open(dir.path(), &environment).expect("cache");
    let precious = dir.path().join("precious");
    fs::create_dir(&precious).expect("mkdir");
    let link = dir.path().join("civm-image-link");
    std::os::unix::fs::symlink(&precious, &link).expect("link");
    for named in [&precious, &link] {
        let [scratch, killed] = kill(begun(&cache, "abc"));
        fs::remove_dir(scratch).expect("removed");
        fs::write(killed.join(SCRATCH_NOTE), named.as_os_str().as_bytes()).expect("note");
        cache.sweep();
        assert!(!killed.exists() && precious.is_dir() && link.is_symlink());
    }
}

#[test]
fn a_build_that_runs_is_not_swept_and_the_second_waits_for_it() {
    let (dir, environment) = world();
    let cache = Cache::open(dir.path(), &environment).expect("cache");
    let first = begun(&cache, "abc");
    fs::write(first.dir.join("disk"), "x").expect("write");
    let other = begun(&cache, "def");
    cache.sweep();
    assert!(first.dir.exists() && first.scratch.exists() && other.dir.exists());
    std::thread::scope(|scope| {
        let (waits, said) = std::sync::mpsc::channel();
        let cache = &cache;
        let second = scope.spawn(move || {
            let mut progress = |event| waits.send(event).expect("send");
            cache.begin("abc", &mut progress).expect("begin").is_none()
        });
        assert_eq!(said.recv().expect("waits"), Event::Waiting);
        first.finish().expect("finish");
        assert!(second.join().expect("join"), "the second builder finds the image finished");
    });
}

#[test]
fn the_helper_that_deletes_is_never_run_without_something_to_delete() {
    let dir = tempfile::tempdir().expect("a directory");
    let (helper, ran, empty) =
        (dir.path().join("mmdebstrap"), dir.path().join("ran"), dir.path().join("empty"));
    fs::create_dir(&empty).expect("a directory");
    fs::write(&helper, format!("#!/bin/sh\n: >{}\n", ran.display())).expect("a script");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("a mode");
    let environment = Environment::empty().with("PATH", dir.path());
    remove_inside(&empty, MAPPED_ROOT[0], &environment);
    assert!(!ran.exists());
    fs::write(empty.join("file"), "").expect("a file");
    remove_inside(&empty, MAPPED_ROOT[0], &environment);
    assert!(ran.exists());
}

/// A finished image under a name that civm gives.
fn stored(cache: &Cache, digit: char) -> String {
    let id = String::from(digit).repeat(32);
    let build = begun(cache, &id);
    fs::write(build.dir.join("disk"), vec![1; 100_000]).expect("write");
    build.finish().expect("finish");
    fs::write(cache.dir(&format!("{id}.log")), "log").expect("write");
    id
}

#[test]
fn what_is_stored_is_listed_and_removed_alone() {
    let (dir, environment) = world();
    let cache = Cache::open(dir.path(), &environment).expect("cache");
    let [a, b] = ['a', 'b'].map(|digit| stored(&cache, digit));
    fs::create_dir(cache.dir("somebody-elses")).expect("mkdir");
    let list = || stored::list(dir.path(), &environment).expect("listed");
    let images = list();
    let names = |images: &[stored::Stored]| images.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
    assert_eq!(names(&images), [a.clone(), b.clone()]);
    assert!(images[0].complete && images[0].size >= 100_000, "{images:?}");
    // A program that another test is just starting has all files of this process open until it runs.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !images[0].users().is_empty() {
        assert!(std::time::Instant::now() < until, "{:?}", images[0].users());
    }
    // In use: somebody has a file of it open, or builds it.
    let mut user = std::process::Command::new("tail");
    let user = user.arg("-f").stdin(File::open(images[0].dir.join("disk")).expect("open"));
    let mut user = user.stdout(Stdio::null()).spawn().expect("spawn");
    let refused = stored::remove(&images[0], dir.path(), &environment).expect_err("in use").to_string();
    assert!(refused.contains(&format!("process {} (", user.id())), "{refused}");
    user.kill().expect("killed");
    user.wait().expect("waited for");
    let lock = cache.lock_path(&a);
    let building = wait_and_lock(&lock);
    let refused = stored::remove(&images[0], dir.path(), &environment).expect_err("locked").to_string();
    assert!(refused.contains("builds it"), "{refused}");
    drop(building);
    wait_until_free(|| open_file(&lock).and_then(Lock::try_open));
    assert!(stored::remove(&images[0], dir.path(), &environment).expect("removed") >= 100_000);
    assert_eq!(names(&list()), [b]);
    assert!(!cache.dir(&format!("{a}.log")).exists() && cache.dir("somebody-elses").exists());
}

fn wait_and_lock(path: &Path) -> Lock {
    Lock::wait(open_file(path).expect("opened")).expect("locked")
}

#[test]
fn a_use_is_noted_and_dead_builds_are_named() {
    let (dir, environment) = world();
    let cache = Cache::open(dir.path(), &environment).expect("cache");
    let id = stored(&cache, 'c');
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(90_000);
    for path in [cache.lock_path(&id), cache.dir(&id)] {
        File::open(path).and_then(|file| file.set_modified(old)).expect("set");
    }
    let last_used = || stored::list(dir.path(), &environment).expect("listed")[0].last_used;
    assert_eq!(last_used(), old);
    cache.note_use(&id);
    assert!(last_used() > old + std::time::Duration::from_secs(80_000));
    let alive = begun(&cache, "abc");
    let [_, dead] = kill(begun(&cache, "def"));
    let unfinished = stored::unfinished(dir.path(), &environment).expect("listed");
    assert_eq!(unfinished.iter().map(|one| one.path.clone()).collect::<Vec<_>>(), [dead]);
    drop(alive);
}

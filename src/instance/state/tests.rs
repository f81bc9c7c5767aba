use super::{Home, Phase, Record, last_lines, try_lock};
use crate::edge::environment::Environment;

fn home(directory: &std::path::Path) -> Home {
    Home::find(&Environment::empty().with("XDG_STATE_HOME", directory)).unwrap()
}

#[test]
fn alive_is_whose_lock_is_held() {
    let directory = tempfile::tempdir().unwrap();
    let place = home(directory.path()).project(directory.path()).unwrap().place("a").unwrap();
    assert!(!place.is_alive());
    let lock = try_lock(&place.lock()).unwrap().unwrap();
    assert!(place.is_alive());
    assert!(try_lock(&place.lock()).unwrap().is_none());
    drop(lock);
    assert!(!place.is_alive());
    let _supervisor = try_lock(&place.supervisor_lock()).unwrap().unwrap();
    assert!(place.is_alive());
}

#[test]
fn projects_of_one_name_are_told_apart_by_their_paths() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(directory.path());
    let (a, b) = (directory.path().join("a/infra"), directory.path().join("b/infra"));
    std::fs::create_dir_all(&a).unwrap();
    std::fs::create_dir_all(&b).unwrap();
    let (a, b) = (home.project(&a).unwrap().path, home.project(&b).unwrap().path);
    assert_ne!(a, b);
    assert!(a.file_name().unwrap().to_str().unwrap().starts_with("infra-"));
}

#[test]
fn what_a_killed_instance_left_is_swept_and_a_living_one_is_spared() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(directory.path());
    let place = home.project(directory.path()).unwrap().place("a").unwrap();
    let runtime = place.path.join("run");
    std::fs::create_dir_all(runtime.join("share/secrets")).unwrap();
    let mut record = Record::new(&place, "a", 0);
    (record.phase, record.runtime) = (Phase::Ready, Some(runtime.clone()));
    (record.disk, record.ephemeral) = (Some(place.ephemeral_disk()), true);
    std::fs::write(place.ephemeral_disk(), "disk").unwrap();
    record.save(&place.path).unwrap();
    {
        let _lock = try_lock(&place.lock()).unwrap().unwrap();
        assert_eq!(home.running(), [record]);
        assert!(runtime.exists() && place.ephemeral_disk().exists());
    }
    assert_eq!(home.running(), []);
    assert!(!runtime.exists() && !place.ephemeral_disk().exists());
    let swept = place.record().unwrap();
    assert_eq!((swept.phase, swept.reason.as_deref()), (Phase::Ended, Some("killed")));
    assert!(place.sweep_report().is_empty());
}

#[test]
fn one_look_tells_the_living_from_many_that_are_over() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(directory.path());
    let project = home.project(directory.path()).unwrap();
    let record = |name: &str, phase: Phase| {
        let place = project.place(name).unwrap();
        Record { phase, ..Record::new(&place, "host", 0) }.save(&place.path).unwrap();
        place
    };
    let over: Vec<_> = (0..50).map(|number| record(&format!("over{number}"), Phase::Ended)).collect();
    let (first, second) = (record("first", Phase::Ready), record("second", Phase::Booting));
    let killed = record("killed", Phase::Ready);
    let _keeper = try_lock(&first.lock()).unwrap().unwrap();
    let _supervisor = try_lock(&second.supervisor_lock()).unwrap().unwrap();
    let view = home.view();
    let names: Vec<_> = view.running().into_iter().map(|record| record.name).collect();
    assert_eq!(names, ["first", "second"]);
    view.sweep();
    assert_eq!(view.complaints(), [""; 0]);
    assert_eq!(killed.record().unwrap().reason.as_deref(), Some("killed"));
    assert_eq!(first.record().unwrap().phase, Phase::Ready);
    assert!(over.iter().all(|place| place.record().is_some_and(|record| record.reason.is_none())));
}

#[test]
fn a_record_does_not_say_what_else_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(directory.path());
    let place = home.project(directory.path()).unwrap().place("a").unwrap();
    let (theirs, private) = (directory.path().join("theirs"), directory.path().join("civm/abcdefABCDEF"));
    for path in [&theirs, &private] {
        std::fs::create_dir_all(path).unwrap();
    }
    std::fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::write(directory.path().join("disk"), "theirs").unwrap();
    let disk = place.path.join("../../../disk");
    assert!(disk.exists());
    let sweep = |runtime: std::path::PathBuf| {
        let mut record = Record::new(&place, "a", 0);
        (record.phase, record.runtime) = (Phase::Ready, Some(runtime));
        (record.disk, record.ephemeral) = (Some(disk.clone()), true);
        record.save(&place.path).unwrap();
        let garbage = home.garbage(super::Limits::LEFTOVERS).into_iter().flat_map(|one| one.paths);
        (garbage.collect::<Vec<_>>(), place.sweep_report())
    };
    let through = directory.path().join("theirs/../civm/abcdefABCDEF");
    for runtime in [theirs.clone(), through, directory.path().to_owned(), "/".into(), "".into()] {
        assert_eq!(sweep(runtime.clone()), (vec![], vec![]), "{}", runtime.display());
    }
    assert!(theirs.exists() && disk.exists());
    let (garbage, swept) = sweep(private.clone());
    assert_eq!((garbage.as_slice(), swept.len()), ([private.clone()].as_slice(), 1));
    assert!(!private.exists() && disk.exists());
}

#[test]
fn an_instance_that_is_being_cleaned_up_is_stopping() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(directory.path());
    let place = home.project(directory.path()).unwrap().place("a").unwrap();
    Record { phase: Phase::Ended, ..Record::new(&place, "a", 0) }.save(&place.path).unwrap();
    let _keeper = try_lock(&place.lock()).unwrap();
    assert_eq!(home.running()[0].phase, Phase::Stopping);
    let _supervisor = try_lock(&place.supervisor_lock()).unwrap();
    assert_eq!(home.running()[0].phase, Phase::Starting);
}

#[test]
fn a_record_that_nobody_can_read_hides_no_other_and_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(directory.path());
    let project = home.project(directory.path()).unwrap();
    let (good, bad) = (project.place("good").unwrap(), project.place("bad").unwrap());
    Record::new(&good, "good", 0).save(&good.path).unwrap();
    let _lock = try_lock(&good.lock()).unwrap();
    for text in ["{", r#"{"version": 99, "phase": "ready", "runtime": "/tmp"}"#] {
        std::fs::write(bad.path.join("instance.json"), text).unwrap();
        assert_eq!(home.running().len(), 1);
        let complaints = home.view().complaints();
        assert!(complaints.len() == 1 && complaints[0].contains("bad/instance.json"), "{complaints:?}");
        assert!(bad.sweep_report().is_empty() && bad.load().is_err() && bad.running().is_err());
        assert_eq!(std::fs::read_to_string(bad.path.join("instance.json")).unwrap(), text);
    }
}

#[test]
fn tails_are_short_and_without_control_characters() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    std::fs::write(&log, "one\r\n\n\u{1b}[2Jtwo\nthree\n").unwrap();
    assert_eq!(last_lines(&log, 2), ["[2Jtwo", "three"]);
    assert!(last_lines(&directory.path().join("none"), 2).is_empty());
}

use super::{Login, client_key, config_path, host_key, pin};
use crate::edge::environment::Environment;
use crate::instance::error::Error;
use crate::instance::state::{Home, Place, ProjectState, Record};
use crate::vm::ports::Forward;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn state(directory: &std::path::Path) -> (ProjectState, Place) {
    let environment = Environment::empty().with("XDG_STATE_HOME", directory);
    let project = Home::find(&environment).unwrap().project(directory).unwrap();
    let place = project.place("builder").unwrap();
    (project, place)
}

#[test]
fn keys_are_made_once_and_for_the_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (project, place) = state(directory.path());
    let key = client_key(&project).unwrap();
    assert_eq!(key.path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(key.public.starts_with("ssh-ed25519 ") && key.public.ends_with(" civm"));
    assert_eq!(client_key(&project).unwrap(), key);
    let host = host_key(&place).unwrap();
    assert_ne!(host.public, key.public);
    assert!(host.private().unwrap().starts_with(b"-----BEGIN OPENSSH PRIVATE KEY-----"));
}

#[test]
fn a_damaged_key_is_named_and_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let (project, _) = state(directory.path());
    let path = project.path.join("client_ed25519");
    std::fs::write(&path, "nothing").unwrap();
    assert!(matches!(client_key(&project), Err(Error::Key { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"nothing");
}

#[test]
fn one_host_key_is_known_under_the_instances_own_name() {
    let directory = tempfile::tempdir().unwrap();
    let (_, place) = state(directory.path());
    pin(&place, "ssh-ed25519 AAAA comment with words").unwrap();
    let known = std::fs::read_to_string(place.known_hosts()).unwrap();
    assert_eq!(known, "civm-builder ssh-ed25519 AAAA\n");
    assert!(pin(&place, "nothing").is_err());
}

#[test]
fn a_login_is_strict_and_needs_what_it_is_made_of() {
    let directory = tempfile::tempdir().unwrap();
    let (project, place) = state(directory.path());
    let mut record = Record::new(&place, "a", 0);
    assert!(Login::new(&project, &place, &record, "root").is_err());
    record.forwards = vec![Forward::loopback(2322, 22)];
    assert!(Login::new(&project, &place, &record, "root").is_err(), "no host key is known");
    pin(&place, "ssh-ed25519 AAAA").unwrap();
    let login = Login::new(&project, &place, &record, "root").unwrap();
    let arguments = login.arguments(&["ls".into(), "-la".into()]);
    let text: Vec<_> = arguments.iter().map(|a| a.to_str().unwrap()).collect();
    assert!(text.contains(&"StrictHostKeyChecking=yes") && text.contains(&"HostKeyAlias=civm-builder"));
    assert!(text.contains(&"IdentitiesOnly=yes") && text.contains(&"Port=2322"));
    assert!(text.ends_with(&["--", "127.0.0.1", "ls", "-la"]));
    record.runtime = Some("/run/x".into());
    let login = Login::new(&project, &place, &record, "root").unwrap();
    let probe = login.probe(Duration::from_millis(10_900));
    let at = |option: &str| probe.iter().position(|a| a.to_str() == Some(option)).unwrap();
    assert!(at("ConnectTimeout=10") < at("ConnectTimeout=30"));
    assert!(at("ControlPath=none") < at("ControlPath=\"/run/x/ssh-root\""));
}

#[test]
fn paths_survive_sshs_configuration() {
    assert_eq!(config_path("/a b/50%".as_ref()), "\"/a b/50%%\"");
}

#[test]
fn ssh_sees_no_key_of_the_caller() {
    let directory = tempfile::tempdir().unwrap();
    let (project, place) = state(directory.path());
    pin(&place, "ssh-ed25519 AAAA").unwrap();
    let mut record = Record::new(&place, "a", 0);
    record.forwards = vec![Forward::loopback(1, 22)];
    let login = Login::new(&project, &place, &record, "root").unwrap();
    // Written by another process: a program that a test beside this one starts would hold the file open.
    let ssh = directory.path().join("ssh");
    let script = format!("#!/bin/sh\n/usr/bin/env >{}/seen\n", directory.path().display());
    let write = ["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""];
    assert!(std::process::Command::new("sh").args(write).arg(&ssh).arg(script).status().unwrap().success());
    let environment = Environment::of_process().with("PATH", directory.path()).with("SOPS_AGE_KEY", "k");
    assert!(login.run(&[], &environment.with("TERM", "xterm")).unwrap().success());
    let seen = std::fs::read_to_string(directory.path().join("seen")).unwrap();
    assert!(seen.contains("TERM=xterm\n") && !seen.contains("SOPS_AGE_KEY"), "{seen}");
}

//! Sessions with supervisors that a test plays.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use super::{Error, Session};
use crate::instance::event::{Event, Health};
use crate::instance::state::{Place, Record};
use crate::instance::wire::{Code, Request, Typing, Within};

const LONG: Duration = Duration::from_secs(20);

fn record(directory: &Path, protocol: u32) -> Record {
    let place = Place { project: "/p".into(), name: "a".into(), path: directory.into() };
    let mut record = Record::new(&place, "a", 0);
    (record.runtime, record.protocol) = (Some(directory.to_owned()), protocol);
    record
}

/// A supervisor that answers each line with what `play` says.
fn supervisor(
    directory: &Path,
    mut play: impl FnMut(&str, &mut UnixStream) + Send + 'static,
) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(directory.join("control.sock")).unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        for line in BufReader::new(socket.try_clone().unwrap()).lines() {
            let line = line.unwrap();
            play(&line, &mut socket);
            heard.push(line);
        }
        heard
    })
}

#[test]
fn answers_are_found_by_number_and_an_event_in_two_pieces_is_read_whole() {
    let directory = tempfile::tempdir().unwrap();
    let played = supervisor(directory.path(), |line, socket| {
        let id = serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_u64().unwrap();
        if line.contains("hello") {
            // One of a later protocol, with fields that nobody knows.
            writeln!(socket, r#"{{"id":{id},"result":{{"protocol":9,"civm":"9.0","new":1}}}}"#).unwrap();
            return;
        }
        writeln!(socket, r#"{{"id":999,"result":null}}"#).unwrap();
        writeln!(socket, r#"{{"event":"of-a-later-civm","x":1}}"#).unwrap();
        socket.write_all(br#"{"event":"key-"#).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        writeln!(socket, r#"removed"}}"#).unwrap();
        writeln!(socket, r#"{{"id":{id},"error":{{"code":"of-a-later-civm","message":"no"}}}}"#).unwrap();
    });
    let mut session = Session::open(&record(directory.path(), 1), LONG).unwrap();
    let error = session.status(LONG).unwrap_err();
    assert!(matches!(error, Error::Refused(failure) if failure.code == Code::Unknown), "it is answered");
    assert_eq!(session.next_event(LONG).unwrap(), Event::KeyRemoved);
    assert!(matches!(session.next_event(Duration::from_millis(50)), Err(Error::Silent)));
    drop(session);
    let heard = played.join().unwrap();
    let hello = json!({"id": 1, "request": "hello", "protocol": 1, "civm": env!("CARGO_PKG_VERSION")});
    assert_eq!(heard, [hello.to_string(), r#"{"id":2,"request":"status"}"#.to_owned()]);
}

#[test]
fn a_supervisor_without_numbers_is_asked_in_its_own_words() {
    let directory = tempfile::tempdir().unwrap();
    let played = supervisor(directory.path(), |line, socket| {
        let told = match line {
            r#"{"ask":"status"}"# => r#"{"event":"status","health":"paused"}"#,
            line if line.contains("stop") => {
                "{\"event\":\"stopping\",\"reason\":\"as asked\",\"within_ms\":7}\n\
                 {\"event\":\"ended\",\"reason\":\"gone\",\"clean\":true}"
            }
            _ => return,
        };
        writeln!(socket, "{told}").unwrap();
    });
    let mut session = Session::open(&record(directory.path(), 0), LONG).unwrap();
    let status = session.status(LONG).unwrap();
    assert_eq!((status.health, status.phase), (Health::Paused, None));
    session.request::<()>(&Request::ConsoleSize { rows: 1, columns: 2 }, LONG).unwrap();
    for request in [Request::Stage { trial: true }, Request::Machine, Request::Console { typing: Typing::No }]
    {
        let refused = session.request::<()>(&request, LONG).unwrap_err();
        assert!(refused.to_string().contains("older civm"), "{refused}");
    }
    session.subscribe(LONG).unwrap();
    let stop = Request::Stop { patience_ms: 1, quit_ms: 2, hurry: false };
    assert_eq!(session.request::<Within>(&stop, LONG).unwrap(), Within { within_ms: 7 });
    assert!(matches!(session.next_event(LONG).unwrap(), Event::Ended { clean: true, .. }));
    drop(session);
    assert_eq!(
        played.join().unwrap(),
        [
            r#"{"ask":"status"}"#,
            r#"{"ask":"console-size","rows":1,"columns":2}"#,
            r#"{"ask":"stop","patience_ms":1,"quit_ms":2,"hurry":false}"#
        ]
    );
}

#[test]
fn a_supervisor_that_is_gone_or_silent_is_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let record = record(directory.path(), 1);
    assert!(matches!(Session::open(&record, LONG), Err(Error::Gone)));
    let listener = UnixListener::bind(directory.path().join("control.sock")).unwrap();
    assert!(matches!(Session::open(&record, Duration::from_millis(50)), Err(Error::Silent)));
    drop(listener);
    assert!(matches!(Session::open(&record, LONG), Err(Error::Gone)));
}

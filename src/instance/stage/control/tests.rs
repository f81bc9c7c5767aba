//! The control socket as its clients find it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Asked, CLIENTS_MAX, Control, SILENCE, SUBSCRIBERS_MAX};
use crate::instance::stage::incoming::Incoming;
use crate::instance::wire::{PROTOCOL, REQUEST_MAX, REQUESTS, Request};

struct Peer(BufReader<UnixStream>);

impl Peer {
    fn connect(directory: &Path) -> Self {
        let socket = UnixStream::connect(directory.join("s")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(BufReader::new(socket))
    }

    fn send(&mut self, line: &str) {
        writeln!(self.0.get_mut(), "{line}").unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

fn control(directory: &Path) -> Control {
    Control::listen(&directory.join("s")).unwrap()
}

fn receive(control: &mut Control) -> Vec<Asked> {
    control.receive(Instant::now())
}

#[test]
fn whatever_comes_is_answered_and_the_connection_stays() {
    let directory = tempfile::tempdir().unwrap();
    let mut control = control(directory.path());
    let mut peer = Peer::connect(directory.path());
    let mut say = |line: &str| {
        peer.send(line);
        // A long line takes several reads.
        let mut asked = Vec::new();
        for _ in 0..1 + line.len() / (16 << 10) {
            asked.extend(receive(&mut control));
        }
        assert!(asked.is_empty(), "{line:.100}");
        peer.hear()
    };
    let hello = say(r#"{"id":1,"request":"hello","protocol":99,"civm":"9.0","new":true}"#);
    assert_eq!((&hello["id"], &hello["result"]["protocol"]), (&1.into(), &PROTOCOL.into()));
    let unknown = say(r#"{"id":2,"request":"dance","music":"waltz"}"#);
    assert_eq!((&unknown["id"], &unknown["error"]["code"]), (&2.into(), &"unknown-request".into()));
    assert!(unknown["error"]["message"].as_str().unwrap().contains("status"), "it says what it knows");
    let half = say(r#"{"id":3,"request":"console-size","rows":1}"#);
    assert_eq!((&half["id"], &half["error"]["code"]), (&3.into(), &"malformed".into()));
    // The lines of an older civm, and no lines of anybody's.
    for nonsense in [r#"{"ask":"status"}"#, "hello", "[]", r#"{"id":"x","request":"status"}"#] {
        let answer = say(nonsense);
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &"malformed".into()));
        assert_eq!(answer["error"]["protocol"], PROTOCOL);
    }
    let long = say(&"x".repeat(REQUEST_MAX + 1));
    assert_eq!(long["error"]["code"], "malformed");
    peer.send(r#"{"id":4,"request":"status","of":"a later civm"}"#);
    assert!(matches!(&receive(&mut control)[..], [Asked::Request(who, Request::Status)] if who.id == 4));
}

#[test]
fn every_request_has_the_name_that_others_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let mut control = control(directory.path());
    let mut peer = Peer::connect(directory.path());
    for name in REQUESTS {
        peer.send(&format!(r#"{{"id":1,"request":"{name}"}}"#));
        if receive(&mut control).is_empty() {
            assert_ne!(peer.hear()["error"]["code"], "unknown-request", "{name}");
        }
    }
}

#[test]
fn those_who_listen_leave_room_for_those_who_ask_and_who_does_not_read_loses_lines() {
    let directory = tempfile::tempdir().unwrap();
    let mut control = control(directory.path());
    let mut peers: Vec<Peer> = (0..CLIENTS_MAX).map(|_| Peer::connect(directory.path())).collect();
    let begun = Instant::now();
    for (n, peer) in peers.iter_mut().enumerate() {
        peer.send(r#"{"id":1,"request":"subscribe"}"#);
        let asked = control.receive(begun);
        let [Asked::Request(who, Request::Subscribe)] = asked[..] else { panic!("nothing was asked") };
        assert_eq!(control.subscribe(who), n < SUBSCRIBERS_MAX);
    }
    for n in 0..100_000 {
        control.tell(format!("{{\"event\":\"busy\",\"n\":{n}}}\n").as_bytes(), 1 << 16);
    }
    let first = peers.first_mut().unwrap();
    for n in 0..200 {
        assert_eq!(first.hear()["n"], n, "what it gets is whole and in order");
    }
    // One more takes the place of somebody who is not among them, after a while.
    let mut late = Peer::connect(directory.path());
    late.send(r#"{"id":7,"request":"status"}"#);
    assert!(control.receive(begun).is_empty());
    let next = control.next(begun).expect("all seats are taken");
    assert!(matches!(&control.receive(next)[..], [Asked::Request(who, Request::Status)] if who.id == 7));
    assert_eq!(control.clients.iter().filter(|client| client.subscribed).count(), SUBSCRIBERS_MAX);
}

#[test]
fn those_who_say_nothing_make_room_for_those_who_ask() {
    let directory = tempfile::tempdir().unwrap();
    let mut control = control(directory.path());
    // It waits for an answer, and is silent for longest.
    let mut waiting = Peer::connect(directory.path());
    waiting.send(r#"{"id":1,"request":"status"}"#);
    let [Asked::Request(waiter, Request::Status)] = receive(&mut control)[..] else { panic!("not asked") };
    let connect = |count: usize| (0..count).map(|_| Peer::connect(directory.path())).collect::<Vec<_>>();
    let mut silent = connect(2 * CLIENTS_MAX);
    // Half a line says nothing.
    silent.iter_mut().for_each(|peer| peer.0.get_mut().write_all(b"{").unwrap());
    let mut now = Instant::now();
    let mut ask = |control: &mut Control, id: u64| {
        let mut peer = Peer::connect(directory.path());
        peer.send(&format!(r#"{{"id":{id},"request":"status"}}"#));
        for _ in 0..8 {
            let asked = control.receive(now);
            let its = |one: &Asked| match one {
                Asked::Request(who, Request::Status) if who.id == id => Some(*who),
                _ => None,
            };
            if let Some(who) = asked.iter().find_map(its) {
                return (peer, who);
            }
            now = control.next(now).unwrap_or(now);
        }
        panic!("request {id} is not heard");
    };
    let (mut peer, who) = ask(&mut control, 2);
    control.answer(who, Ok(true));
    assert_eq!(peer.hear()["result"], true);
    control.answer(waiter, Ok(true));
    assert_eq!(waiting.hear()["result"], true, "who waits for an answer has a reason to be silent");
    // Many who wait have no such right.
    let mut many = connect(2 * CLIENTS_MAX);
    many.iter_mut().for_each(|peer| peer.send(r#"{"id":1,"request":"status"}"#));
    let _late = ask(&mut control, 3);
}

#[test]
fn nobody_who_has_just_spoken_loses_a_seat() {
    let directory = tempfile::tempdir().unwrap();
    let mut control = control(directory.path());
    let mut many: Vec<Peer> = (0..=CLIENTS_MAX).map(|_| Peer::connect(directory.path())).collect();
    many.iter_mut().for_each(|peer| peer.send(r#"{"id":1,"request":"status"}"#));
    let now = Instant::now();
    assert_eq!(control.receive(now).len(), CLIENTS_MAX);
    assert_eq!((control.receive(now).len(), control.next(now)), (0, Some(now + SILENCE)));
    assert_eq!((control.receive(now + SILENCE).len(), control.next(now + SILENCE)), (1, None));
    assert_eq!(control.clients.len(), CLIENTS_MAX);
}

#[test]
fn files_come_between_two_requests() {
    let directory = tempfile::tempdir().unwrap();
    let mut control = control(directory.path());
    let mut peer = Peer::connect(directory.path());
    peer.send(r#"{"id":1,"request":"stage"}"#);
    let [Asked::Request(who, Request::Stage { trial: false })] = receive(&mut control)[..] else {
        panic!("nothing was asked")
    };
    control.take_files(who, Incoming::create(directory.path().join("in")).unwrap());
    assert_eq!(peer.hear()["continue"], true);
    let entry = br#"{"path":"host/a","mode":420,"kind":{"file":{"length":3}}}"#;
    let socket = peer.0.get_mut();
    socket.write_all(&u32::try_from(entry.len()).unwrap().to_be_bytes()).unwrap();
    socket.write_all(entry).unwrap();
    assert!(receive(&mut control).is_empty() && control.takes_files());
    socket.write_all(b"abc\0\0\0\0{\"id\":2,\"request\":\"status\"}\n").unwrap();
    let asked = receive(&mut control);
    let [Asked::Files(of, Ok(files))] = &asked[..] else { panic!("no files") };
    assert_eq!((*of, files.count), (who, 1));
    assert_eq!(std::fs::read(directory.path().join("in/host/a")).unwrap(), b"abc");
    assert!(matches!(&receive(&mut control)[..], [Asked::Request(who, Request::Status)] if who.id == 2));
    // What makes no sense is told, and ends the connection; so does a sender who goes away.
    for rest in [&[0xff_u8; 8][..], b""] {
        let mut peer = Peer::connect(directory.path());
        peer.send(r#"{"id":1,"request":"stage"}"#);
        let [Asked::Request(who, _)] = receive(&mut control)[..] else { panic!("nothing was asked") };
        control.take_files(who, Incoming::create(directory.path().join("other")).unwrap());
        peer.hear();
        peer.0.get_mut().write_all(rest).unwrap();
        if rest.is_empty() {
            drop(peer);
            assert!(receive(&mut control).is_empty());
        } else {
            let [Asked::Files(who, Err(_))] = receive(&mut control)[..] else { panic!("no error") };
            control.answer_last(who, super::Failure::new(super::Code::Failed, "no"));
            assert_eq!(peer.hear()["error"]["message"], "no");
            receive(&mut control);
            assert!(!peer.0.read(&mut [0]).is_ok_and(|count| count > 0));
        }
        assert!(!control.takes_files() && !directory.path().join("other").exists());
    }
}

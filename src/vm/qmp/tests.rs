//! Tests of the session.

use super::{Answer, Command, Error, Event, Kvm, Message, OPEN_MAX, Session};
use crate::vm::ports::Forward;

fn answer(command: Command, line: &str) -> Result<Answer, Error> {
    let mut session = Session::default();
    let (id, _) = session.ask(command);
    match session.hear(&line.replace("ID", &id.to_string())).unwrap() {
        Message::Answer { id: found, answer } if found == id => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_find_their_commands_in_any_order() {
    let mut session = Session::default();
    let (first, line) = session.ask(Command::QueryStatus);
    assert_eq!(line, "{\"execute\":\"query-status\",\"id\":1}\n");
    let (second, _) = session.ask(Command::QueryKvm);
    let heard = session.hear(r#"{"return": {"enabled": false, "present": true}, "id": 2}"#).unwrap();
    let kvm = Ok(Answer::Kvm(Kvm { enabled: false, present: true }));
    assert_eq!(heard, Message::Answer { id: second, answer: kvm });
    let heard = session.hear(r#"{"return": {"status": "running"}, "id": 1}"#).unwrap();
    assert_eq!(heard, Message::Answer { id: first, answer: Ok(Answer::Status("running".to_owned())) });
    // Nobody asked, or has been answered.
    for stray in [r#"{"return": {}, "id": 1}"#, r#"{"return": {}}"#, r#"{"error": {}, "id": 9}"#] {
        assert_eq!(session.hear(stray).unwrap(), Message::Stray);
    }
}

#[test]
fn answers_are_read_as_their_commands_have_them() {
    assert_eq!(answer(Command::Quit, r#"{"return": {}, "id": ID}"#), Ok(Answer::Done));
    // QEMU 7.2's, shortened.
    let version =
        r#"{"return": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "id": ID}"#;
    assert_eq!(answer(Command::QueryVersion, version), Ok(Answer::Version("7.2.22".to_owned())));
    let blocks = r#"{"return": [{"io-status": "ok", "device": "", "qdev": "/machine/peripheral/disk0/virtio-backend",
        "inserted": {"ro": false, "drv": "qcow2", "node-name": "root",
        "file": "json:{\"driver\": \"qcow2\", \"file\": {\"driver\": \"file\", \"filename\": \"/dev/fdset/1\"}}",
        "image": {"virtual-size": 1073741824, "filename": "/dev/fdset/1"}}}, {"device": "empty"}], "id": ID}"#;
    let Ok(Answer::Blocks(blocks)) = answer(Command::QueryBlock, blocks) else { panic!("no drives") };
    assert_eq!(blocks.len(), 1, "an empty drive is none");
    assert_eq!((blocks[0].format.as_str(), blocks[0].size), ("qcow2", Some(1 << 30)));
    assert_eq!(blocks[0].file, "/dev/fdset/1");
    assert_eq!(blocks[0].device, "/machine/peripheral/disk0/virtio-backend");
    let usernet = "{\"return\": \"Hub -1 (net0):\\r\\n  TCP[HOST_FORWARD]  13  127.0.0.1 40123  10.0.2.15  22  0  0\\r\\n\", \"id\": ID}";
    let forwards = Answer::Forwards(vec![Forward::loopback(40123, 22)]);
    assert_eq!(answer(Command::InfoUsernet, usernet), Ok(forwards));
    assert_eq!(answer(Command::QueryKvm, r#"{"return": {}, "id": ID}"#), Err(Error::Malformed));
}

#[test]
fn a_refusal_names_the_command() {
    let refused =
        answer(Command::QueryKvm, r#"{"error": {"class": "GenericError", "desc": "no"}, "id": ID}"#);
    assert_eq!(refused.unwrap_err().to_string(), "QEMU refused `query-kvm`: no");
}

#[test]
fn events_are_told_apart_and_unknown_ones_pass_by() {
    let mut session = Session::default();
    let mut hear = |line: &str| session.hear(line).unwrap();
    assert_eq!(hear(r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#), Message::Greeting);
    assert_eq!(
        hear(r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#),
        Message::Event(Event::Shutdown { reason: "guest-shutdown".to_owned() })
    );
    assert_eq!(
        hear(r#"{"event": "RESET", "data": {"guest": true, "reason": "guest-reset"}}"#),
        Message::Event(Event::Reset { by_guest: true })
    );
    assert_eq!(hear(r#"{"timestamp": {}, "event": "RESUME"}"#), Message::Event(Event::Resume));
    assert_eq!(hear(r#"{"event": "NIC_RX_FILTER_CHANGED"}"#), Message::Event(Event::Other));
    for nonsense in ["SSH-2.0", "{}", r#"{"event": 1}"#] {
        assert_eq!(session.hear(nonsense), Err(Error::Malformed));
    }
}

#[test]
fn a_qemu_that_never_answers_takes_no_memory_without_end() {
    let mut session = Session::default();
    for _ in 0..10 * OPEN_MAX {
        session.ask(Command::QueryStatus);
    }
    assert_eq!(session.open.len(), OPEN_MAX);
}

#[test]
fn usernet_goes_through_the_human_monitor() {
    assert_eq!(
        Command::InfoUsernet.render(7),
        "{\"execute\":\"human-monitor-command\",\"id\":7,\"arguments\":{\"command-line\":\"info usernet\"}}\n"
    );
}

#[test]
fn a_machines_state_goes_through_descriptors() {
    let line = |command| Session::default().ask(command).1;
    let capabilities = r#"{"capabilities":[{"capability":"x-ignore-shared","state":true}]}"#;
    for (command, name, arguments) in [
        (Command::IgnoreShared, "migrate-set-capabilities", capabilities),
        (Command::GetState, "getfd", r#"{"fdname":"state"}"#),
        (Command::Migrate, "migrate", r#"{"uri":"fd:state"}"#),
        (Command::MigrateIncoming(7), "migrate-incoming", r#"{"uri":"fd:7"}"#),
    ] {
        let wanted = format!("{{\"execute\":\"{name}\",\"id\":1,\"arguments\":{arguments}}}\n");
        assert_eq!(line(command), wanted);
    }
    let migration = |status: &str, error: Option<&str>| {
        Ok(Answer::Migration { status: status.to_owned(), error: error.map(str::to_owned) })
    };
    let completed = r#"{"return": {"status": "completed", "total-time": 12}, "id": ID}"#;
    assert_eq!(answer(Command::QueryMigrate, completed), migration("completed", None));
    let failed = r#"{"return": {"status": "failed", "error-desc": "no room"}, "id": ID}"#;
    assert_eq!(answer(Command::QueryMigrate, failed), migration("failed", Some("no room")));
    assert_eq!(answer(Command::QueryMigrate, r#"{"return": {}, "id": ID}"#), migration("", None));
}

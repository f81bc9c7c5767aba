use std::thread;

use proptest::prelude::*;

use super::*;

/// A message as the manager writes it.
fn message(kind: u8, member: &str, reply_serial: u32, body: &[u8]) -> Vec<u8> {
    let mut fields = Vec::new();
    if !member.is_empty() {
        fields.extend([field::MEMBER, 1, b's', 0]);
        put_text(&mut fields, member);
    }
    if reply_serial != 0 {
        pad(&mut fields, 8);
        fields.extend([field::REPLY_SERIAL, 1, b'u', 0]);
        fields.extend(reply_serial.to_le_bytes());
    }
    let mut message = vec![b'l', kind, 1, 1];
    message.extend(length(body));
    message.extend(7_u32.to_le_bytes());
    message.extend(length(&fields));
    message.extend(fields);
    pad(&mut message, 8);
    message.extend(body);
    message
}

fn texts(texts: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    texts.iter().for_each(|text| put_text(&mut body, text));
    body
}

fn removed(job: &str, unit: &str, result: &str) -> Vec<u8> {
    let mut body = 9_u32.to_le_bytes().to_vec();
    [job, unit, result].iter().for_each(|text| put_text(&mut body, text));
    message(kind::SIGNAL, SIGNAL, 0, &body)
}

/// What is said of units to a manager that says this.
fn conversation(units: &[&str], words: Vec<Vec<u8>>) -> (Jobs, Vec<u8>) {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let expected = (1..).zip(units).map(|(serial, unit)| call(serial, START, unit).len()).sum();
    let manager = thread::spawn(move || {
        let mut hello = vec![0; HELLO.len()];
        theirs.read_exact(&mut hello).expect("read");
        assert_eq!(hello, HELLO);
        theirs.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
        assert!(theirs.read(&mut [0]).is_err(), "nothing else comes before the answer");
        theirs.set_read_timeout(None).expect("set");
        theirs.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").expect("written");
        words.iter().for_each(|word| theirs.write_all(word).expect("written"));
        let mut heard = vec![0; expected];
        theirs.read_exact(&mut heard).expect("read");
        (theirs, heard)
    });
    let (first, more) = units.split_at(1);
    let mut jobs = Jobs::on(ours).expect("a conversation");
    jobs.start(first).expect("asked");
    jobs.start(more).expect("more of it");
    while !jobs.pending().is_empty() {
        jobs.wait(Duration::from_secs(10)).expect("understood");
    }
    let (_theirs, heard) = manager.join().expect("the manager");
    (jobs, heard)
}

#[test]
fn units_are_started_and_waited_for() {
    let words = vec![
        message(kind::REPLY, "", 1, &texts(&["/job/1"])),
        message(kind::SIGNAL, "JobNew", 0, &texts(&["whatever"])),
        // One may end before its start is answered.
        removed("/job/2", "b.service", "failed"),
        removed("/job/99", "other.service", "failed"),
        message(kind::REPLY, "", 2, &texts(&["/job/2"])),
        message(kind::ERROR, "", 3, &texts(&["Unit c.service not found."])),
        removed("/job/1", "a.service", "done"),
    ];
    let (jobs, heard) = conversation(&["a.service", "b.service", "c.service"], words);
    assert_eq!(
        jobs.wrong,
        [
            "b.service failed to start; `journalctl -u` with its name says why, in the guest",
            "c.service: Unit c.service not found."
        ]
    );
    assert_eq!(
        heard,
        [call(1, START, "a.service"), call(2, START, "b.service"), call(3, START, "c.service")].concat()
    );
}

/// What `busctl --address=unix:path=SOCKET call … StartUnit ss x.service replace` (systemd 252) writes, but for the order of
/// the header's fields and the serial, is read here as the specification says.
#[test]
fn a_call_is_a_message_that_can_be_read() {
    let bytes = call(5, STOP, "x.service");
    let start: [u8; 16] = bytes[..16].try_into().expect("a header");
    let mut rest = &bytes[16..];
    let message = Message::read(&start, &mut rest).expect("a message");
    assert!(rest.is_empty());
    assert_eq!((message.kind, message.member.as_str()), (kind::CALL, STOP));
    assert_eq!(message.body, texts(&["x.service", MODE]));
    assert_eq!(start[8..12], 5_u32.to_le_bytes());
}

#[test]
fn who_refuses_or_breaks_off_is_not_waited_for() {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    theirs.write_all(b"REJECTED EXTERNAL\r\n").expect("written");
    let mut jobs = Jobs::on(ours).expect("a conversation");
    assert!(jobs.start(&["a.service"]).is_err() && jobs.pending().is_empty());
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    theirs.write_all(b"OK x\r\n").expect("written");
    let mut jobs = Jobs::on(ours).expect("a conversation");
    jobs.start(&["a.service"]).expect("asked");
    jobs.wait(Duration::from_millis(20)).expect("nothing was said");
    assert_eq!(jobs.pending(), ["a.service"]);
    drop(theirs);
    assert!(jobs.wait(Duration::from_secs(10)).is_err());
}

proptest! {
    #[test]
    fn no_message_is_misread(bytes in prop::collection::vec(any::<u8>(), 16..200), fields in 0_u32..100, body in 0_u32..100) {
        let mut start: [u8; 16] = bytes[..16].try_into().expect("a header");
        start[0] = b'l';
        start[4..8].copy_from_slice(&body.to_le_bytes());
        start[12..].copy_from_slice(&fields.to_le_bytes());
        if let Ok(message) = Message::read(&start, &mut &bytes[16..]) {
            let (ours, _theirs) = UnixStream::pair().expect("a pair");
            let mut jobs = Jobs::on(ours).expect("a conversation");
            jobs.asked.insert(message.reply_serial, "a".to_owned());
            let _ = jobs.take(&message);
        }
    }
}

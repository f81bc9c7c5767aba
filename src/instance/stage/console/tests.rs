//! Consoles of which the test plays the guest.

use super::{Console, LOG_MAX, RECENT_MAX};
use crate::instance::plan::ConsoleLog;
use crate::instance::stage::outlet::Outlet;
use crate::instance::wire::{Seat, Typing};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

fn console(directory: &Path, wanted: ConsoleLog) -> (Console, UnixStream) {
    let (guest, ours) = UnixStream::pair().unwrap();
    guest.set_nonblocking(true).unwrap();
    (Console::open(&directory.join("s"), ours, directory.join("log"), wanted).unwrap(), guest)
}

fn viewer(directory: &Path) -> UnixStream {
    let viewer = UnixStream::connect(directory.join("s")).unwrap();
    viewer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    viewer
}

fn read(viewer: &mut UnixStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    viewer.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn what_follows_readiness_is_shown_and_not_written_down() {
    for (wanted, kept) in [(ConsoleLog::UntilReady, false), (ConsoleLog::Always, true)] {
        let directory = tempfile::tempdir().unwrap();
        let (mut console, mut guest) = console(directory.path(), wanted);
        guest.write_all(b"boots\n# ").unwrap();
        console.serve();
        console.boot_ended();
        let mut first = viewer(directory.path());
        let mut second = viewer(directory.path());
        console.serve();
        assert_eq!((read(&mut first, 2), read(&mut second, 2)), ("# ".into(), "# ".into()), "the prompt");
        first.write_all(b"cat key\r").unwrap();
        console.serve();
        let mut typed = [0; 8];
        guest.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"cat key\r");
        guest.write_all(b"the secret\n").unwrap();
        console.serve();
        assert_eq!(
            (read(&mut first, 11), read(&mut second, 11)),
            ("the secret\n".into(), "the secret\n".into())
        );
        let log = fs::read_to_string(directory.path().join("log")).unwrap();
        assert!(log.starts_with("boots\n# "), "{log}");
        assert_eq!(log.contains("the secret"), kept, "{log}");
        // A second boot is kept again, beside the first.
        console.boot_begins();
        guest.write_all(b"boots again\n").unwrap();
        console.serve();
        assert_eq!(fs::read_to_string(directory.path().join("log")).unwrap(), "boots again\n");
        assert!(fs::read_to_string(directory.path().join("log.1")).unwrap().starts_with("boots\n"));
    }
}

#[test]
fn a_flood_is_bounded_on_disk_and_in_memory_and_nobody_waits_for_a_viewer_that_sleeps() {
    let directory = tempfile::tempdir().unwrap();
    let (mut console, mut guest) = console(directory.path(), ConsoleLog::Always);
    let mut sleeps = viewer(directory.path());
    let flood = vec![b'x'; 64 << 10];
    let mut written = 0;
    while written < 16 << 20 {
        written += guest.write(&flood).unwrap_or(0);
        console.serve();
    }
    let size = |name: &str| fs::metadata(directory.path().join(name)).unwrap().len();
    assert!(size("log") <= LOG_MAX && !directory.path().join("log.1").exists(), "one boot has one log");
    assert!(console.recent.capacity() <= RECENT_MAX && console.viewers[0].output.len() <= 256 << 10);
    // Awake again, it is told what it missed, and sees what follows.
    let mut shown = Vec::new();
    sleeps.set_nonblocking(true).unwrap();
    guest.write_all(b"done").unwrap();
    for _ in 0..1000 {
        console.serve();
        let mut chunk = [0; 64 << 10];
        if let Ok(count) = sleeps.read(&mut chunk) {
            shown.extend_from_slice(&chunk[..count]);
        }
    }
    guest.write_all(b"after").unwrap();
    console.serve();
    std::thread::sleep(Duration::from_millis(10));
    let mut chunk = [0; 100];
    let count = sleeps.read(&mut chunk).unwrap();
    shown.extend_from_slice(&chunk[..count]);
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains("output was lost here") && shown.ends_with("after"), "{}", shown.len());
}

#[test]
fn the_reason_of_a_panic_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let (mut console, mut guest) = console(directory.path(), ConsoleLog::UntilReady);
    assert_eq!(console.panic_message(), None);
    guest
        .write_all(b"[ 1.0] Kernel panic - not syncing: sysrq \x1b[0mtriggered crash\r\n[ 1.1] CPU: 0\r\n")
        .unwrap();
    console.serve();
    assert_eq!(console.panic_message().as_deref(), Some("sysrq [0mtriggered crash"));
    // It was only shown, as from an older log: this kernel lives, and restarts.
    guest.write_all(b"[ 9.0] reboot: Restarting system\r\n").unwrap();
    console.serve();
    assert_eq!(console.panic_message(), None);
}

#[test]
fn one_types_and_the_others_look_on() {
    let directory = tempfile::tempdir().unwrap();
    let (mut console, mut guest) = console(directory.path(), ConsoleLog::UntilReady);
    let attach = |console: &mut Console, typing, expected| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        ours.set_nonblocking(true).unwrap();
        assert_eq!(console.seat(typing), Some(expected));
        console.attach(theirs, Outlet::default(), typing);
        ours
    };
    let seat = |types, another| Seat { types, another };
    let mut typed = |console: &mut Console, viewer: &mut UnixStream| {
        viewer.write_all(b"x").unwrap();
        console.serve();
        let mut byte = [0; 8];
        guest.read(&mut byte).is_ok()
    };
    let told = |viewer: &mut UnixStream| {
        let mut bytes = [0; 1000];
        let count = viewer.read(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    let mut looks = attach(&mut console, Typing::No, seat(false, false));
    let mut first = attach(&mut console, Typing::Offered, seat(true, false));
    let mut second = attach(&mut console, Typing::Offered, seat(false, true));
    assert!(typed(&mut console, &mut first));
    assert!(told(&mut second).contains("somebody else types") && told(&mut first).is_empty());
    for viewer in [&mut looks, &mut second] {
        assert!(!typed(&mut console, viewer));
    }
    assert!(told(&mut second).is_empty() && told(&mut looks).is_empty(), "it is said once");
    let third = attach(&mut console, Typing::Taken, seat(true, true));
    assert!(!typed(&mut console, &mut first));
    assert!(told(&mut first).contains("from now on"));
    // When nobody types any more, the next one who does is it.
    drop(third);
    console.serve();
    assert!(typed(&mut console, &mut second) && !typed(&mut console, &mut first));
    assert!(!typed(&mut console, &mut looks), "who only looks on never types");
}

#[test]
fn who_leaves_with_something_unread_types_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let (mut console, mut guest) = console(directory.path(), ConsoleLog::Always);
    let mut first = viewer(directory.path());
    first.write_all(b"a").unwrap();
    console.serve();
    guest.write_all(b"not read by the first\n").unwrap();
    console.serve();
    drop(first);
    console.serve();
    let mut second = viewer(directory.path());
    second.write_all(b"b").unwrap();
    console.serve();
    console.serve();
    let mut typed = [0; 2];
    guest.read_exact(&mut typed).unwrap();
    assert_eq!(&typed, b"ab");
}

#[test]
fn what_the_kernel_said_around_a_panic_is_written_down_and_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let (mut console, mut guest) = console(directory.path(), ConsoleLog::UntilReady);
    guest.write_all(b"boots\n").unwrap();
    console.serve();
    console.boot_ended();
    guest.write_all(b"the secret\r\n[   12.5] Kernel panic - not syncing: gone\r\n[secret]\r\n").unwrap();
    console.serve();
    console.log_panic();
    let log = fs::read_to_string(directory.path().join("log")).unwrap();
    assert!(
        log.starts_with("boots\n") && log.ends_with("[   12.5] Kernel panic - not syncing: gone\r\n"),
        "{log}"
    );
    assert!(!log.contains("secret"), "{log}");
}

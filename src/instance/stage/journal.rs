//! The log of events: what happened and when, a JSON object a line, for people and their scripts.
//!
//! Its lines are its own: what goes over a socket may change without them.

use std::path::PathBuf;

use jiff::{Timestamp, Unit};
use serde_json::{Map, Value, json};

use crate::instance::event::Event;
use crate::instance::stage::log::Log;

/// Bytes of the log of one run.
const MAX: u64 = 512 << 10;
/// Events of one run that are logged at most. A guest has a share of its own: it must neither fill the log nor keep
/// the host's own events out of it.
const EVENTS_MAX: usize = 5000;
const EVENTS_OF_GUEST_MAX: usize = 1000;
const BYTES_OF_GUEST_MAX: usize = 128 << 10;

/// Whose event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Host,
    Guest,
}

/// The log of events of one run.
#[derive(Debug)]
pub(super) struct Journal {
    log: Log,
    written: usize,
    written_of_guest: usize,
    bytes_of_guest: usize,
}

impl Journal {
    /// Opens the log; where a run begins, those of the runs before are kept.
    pub(super) fn open(path: PathBuf, begins: bool) -> Option<Self> {
        let log = if begins { Log::begin(path, MAX) } else { Log::go_on(path, MAX) };
        Some(Self { log: log.ok()?, written: 0, written_of_guest: 0, bytes_of_guest: 0 })
    }

    /// Writes an event down.
    pub(super) fn add(&mut self, event: &Event, source: Source) {
        let line = line(event, Timestamp::now());
        let has_room = match source {
            Source::Host => {
                self.written += 1;
                self.written <= EVENTS_MAX
            }
            Source::Guest => {
                (self.written_of_guest, self.bytes_of_guest) =
                    (self.written_of_guest + 1, self.bytes_of_guest + line.len());
                self.written_of_guest <= EVENTS_OF_GUEST_MAX && self.bytes_of_guest <= BYTES_OF_GUEST_MAX
            }
        };
        if has_room {
            self.log.append(line.as_bytes());
        }
    }
}

/// `{"time": ..., "event": ..., facts}`.
fn line(event: &Event, now: Timestamp) -> String {
    let now = now.round(Unit::Millisecond).unwrap_or(now);
    let (name, facts) = describe(event);
    let mut entry = Map::new();
    entry.insert("time".to_owned(), json!(format!("{now:.3}")));
    entry.insert("event".to_owned(), json!(name));
    if let Value::Object(facts) = facts {
        entry.extend(facts);
    }
    format!("{}\n", Value::Object(entry))
}

/// An event's name and facts.
fn describe(event: &Event) -> (&'static str, Value) {
    match event {
        Event::Accel { accel, reason } => ("accel", json!({"accel": accel, "reason": reason})),
        Event::Warning { message } => ("warning", json!({"message": message})),
        Event::Opened { namespaces, runtime } => {
            ("opened", json!({"namespaces": namespaces, "runtime": runtime}))
        }
        Event::Unavailable { reason } => ("unavailable", json!({"reason": reason})),
        Event::Busy => ("busy", Value::Null),
        Event::Staged { files } => ("staged", json!({"files": files})),
        Event::Started { accel, forwards } => ("started", json!({"accel": accel, "forwards": forwards})),
        Event::Resumed => ("resumed", Value::Null),
        Event::Frozen => ("frozen", Value::Null),
        Event::Guest { report } => ("guest", json!({"report": report})),
        Event::KeyRemoved => ("key-removed", Value::Null),
        Event::Rebooting => ("rebooting", Value::Null),
        Event::Panicked { message } => ("panicked", json!({"message": message})),
        Event::Stopping { reason, within_ms } => {
            ("stopping", json!({"reason": reason, "within_ms": within_ms}))
        }
        Event::Insisting { how } => ("insisting", json!({"how": how})),
        Event::Ended { reason, clean } => ("ended", json!({"reason": reason, "clean": clean})),
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_OF_GUEST_MAX, EVENTS_OF_GUEST_MAX, Journal, Source, line};
    use crate::instance::event::Event;
    use jiff::Timestamp;

    #[test]
    fn a_line_has_its_time_first() {
        let now: Timestamp = "2026-01-02T03:04:05.6789Z".parse().unwrap();
        assert_eq!(
            line(&Event::Staged { files: 3 }, now),
            "{\"time\":\"2026-01-02T03:04:05.679Z\",\"event\":\"staged\",\"files\":3}\n"
        );
        assert_eq!(
            line(&Event::KeyRemoved, now),
            "{\"time\":\"2026-01-02T03:04:05.679Z\",\"event\":\"key-removed\"}\n"
        );
    }

    #[test]
    fn a_guest_has_a_share_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let mut journal = Journal::open(path.clone(), true).unwrap();
        for _ in 0..2 * EVENTS_OF_GUEST_MAX {
            journal.add(&Event::Warning { message: "noise".to_owned() }, Source::Guest);
        }
        journal.add(&Event::Busy, Source::Host);
        journal.add(&Event::Warning { message: "long".repeat(BYTES_OF_GUEST_MAX) }, Source::Guest);
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), EVENTS_OF_GUEST_MAX + 1);
        assert!(text.lines().last().unwrap().contains("busy"));
    }
}

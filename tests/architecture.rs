//! The order of the rooms, read from the source: a room imports only rooms above it.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::use_debug,
    reason = "a test binary has no users, and says what it skips"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// From the ground floor up; a room may import itself and the rooms before it.
const ROOMS: [&str; 16] = [
    "sops", "store", "rules", "edge", "keys", "secrets", "install", "host", "image", "vm", "instance",
    "guest", "builder", "personas", "cli", "commands",
];
/// Rooms that take text, values, randomness and time as arguments.
const PURE: [&str; 4] = ["sops", "store", "rules", "vm"];
/// What a pure room has no business with.
const OUTSIDE: [&str; 7] =
    ["std::fs", "std::env", "std::process", "std::net", "std::os", "SystemTime::now", "Instant::now"];
/// A file longer than this is two rooms in one.
const LINES: usize = 400;

fn sources() -> Vec<(String, PathBuf, String)> {
    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("src can be listed") {
            let path = entry.expect("src can be listed").path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    assert!(files.len() > 20, "the walk over src found too little");
    // Tests in files of their own may look at anything.
    let is_test = |path: &PathBuf| {
        path.components()
            .any(|part| ["tests", "tests.rs", "testing.rs"].iter().any(|name| part.as_os_str() == *name))
    };
    files
        .into_iter()
        .filter(|path| !is_test(&path.strip_prefix(&root).expect("below src").to_path_buf()))
        .map(|path| {
            let inside = path.strip_prefix(&root).expect("below src").to_path_buf();
            let first = inside.iter().next().expect("a name").to_string_lossy();
            let room = first.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("a source is UTF-8");
            (room, inside, text)
        })
        .collect()
}

/// The source without comments and without its inline test module.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or(text);
    text.lines().map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The rooms that a source names: `crate::ROOM`, also inside `use crate::{…}`.
fn named(code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut start = true;
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => start = true,
                    c if depth == 1 && start && (c.is_alphanumeric() || c == '_') => {
                        word.push(c);
                        continue;
                    }
                    c if c.is_whitespace() => continue,
                    _ => start = false,
                }
                if !word.is_empty() {
                    rooms.push(std::mem::take(&mut word));
                    start = c == ',';
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            rooms.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    rooms
}

#[test]
fn a_room_imports_only_rooms_above_it() {
    let rank: BTreeMap<&str, usize> = ROOMS.iter().enumerate().map(|(rank, room)| (*room, rank)).collect();
    let mut wrong = Vec::new();
    for (room, file, text) in sources() {
        for other in named(&code(&text)) {
            let allowed = match (rank.get(room.as_str()), rank.get(other.as_str())) {
                (Some(here), Some(there)) => there <= here,
                // Exit codes are known only where a run ends.
                (Some(_), None) => other == "outcome" && ["commands", "personas"].contains(&room.as_str()),
                (None, _) => ["lib", "main", "outcome"].contains(&room.as_str()),
            };
            if !allowed {
                wrong.push(format!("{} names crate::{other}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that point the wrong way:\n{}", wrong.join("\n"));
}

#[test]
fn secrets_and_machines_never_meet_below_the_commands() {
    for (room, file, text) in sources() {
        let forbidden: &[&str] = match room.as_str() {
            "vm" | "instance" | "image" => &["secrets", "keys", "install"],
            _ => &[],
        };
        for other in named(&code(&text)) {
            assert!(!forbidden.contains(&other.as_str()), "{} names crate::{other}", file.display());
        }
    }
}

#[test]
fn pure_rooms_do_not_touch_the_outside() {
    for (room, file, text) in sources() {
        if PURE.contains(&room.as_str()) {
            for word in OUTSIDE {
                assert!(!code(&text).contains(word), "{} uses {word}", file.display());
            }
        }
    }
}

#[test]
fn files_stay_readable() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|(_, _, text)| text.lines().count() > LINES)
        .map(|(_, file, text)| format!("{}: {} lines", file.display(), text.lines().count()))
        .collect();
    assert!(long.is_empty(), "files over {LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn the_reader_of_use_lines_sees_every_form() {
    let text = "use crate::sops::tree;\nuse crate::{edge::atomic, keys, store::{a, b}};\nfn f() { crate::rules::g() }";
    assert_eq!(named(text), ["sops", "edge", "keys", "store", "rules"]);
}

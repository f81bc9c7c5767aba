//! The order of the rooms, read from the source: a room imports only rooms above it.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::use_debug,
    reason = "a test binary has no users, and says what it skips"
)]

#[path = "architecture/paths.rs"]
mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use paths::Named;

/// From the ground floor up; a room may import itself and the rooms before it.
const ROOMS: [&str; 17] = [
    "sops",
    "store",
    "rules",
    "vm",
    "edge",
    "keys",
    "secrets",
    "install",
    "host",
    "image",
    "instance",
    "guest",
    "lifecycle",
    "builder",
    "personas",
    "cli",
    "commands",
];
/// Rooms that take text, values, randomness and time as arguments.
const PURE: [&str; 4] = ["sops", "store", "rules", "vm"];
/// What a pure room has no business with.
const OUTSIDE: [&str; 14] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::net",
    "std::os",
    "std::thread",
    "io::stdin",
    "io::stdout",
    "io::stderr",
    "SystemTime::now",
    "Instant::now",
    "rand::rngs::OsRng",
    "nix",
    "tempfile",
];
/// A file longer than this is two rooms in one.
const LINES: usize = 400;

/// A source of the program.
struct Source {
    /// Its path below `src`.
    path: PathBuf,
    text: String,
}

impl Source {
    /// The modules that it stands in, itself the last: the crate's own two files stand in none.
    fn module(&self) -> Vec<String> {
        let names: Vec<String> =
            self.path.with_extension("").iter().map(|name| name.to_string_lossy().into_owned()).collect();
        if names == ["lib"] || names == ["main"] { Vec::new() } else { names }
    }

    fn room(&self) -> String {
        self.module().first().cloned().unwrap_or_default()
    }

    fn paths(&self) -> Vec<Named> {
        paths::of(&self.text, &self.module())
    }

    /// The rooms that it names.
    fn rooms(&self) -> BTreeSet<String> {
        let in_crate = |path: Named| match path.as_slice() {
            [first, room, ..] if first == "crate" => Some(room.clone()),
            // All of the crate at once, as in `use crate as c`.
            [only] if only == "crate" => Some("*".to_owned()),
            _ => None,
        };
        self.paths().into_iter().filter_map(in_crate).collect()
    }
}

/// Every source below a folder of the project.
fn below(folder: &str) -> Vec<Source> {
    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("the folder can be listed") {
            let path = entry.expect("the folder can be listed").path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    walk(&root, &mut files);
    let source = |path: PathBuf| Source {
        text: fs::read_to_string(&path).expect("a source is UTF-8"),
        path: path.strip_prefix(&root).expect("below the folder").to_path_buf(),
    };
    files.into_iter().map(source).collect()
}

/// The program's sources. Tests in files of their own may look at anything.
fn sources() -> Vec<Source> {
    const TESTS: [&str; 3] = ["tests", "tests.rs", "testing.rs"];
    let is_test = |source: &Source| source.path.iter().any(|part| TESTS.iter().any(|name| part == *name));
    let mut sources = below("src");
    sources.retain(|source| !is_test(source));
    assert!(sources.len() > 200, "the walk over src found too little");
    sources
}

#[test]
fn a_room_imports_only_rooms_above_it() {
    let rank: BTreeMap<&str, usize> = ROOMS.iter().enumerate().map(|(rank, room)| (*room, rank)).collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let room = source.room();
        for other in source.rooms() {
            let allowed = match (rank.get(room.as_str()), rank.get(other.as_str())) {
                (Some(here), Some(there)) => there <= here,
                // Exit codes are known only where a run ends.
                (Some(_), None) => other == "outcome" && ["commands", "personas"].contains(&room.as_str()),
                (None, _) => ["", "outcome"].contains(&room.as_str()),
            };
            if !allowed {
                wrong.push(format!("{} names crate::{other}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that point the wrong way:\n{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_import_only_pure_rooms() {
    for source in sources().iter().filter(|source| PURE.contains(&source.room().as_str())) {
        for other in source.rooms() {
            assert!(PURE.contains(&other.as_str()), "{} names crate::{other}", source.path.display());
        }
    }
}

#[test]
fn secrets_and_machines_never_meet_below_the_commands() {
    for source in sources() {
        let forbidden: &[&str] = match source.room().as_str() {
            "vm" | "instance" | "image" => &["secrets", "keys", "install"],
            _ => &[],
        };
        for other in source.rooms() {
            assert!(!forbidden.contains(&other.as_str()), "{} names crate::{other}", source.path.display());
        }
    }
}

#[test]
fn pure_rooms_do_not_touch_the_outside() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| PURE.contains(&source.room().as_str())) {
        for path in source.paths() {
            for word in OUTSIDE {
                let word: Vec<&str> = word.split("::").collect();
                // A crate is meant only where a path starts with it; `std` may be left out behind a `use`.
                let found = match word.as_slice() {
                    [_] => path.first().is_some_and(|first| first == word[0]),
                    _ => path.windows(word.len()).any(|part| part == word.as_slice()),
                };
                if found {
                    wrong.push(format!("{} names {}", source.path.display(), path.join("::")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "pure rooms that touch the outside:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_readable() {
    let all = sources().into_iter().chain(below("tests")).chain(below("fuzz/src"));
    let long: Vec<String> = all
        .filter(|source| source.text.lines().count() > LINES)
        .map(|source| format!("{}: {} lines", source.path.display(), source.text.lines().count()))
        .collect();
    assert!(long.is_empty(), "files over {LINES} lines:\n{}", long.join("\n"));
}

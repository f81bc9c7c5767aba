//! Damaged files: every byte of an encrypted file changed, one at a time, in every format.
//!
//! What comes of it is an error, or the very plaintext; never a panic, and never a wait. The format itself leaves one
//! thing open, so no file here has it: a list of one item and that item alone have the same path and the same MAC.

#![allow(clippy::unwrap_used, reason = "a test binary has no users")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use civm::edge::environment::Environment;
use civm::edge::terminal::Nobody;
use civm::keys::identity::Identities;
use civm::secrets::file::SopsFile;
use civm::sops::document::MacCheck;
use civm::store::{Format, Indents};

/// One flipped byte takes milliseconds; this long, and it counts as hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one change came to: its place, and what is wrong about it.
type Report = (usize, u8, Option<String>);

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sops").join(name)
}

fn identities() -> Identities {
    let environment = Environment::empty().with("SOPS_AGE_KEY_FILE", recorded("keys.txt"));
    Identities::load(&environment, Arc::new(Nobody))
}

/// The plaintext, or the message.
fn read(name: &str, text: &[u8], identities: &Identities) -> Result<Vec<u8>, String> {
    let path = Path::new(name);
    let store = Format::of_path(path).store(Indents::default());
    let file = SopsFile::of_store(store, path, text).map_err(|error| error.to_string())?;
    let open = file.open(identities, MacCheck::Verify).map_err(|error| error.to_string())?;
    open.plaintext().map(|text| text.to_vec()).map_err(|error| error.to_string())
}

/// Changes every byte of a part of the file, in every way.
fn flip(name: &str, text: &[u8], part: (usize, usize), reports: &Sender<Report>) {
    let identities = identities();
    let good = read(name, text, &identities).expect("the file itself is sound");
    for at in (0..text.len()).filter(|at| at % part.1 == part.0) {
        let byte = text[at];
        for changed in [byte ^ 1, byte ^ 0x80, b' ', b'\n'] {
            let mut text = text.to_vec();
            text[at] = changed;
            let result = catch_unwind(AssertUnwindSafe(|| read(name, &text, &identities)));
            let fault = match result {
                Err(_) => Some("a panic".to_owned()),
                Ok(Ok(other)) if other != good => {
                    Some(format!("another plaintext: {}", String::from_utf8_lossy(&other)))
                }
                Ok(Err(message)) if message.trim().is_empty() => Some("an error without words".to_owned()),
                Ok(_) => None,
            };
            if reports.send((at, changed, fault)).is_err() {
                return;
            }
        }
    }
}

fn every_byte_of(name: &str) {
    let text = std::fs::read(recorded("3.13.3/encrypted").join(name)).unwrap();
    let (reports, results) = channel();
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(4);
    for thread in 0..threads {
        let (name, text, reports) = (name.to_owned(), text.clone(), reports.clone());
        std::thread::spawn(move || flip(&name, &text, (thread, threads), &reports));
    }
    drop(reports);
    let mut faults = Vec::new();
    let mut count = 0;
    loop {
        match results.recv_timeout(PATIENCE) {
            Ok((at, changed, fault)) => {
                count += 1;
                let line = text[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
                faults
                    .extend(fault.map(|fault| format!("byte {at} (line {line}) as {changed:#04x}: {fault}")));
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("{name}: hung after {count} changes"),
        }
    }
    assert_eq!(count, text.len() * 4, "{name}: every byte was changed");
    assert!(faults.is_empty(), "{name}: {} of {count}\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_changed_byte_of_yaml_is_noticed_or_harmless() {
    every_byte_of("small.yaml");
}

#[test]
fn every_changed_byte_of_json_is_noticed_or_harmless() {
    every_byte_of("small.json");
}

#[test]
fn every_changed_byte_of_dotenv_is_noticed_or_harmless() {
    every_byte_of("small.env");
}

#[test]
fn every_changed_byte_of_ini_is_noticed_or_harmless() {
    every_byte_of("small.ini");
}

#[test]
fn every_changed_byte_of_a_binary_file_is_noticed_or_harmless() {
    every_byte_of("small.bin");
}

//! The published test vectors of age (`tests/vectors/age`), all through the ways in which civm opens age files.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Mutex;
use std::{fs, mem};

use age::armor::{ArmoredWriter, Format};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::locked::{LockedError, LockedFile};
use super::*;
use crate::edge::terminal::{Nobody, PromptError};

/// One file.
#[derive(Default)]
struct Vector {
    name: String,
    expect: String,
    payload: String,
    identities: Vec<String>,
    passphrases: VecDeque<String>,
    armored: bool,
    file: Vec<u8>,
}

impl Vector {
    fn read(path: &Path) -> Self {
        let text = fs::read(path).expect("a vector");
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let split = text.windows(2).position(|pair| pair == b"\n\n").expect("an empty line");
        let mut vector = Self { name, file: text[split + 2..].to_vec(), ..Self::default() };
        for line in String::from_utf8(text[..split].to_vec()).expect("text").lines() {
            let (key, value) = line.split_once(": ").expect("a key and its value");
            match key {
                "expect" => vector.expect = value.to_owned(),
                "payload" => vector.payload = value.to_owned(),
                "identity" => vector.identities.push(value.to_owned()),
                "passphrase" => vector.passphrases.push_back(value.to_owned()),
                "armored" => vector.armored = true,
                "compressed" => {
                    let file = mem::take(&mut vector.file);
                    vector.file = miniz_oxide::inflate::decompress_to_vec_zlib(&file).expect("zlib");
                }
                "comment" | "file key" => {}
                other => panic!("{}: {other}", vector.name),
            }
        }
        vector
    }

    /// As it would be in a sops file.
    fn enc(&self) -> String {
        if self.armored {
            return String::from_utf8_lossy(&self.file).into_owned();
        }
        let mut armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).expect("armor");
        armor.write_all(&self.file).expect("armor");
        String::from_utf8(armor.finish().expect("armor")).expect("text")
    }
}

fn vectors() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/age/testkit");
    let files = fs::read_dir(folder).expect("the vectors");
    let vectors: Vec<Vector> = files.map(|file| Vector::read(&file.expect("a vector").path())).collect();
    assert!(vectors.len() > 140, "the vectors are there");
    vectors
}

/// Gives one passphrase after another.
struct Gives(Mutex<VecDeque<String>>);

impl Prompt for Gives {
    fn passphrase(&self, _: &str) -> Result<Zeroizing<String>, PromptError> {
        let next = self.0.lock().expect("not poisoned").pop_front();
        next.map(Zeroizing::new).ok_or(PromptError::NoTerminal)
    }

    fn line(&self, _: &str) -> Result<String, PromptError> {
        Err(PromptError::NoTerminal)
    }

    fn tell(&self, _: &str) {}
}

/// Made by early versions of other programs, and opened for their sake.
const OF_EARLY_VERSIONS: [&str; 2] = ["stanza_missing_body", "stanza_missing_final_line"];
/// A vector longer than this is about the encryption of long contents, which no key is.
const LONG: usize = 1 << 14;

fn sha256(bytes: &[u8]) -> String {
    crate::edge::hex::encode(&Sha256::digest(bytes))
}

#[test]
fn wrapped_keys_open_and_fail_as_the_vectors_say() {
    for vector in vectors().iter().filter(|vector| vector.passphrases.is_empty()) {
        let environment = Environment::empty().with("SOPS_AGE_KEY", vector.identities.join(" "));
        let identities = Identities::load(&environment, Arc::new(Nobody));
        let outcome = identities.open_silently("age1", &vector.enc());
        let of_early_version = OF_EARLY_VERSIONS.contains(&vector.name.as_str());
        let too_long = "what it holds is too long for a key";
        let good = match (vector.expect.as_str(), &outcome) {
            ("success", Ok(key)) => sha256(key) == vector.payload,
            ("success", Err(OpenError::Damaged { reason, .. })) => {
                vector.file.len() > LONG && reason == too_long
            }
            ("no match", Err(error)) => *error == OpenError::NoMatch,
            ("header failure", Ok(_)) => of_early_version,
            ("header failure", Err(OpenError::Damaged { part: Part::Header, .. })) => !of_early_version,
            ("armor failure", Err(OpenError::Damaged { .. })) => true,
            ("HMAC failure", Err(OpenError::Damaged { part, .. })) => *part == Part::Mac,
            ("payload failure", Err(OpenError::Damaged { part, reason })) => {
                *part == Part::Payload && (vector.file.len() > LONG) == (reason == too_long)
            }
            _ => false,
        };
        assert!(good, "{}: {}, not {outcome:?}", vector.name, vector.expect);
    }
}

#[test]
fn identity_files_unlock_and_fail_as_the_vectors_say() {
    for vector in vectors().into_iter().filter(|vector| !vector.passphrases.is_empty()) {
        assert!(vector.armored || LockedFile::is_one(&vector.file), "{}", vector.name);
        let file = LockedFile::new(vector.name.clone(), vector.file);
        let outcome = file.unlock(&Gives(Mutex::new(vector.passphrases))).map(|keys| keys.len());
        let good = match (vector.expect.as_str(), &outcome) {
            // What is behind the passphrase is a text, but not one of identities.
            ("success", Err(LockedError::Useless(reason))) => reason == "line 1: not an age identity",
            // Each passphrase was tried, and the next one asked for.
            ("no match", Err(LockedError::NoAnswer(_))) => true,
            ("no match", Err(LockedError::Useless(_))) => vector.name == "scrypt_uppercase",
            ("header failure", Err(LockedError::Useless(reason))) => !reason.starts_with("line"),
            _ => false,
        };
        assert!(good, "{}: {}, not {outcome:?}", vector.name, vector.expect);
    }
}

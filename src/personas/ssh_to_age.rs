//! The command line of ssh-to-age 1.3.0.
//!
//! Where that tool repeats a whole private key in a message, empties a file before it fails, or makes a key file
//! that everybody can read, this one does not; lines with space around them and keys in PKCS#8 are converted.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::go_flag::{self, Flag, Stop};
use super::go_text::reason;
use crate::edge::atomic;
use crate::edge::environment::Environment;
use crate::edge::stream::{read_stdin, to_stderr, to_stdout};
use crate::keys::ssh::private::{self, PrivateKey, PrivateKeyError};
use crate::keys::ssh::public::{self, PublicKeyError, PublicLine};

/// Go's code for a wrong command line.
const USAGE: u8 = 2;
/// Holds the passphrase of a private key.
const PASSPHRASE: &str = "SSH_TO_AGE_PASSPHRASE";

static FLAGS: [Flag; 5] = [PRIVATE_KEY, INPUT, OUTPUT, STDIN_PASS, VERSION];
const PRIVATE_KEY: Flag = Flag::bool(&["private-key"], "convert private key instead of public key");
const INPUT: Flag = Flag::text(&["i"], "Input path. Reads by default from standard input").or("-");
const OUTPUT: Flag = Flag::text(&["o"], "Output path. Prints by default to standard output").or("-");
const STDIN_PASS: Flag = Flag::bool(&["stdinpass"], "read private key passphrase from standard input");
const VERSION: Flag = Flag::bool(&["version"], "show version and exit");

/// Runs the tool under the name that it was called by. Returns its exit code.
#[must_use]
pub(super) fn run(program: &str, args: &[OsString], environment: &Environment) -> u8 {
    let given = match go_flag::parse(&FLAGS, args) {
        Ok(given) => given,
        Err(stop) => {
            let (words, code) = match stop {
                Stop::Help => (String::new(), 0),
                Stop::Wrong(words) => (format!("{words}\n"), USAGE),
            };
            to_stderr(format!("{words}{}", go_flag::usage(program, &FLAGS)).trim_end_matches('\n'));
            return code;
        }
    };
    if given.is_on(&VERSION) {
        return ended(program, print(concat!(env!("CARGO_PKG_VERSION"), "\n").as_bytes()));
    }
    let input = given.text(&INPUT);
    let output = given.text(&OUTPUT);
    let converted = if given.is_on(&PRIVATE_KEY) {
        identity(&input, given.is_on(&STDIN_PASS), environment).map(|text| Converted { text, error: None })
    } else {
        read(&input).map(|text| recipients(&text))
    };
    let written = converted.and_then(|Converted { text, error }| {
        if output == "-" {
            print(text.as_bytes())?;
            return error.map_or(Ok(()), Err);
        }
        // Nothing is written, and nothing that is there is lost, where not everything could be converted.
        error.map_or(Ok(()), Err)?;
        let mode = if given.is_on(&PRIVATE_KEY) { 0o600 } else { 0o666 };
        atomic::replace(Path::new(&output), text.as_bytes(), mode).map_err(|error| match error {
            atomic::WriteError::Io { path, source } => {
                format!("failed to create {0}: open {0}: {1}", path.display(), reason(&source))
            }
            other => format!("failed to create {}: {other}", output.to_string_lossy()),
        })
    });
    ended(program, written)
}

/// What came out, and what kept the rest from coming.
struct Converted {
    text: Zeroizing<String>,
    error: Option<String>,
}

/// A recipient for each ed25519 key, up to the first line that is not a key.
fn recipients(text: &[u8]) -> Converted {
    let mut found = Converted { text: Zeroizing::new(String::new()), error: None };
    for line in public::lines(text) {
        match line {
            Ok(PublicLine::Key(key)) => {
                found.text.push_str(&key.recipient());
                found.text.push('\n');
            }
            Ok(PublicLine::Skipped { algorithm, .. }) => {
                to_stderr(&format!("skipped key: {}", PublicKeyError::OtherType(algorithm)));
            }
            Err(error) => {
                let hint = match error.error {
                    PublicKeyError::PrivateKey => "; -private-key converts it",
                    _ => "",
                };
                found.error = Some(format!("failed to convert {error}{hint}"));
                break;
            }
        }
    }
    found
}

/// The identity of the first private key of a file.
fn identity(
    input: &OsString,
    passphrase_on_stdin: bool,
    environment: &Environment,
) -> Result<Zeroizing<String>, String> {
    let text = read(input)?;
    let mut passphrase = environment
        .get(PASSPHRASE)
        .map(|value| Zeroizing::new(value.as_encoded_bytes().to_vec()))
        .unwrap_or_default();
    if passphrase_on_stdin {
        if input == "-" {
            return Err("cannot read both private key and passphrase from stdin".to_owned());
        }
        passphrase = read_stdin().map_err(|error| format!("error reading passphrase from stdin: {error}"))?;
        while passphrase.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
            passphrase.pop();
        }
    }
    let failed = |error: PrivateKeyError| {
        let name = if input == "-" { "the key on stdin".into() } else { input.to_string_lossy() };
        format!("failed to convert {name}: {error}")
    };
    let key = match private::parse(&text).map_err(failed)?.key {
        PrivateKey::Plain(key) => key,
        PrivateKey::Locked(_) if passphrase.is_empty() => {
            let reason = format!("it is protected by a passphrase: set {PASSPHRASE} or use -stdinpass");
            return Err(failed(PrivateKeyError::Unsupported(reason)));
        }
        PrivateKey::Locked(key) => {
            let passphrase =
                std::str::from_utf8(&passphrase).map_err(|_| failed(PrivateKeyError::WrongPassphrase))?;
            key.unlock(passphrase).map_err(failed)?
        }
    };
    let identity = key.to_age().map_err(failed)?.to_text();
    let mut line = Zeroizing::new(String::with_capacity(identity.len() + 1));
    line.push_str(&identity);
    line.push('\n');
    Ok(line)
}

fn read(input: &OsString) -> Result<Zeroizing<Vec<u8>>, String> {
    if input == "-" {
        return read_stdin().map_err(|error| format!("error reading stdin: {error}"));
    }
    let name = input.to_string_lossy();
    std::fs::read(input).map(Zeroizing::new).map_err(|error| {
        let step = if error.kind() == io::ErrorKind::IsADirectory { "read" } else { "open" };
        format!("error reading {name}: {step} {name}: {}", reason(&error))
    })
}

fn print(bytes: &[u8]) -> Result<(), String> {
    to_stdout(bytes).map_err(|error| format!("failed to write key: {error}"))
}

fn ended(program: &str, result: Result<(), String>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            to_stderr(&format!("{program}: {error}"));
            1
        }
    }
}

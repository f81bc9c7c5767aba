//! The recorded answers of the real ssh-to-age, case by case (`tests/vectors/ssh-to-age`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::private::{self, PrivateKey};
use super::public::{self, PublicKeyError, PublicLine};

/// What is beside the reading of keys: arguments, files that are missing, versions. The command line of the
/// same name answers these.
const OF_THE_COMMAND_LINE: [&str; 14] = [
    "help",
    "help-long",
    "unknown-flag",
    "flag-without-value",
    "bool-flag-bad-value",
    "version",
    "version-wins",
    "input-missing",
    "input-empty-name",
    "input-directory",
    "output-unwritable",
    "output-is-input",
    "stdinpass-with-stdin-key",
    "private-missing-file",
];

#[derive(Deserialize)]
struct Case {
    name: String,
    args: Vec<String>,
    stdin_file: Option<String>,
    stdin_repeat: Option<Repeat>,
    env: BTreeMap<String, String>,
    exit: i32,
    #[serde(default)]
    stdout: String,
    stdout_sha256: Option<String>,
    #[serde(default)]
    stderr: String,
    #[serde(default)]
    written: Vec<Written>,
    civm: String,
    civm_stdout_of: Option<String>,
}

#[derive(Deserialize)]
struct Repeat {
    file: Option<String>,
    text: Option<String>,
    times: usize,
    #[serde(default)]
    once: bool,
    then: Option<String>,
}

#[derive(Deserialize)]
struct Written {
    content: String,
}

/// How a conversion ended.
#[derive(Debug, Default)]
struct Answer {
    stdout: String,
    skipped: Vec<String>,
    error: Option<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ssh-to-age")
}

fn input(name: &str) -> Vec<u8> {
    fs::read(folder().join("inputs").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn cases() -> Vec<Case> {
    let text = fs::read(folder().join("cases.json")).expect("the cases");
    serde_json::from_slice(&text).expect("cases in their form")
}

impl Case {
    fn stdin(&self) -> Vec<u8> {
        if let Some(repeat) = &self.stdin_repeat {
            let text =
                repeat.text.clone().map_or_else(|| input(repeat.file.as_deref().expect("one")), Into::into);
            let then = repeat.then.clone().map_or_else(|| text.clone(), String::into_bytes);
            let mut bytes = if repeat.once { text } else { Vec::new() };
            bytes.extend(then.repeat(repeat.times));
            return bytes;
        }
        self.stdin_file.as_deref().map(input).unwrap_or_default()
    }

    /// The input, the passphrase, and whether the private half is wanted.
    fn read_arguments(&self) -> (Vec<u8>, Option<String>, bool) {
        let (mut private, mut from_stdin, mut file) = (false, false, None);
        let mut args = self.args.iter().map(|arg| arg.replace("--", "-"));
        while let Some(arg) = args.next() {
            let (flag, value) = arg
                .split_once('=')
                .map_or((arg.clone(), None), |(flag, value)| (flag.into(), Some(value.into())));
            let mut value = || value.clone().or_else(|| args.next());
            match flag.as_str() {
                "-private-key" => private = !arg.ends_with("false"),
                "-stdinpass" => from_stdin = true,
                "-i" => file = value().filter(|name| name != "-"),
                "-o" => drop(value()),
                // What is not a flag ends the flags.
                _ => break,
            }
        }
        let stdin = self.stdin();
        let passphrase = if from_stdin {
            Some(String::from_utf8_lossy(&stdin).trim_end_matches(['\r', '\n']).to_owned())
        } else {
            self.env.get("SSH_TO_AGE_PASSPHRASE").cloned()
        };
        let text = file.map_or(stdin, |name| input(name.trim_start_matches("{dir}/")));
        (text, passphrase.filter(|passphrase| !passphrase.is_empty()), private)
    }

    fn run(&self) -> (Vec<u8>, Answer) {
        let (text, passphrase, private) = self.read_arguments();
        let mut answer = Answer::default();
        if private {
            match convert_private(&text, passphrase.as_deref()) {
                Ok(identity) => answer.stdout = format!("{identity}\n"),
                Err(error) => answer.error = Some(error),
            }
            return (text, answer);
        }
        for line in public::lines(&text) {
            match line {
                Ok(PublicLine::Key(key)) => answer.stdout += &format!("{}\n", key.recipient()),
                Ok(PublicLine::Skipped { algorithm, .. }) => {
                    answer.skipped.push(PublicKeyError::OtherType(algorithm).to_string());
                }
                Err(error) => {
                    answer.error = Some(error.to_string());
                    break;
                }
            }
        }
        (text, answer)
    }
}

fn convert_private(text: &[u8], passphrase: Option<&str>) -> Result<String, String> {
    let key = match private::parse(text).map_err(|error| error.to_string())?.key {
        PrivateKey::Plain(key) => key,
        PrivateKey::Locked(key) => {
            let passphrase = passphrase.ok_or("it is passphrase-protected")?;
            key.unlock(passphrase).map_err(|error| error.to_string())?
        }
    };
    key.to_age().map(|identity| identity.to_text().to_string()).map_err(|error| error.to_string())
}

/// The wanted answer where the recorded one is a weakness: exit code and output.
fn wanted(case: &Case, cases: &[Case]) -> (i32, Option<String>) {
    let stdout_of = |name: &str| cases.iter().find(|case| case.name == name).expect(name).stdout.clone();
    if case.civm == "refuse" {
        return (1, Some(String::new()));
    }
    if let Some(name) = &case.civm_stdout_of {
        return (0, Some(stdout_of(name)));
    }
    match case.name.as_str() {
        // Skipped like any other type.
        "ecdsa-bare" | "sk-ed25519-bare" | "sk-ecdsa-bare" => (0, Some(String::new())),
        // Good keys that the tool cannot open; the check of their content is a test of its own.
        "pass-cipher-aes128-ctr" | "pass-cipher-aes256-gcm" | "pass-cipher-chacha20" => (0, None),
        // The conversion itself is right; the mode of the file is the command's.
        _ => {
            let written: String = case.written.iter().map(|written| written.content.as_str()).collect();
            (case.exit, Some(case.stdout.clone() + &written))
        }
    }
}

#[test]
fn every_recorded_case_has_the_wanted_answer() {
    let cases = cases();
    let mut left_out = BTreeSet::from(OF_THE_COMMAND_LINE);
    let mut failures = Vec::new();
    for case in &cases {
        if left_out.remove(case.name.as_str()) {
            continue;
        }
        let (text, answer) = case.run();
        let (exit, stdout) = wanted(case, &cases);
        let got = i32::from(answer.error.is_some());
        if got != exit {
            failures.push(format!("{}: exit {got}, wanted {exit}: {:?}", case.name, answer.error));
        }
        match (&case.stdout_sha256, &stdout) {
            (Some(hash), _) if *hash != sha256(&answer.stdout) => {
                failures.push(format!("{}: stdout", case.name));
            }
            (None, Some(stdout)) if *stdout != answer.stdout => {
                failures.push(format!("{}: stdout {:?}, wanted {stdout:?}", case.name, answer.stdout));
            }
            _ => {}
        }
        if case.civm == "same" {
            let skipped: Vec<String> = case
                .stderr
                .lines()
                .filter_map(|line| line.strip_prefix("skipped key: "))
                .map(Into::into)
                .collect();
            if skipped != answer.skipped {
                failures.push(format!("{}: skipped {:?}, wanted {skipped:?}", case.name, answer.skipped));
            }
        }
        if let Some(line) = repeated_line(&text, &answer) {
            failures.push(format!("{}: a message repeats {line:?} of the input", case.name));
        }
    }
    assert!(left_out.is_empty(), "no such cases: {left_out:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A line of the input, or a long word of one, that is in a message.
fn repeated_line(text: &[u8], answer: &Answer) -> Option<String> {
    let said = format!("{:?} {:?}", answer.error, answer.skipped);
    let text = String::from_utf8_lossy(text);
    let words = text.lines().take(50).flat_map(|line| line.split_whitespace().chain([line.trim()]));
    let mut long = words.filter(|word| word.len() > 12 && !word.ends_with("@openssh.com"));
    let known = ["ecdsa-sha2-nistp256", "PRIVATE", "-----BEGIN"];
    long.find(|word| said.contains(word) && !known.contains(word)).map(|word| word.chars().take(60).collect())
}

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    crate::edge::hex::encode(&Sha256::digest(text))
}

#[test]
fn all_ciphers_of_openssh_are_opened() {
    for name in ["pass", "pass-cbc", "pass-ctr128", "pass-gcm", "pass-chacha"] {
        let PrivateKey::Locked(key) = private::parse(&input(name)).expect(name).key else {
            panic!("{name} is not locked");
        };
        let public = public::Ed25519Public::from_line(&key.public_line().expect(name)).expect(name);
        let opened = key.unlock("correct horse").expect(name).to_age().expect(name);
        assert_eq!(opened.recipient(), public.recipient(), "{name}");
        assert!(key.unlock("battery staple").is_err(), "{name}");
    }
}

#[test]
fn a_locked_pkcs8_key_is_opened() {
    let PrivateKey::Locked(key) = private::parse(&input("pkcs8-encrypted.pem")).expect("a key").key else {
        panic!("not locked");
    };
    assert_eq!(key.public_line(), None);
    assert_eq!(key.unlock("battery staple").expect_err("wrong"), private::PrivateKeyError::WrongPassphrase);
    assert!(key.unlock("correct horse").expect("right").to_age().is_ok());
}

#[test]
fn a_second_key_is_noticed() {
    assert!(private::parse(&input("two-keys")).expect("a key").more);
    assert!(!private::parse(&input("trailing-text-key")).expect("a key").more);
}

#[test]
fn messages_say_what_the_input_is() {
    let private = |name| private::parse(&input(name)).expect_err(name).to_string();
    assert_eq!(private("ed25519.pub"), "this is a public key, not a private one");
    assert_eq!(private("empty"), "the input is empty");
    assert_eq!(private("mismatched-seed-key"), private("mismatched-public-key"));
    let public = |name| public::lines(&input(name)).find_map(Result::err).expect(name).to_string();
    assert_eq!(public("ed25519"), "line 1: this is a private key, not a public one");
    assert_eq!(public("good-then-garbage.pub"), "line 2: not an ssh public key");
    assert_eq!(
        public("point-order-4.pub"),
        "line 1: the ssh public key is not valid: it is a point of low order"
    );
}

#[test]
fn no_damage_makes_a_message_that_repeats_the_key() {
    for name in ["ed25519", "pass", "dsa", "pkcs8.pem", "ed25519.pub", "keyscan"] {
        let whole = input(name);
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x04;
            for text in [&whole[..at], &flipped] {
                let mut answer = Answer::default();
                if let Err(error) = convert_private(text, None) {
                    answer.error = Some(error);
                }
                answer
                    .skipped
                    .extend(public::lines(text).filter_map(Result::err).map(|error| error.to_string()));
                assert_eq!(repeated_line(text, &answer), None, "{name} at {at}");
            }
        }
    }
}

#[test]
fn a_cipher_that_cannot_be_undone_is_named_before_a_passphrase_is_asked() {
    let error = private::parse(&input("pass-3des")).expect_err("3des-cbc").to_string();
    assert!(error.contains("3des-cbc") && error.contains("ssh-keygen -p"), "{error}");
}

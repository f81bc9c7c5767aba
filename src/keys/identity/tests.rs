//! Every place gives its identities, and what is locked is asked for only where it helps.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use age::secrecy::SecretString;
use rand::rngs::OsRng;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::edge::terminal::{Nobody, PromptError};
use crate::keys::recipient::Recipient;
use crate::keys::ssh::host_key::HostKey;

const DATA_KEY: [u8; 32] = [0x5a; 32];

/// A home directory of its own.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        fs::create_dir(home.path().join(".ssh")).expect("made");
        fs::create_dir_all(home.path().join(".config/sops/age")).expect("made");
        Self(home)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("written");
        path
    }

    fn environment(&self) -> Environment {
        Environment::empty().with("HOME", self.0.path()).with("PATH", "/bin:/usr/bin")
    }
}

/// Answers with one passphrase and counts the questions.
struct Knows(&'static str, AtomicUsize);

impl Knows {
    fn new(passphrase: &'static str) -> Arc<Self> {
        Arc::new(Self(passphrase, AtomicUsize::new(0)))
    }

    fn asked(&self) -> usize {
        self.1.load(Ordering::SeqCst)
    }
}

impl Prompt for Knows {
    fn passphrase(&self, _: &str) -> Result<Zeroizing<String>, PromptError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Ok(Zeroizing::new(self.0.to_owned()))
    }

    fn line(&self, _: &str) -> Result<String, PromptError> {
        Err(PromptError::NoTerminal)
    }

    fn tell(&self, _: &str) {}
}

fn nobody() -> Arc<dyn Prompt> {
    Arc::new(Nobody)
}

fn load(environment: &Environment) -> Identities {
    Identities::load(environment, nobody())
}

fn wrap(recipient: &str) -> String {
    let recipient = Recipient::parse(recipient).expect("a recipient");
    recipient.wrap(&DATA_KEY, &nobody()).expect("wrapped")
}

#[track_caller]
fn opens(identities: &Identities, recipient: &str) {
    let opened = identities.open(recipient, &wrap(recipient)).expect("opened");
    assert_eq!(&opened[..], &DATA_KEY);
}

#[track_caller]
fn fails(identities: &Identities, recipient: &str) -> OpenError {
    identities.open(recipient, &wrap(recipient)).expect_err("stays closed")
}

fn ssh_key() -> HostKey {
    HostKey::generate(&mut OsRng, "someone").expect("made")
}

fn locked(key: &HostKey, passphrase: &str) -> String {
    let key = ssh_key::PrivateKey::from_openssh(key.private().as_bytes()).expect("a key");
    let key = key.encrypt(&mut OsRng, passphrase).expect("encrypted");
    key.to_openssh(ssh_key::LineEnding::LF).expect("written").to_string()
}

fn vector(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ssh-to-age/inputs");
    fs::read_to_string(folder.join(name)).expect(name)
}

#[test]
fn native_identities_come_from_four_places() {
    let key = AgeIdentity::generate();
    let text = format!("# created: today\n{}\n", *key.to_text());
    for place in ["variable", "named file", "command", "usual file"] {
        let home = Home::new();
        let environment = match place {
            "variable" => home.environment().with("SOPS_AGE_KEY", key.to_text().as_str()),
            "named file" => home.environment().with("SOPS_AGE_KEY_FILE", home.write("k", &text)),
            "command" => {
                let path = home.write("k", &text);
                home.environment().with("SOPS_AGE_KEY_CMD", format!("cat '{}'", path.display()))
            }
            _ => {
                home.write(".config/sops/age/keys.txt", &text);
                home.environment()
            }
        };
        opens(&load(&environment), key.recipient());
    }
}

#[test]
fn ssh_keys_come_from_four_places_and_open_both_of_their_forms() {
    let key = ssh_key();
    for place in ["named file", "command", "id_ed25519", "id_rsa"] {
        let home = Home::new();
        let environment = match place {
            "named file" => {
                home.environment().with("SOPS_AGE_SSH_PRIVATE_KEY_FILE", home.write("k", key.private()))
            }
            "command" => {
                let path = home.write("k", key.private());
                home.environment().with("SOPS_AGE_SSH_PRIVATE_KEY_CMD", format!("cat {}", path.display()))
            }
            name => {
                home.write(&format!(".ssh/{name}"), key.private());
                home.environment()
            }
        };
        opens(&load(&environment), key.public());
        opens(&load(&environment), key.recipient());
    }
}

#[test]
fn the_age_identity_of_an_ssh_key_opens_what_is_encrypted_to_the_ssh_key() {
    let key = ssh_key();
    let home = Home::new();
    let path = home.write(".ssh/id_ed25519", key.private());
    let text = fs::read(&path).expect("there");
    fs::remove_file(&path).expect("removed");
    let parsed = crate::keys::ssh::private::parse(&text).expect("a key").key;
    let crate::keys::ssh::private::PrivateKey::Plain(parsed) = parsed else { panic!("locked") };
    let age = parsed.to_age().expect("ed25519");
    let identities = load(&home.environment().with("SOPS_AGE_KEY", age.to_text().as_str()));
    opens(&identities, key.public());
    assert_eq!(identities.belongs(key.public()), Belongs::Yes);
    let other = load(&home.environment().with("SOPS_AGE_KEY", AgeIdentity::generate().to_text().as_str()));
    assert_eq!(fails(&other, key.public()), OpenError::NoMatch);
}

#[test]
fn rsa_and_pkcs8_keys_serve_as_ssh_identities() {
    let public = vector("rsa.pub");
    for name in ["rsa", "rsa-pem"] {
        let home = Home::new();
        home.write(".ssh/id_rsa", &vector(name));
        let identities = load(&home.environment());
        // The two files hold different keys; each opens its own.
        let line = match identities.public_halves().remove(0).0 {
            Half::Ssh { line, age: None, locked: false } => line,
            other => panic!("{other:?}"),
        };
        opens(&identities, &line);
        if name == "rsa" {
            opens(&identities, public.trim());
        }
    }
    let home = Home::new();
    home.write(".ssh/id_ed25519", &vector("pkcs8.pem"));
    opens(&load(&home.environment()), vector("ed25519.pub").trim());
}

#[test]
fn a_source_that_cannot_be_read_does_not_hide_the_others() {
    let key = AgeIdentity::generate();
    let home = Home::new();
    home.write(".ssh/id_ed25519", "rubbish");
    let environment = home
        .environment()
        .with("SOPS_AGE_KEY", "")
        .with("SOPS_AGE_KEY_FILE", "/no/such/file")
        .with("SOPS_AGE_KEY_CMD", "false")
        .with("SOPS_AGE_SSH_PRIVATE_KEY_CMD", "'open quote");
    home.write(".config/sops/age/keys.txt", &format!("  {}  \r\n", *key.to_text()));
    let identities = load(&environment);
    opens(&identities, key.recipient());
    let problems: Vec<_> =
        identities.reports().into_iter().filter(|report| !report.problems.is_empty()).collect();
    assert_eq!(problems.len(), 4, "{problems:?}");
}

#[test]
fn a_locked_ssh_key_is_asked_for_once_and_only_if_it_can_help() {
    let (key, other) = (ssh_key(), ssh_key());
    let home = Home::new();
    home.write(".ssh/id_ed25519", &locked(&key, "right"));
    let prompt = Knows::new("right");
    let identities = Identities::load(&home.environment(), Arc::clone(&prompt) as Arc<dyn Prompt>);
    assert_eq!(fails(&identities, other.public()), OpenError::NoMatch);
    assert_eq!(fails(&identities, other.recipient()), OpenError::NoMatch);
    assert_eq!(identities.belongs(key.recipient()), Belongs::Yes);
    assert_eq!(prompt.asked(), 0);
    opens(&identities, key.recipient());
    opens(&identities, key.public());
    assert_eq!(prompt.asked(), 1);
}

#[test]
fn a_wrong_passphrase_may_be_mended_twice_and_is_then_remembered() {
    let key = ssh_key();
    let home = Home::new();
    home.write(".ssh/id_ed25519", &locked(&key, "right"));
    let prompt = Knows::new("wrong");
    let identities = Identities::load(&home.environment(), Arc::clone(&prompt) as Arc<dyn Prompt>);
    let error = fails(&identities, key.public());
    assert!(matches!(&error, OpenError::Locked { ssh: true, .. }), "{error:?}");
    assert_eq!(fails(&identities, key.public()), error);
    assert_eq!(prompt.asked(), 3);
}

#[test]
fn a_key_behind_a_passphrase_without_anybody_to_ask_says_so() {
    let key = ssh_key();
    let home = Home::new();
    home.write(".ssh/id_ed25519", &locked(&key, "right"));
    let error = fails(&load(&home.environment()), key.public()).to_string();
    assert!(error.contains("id_ed25519") && error.contains("not a terminal"), "{error}");
}

fn locked_file(content: &str, passphrase: &str) -> String {
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
    recipient.set_work_factor(2);
    age::encrypt_and_armor(&recipient, content.as_bytes()).expect("encrypted")
}

#[test]
fn a_locked_identity_file_is_asked_for_once_even_if_two_places_lead_to_it() {
    let key = AgeIdentity::generate();
    let home = Home::new();
    let file = home.write(".config/sops/age/keys.txt", &locked_file(&key.to_text(), "right"));
    let prompt = Knows::new("right");
    let environment = home.environment().with("SOPS_AGE_KEY_FILE", file);
    let identities = Identities::load(&environment, Arc::clone(&prompt) as Arc<dyn Prompt>);
    assert_eq!(identities.belongs(key.recipient()), Belongs::Perhaps);
    opens(&identities, key.recipient());
    opens(&identities, key.recipient());
    assert_eq!(fails(&identities, AgeIdentity::generate().recipient()), OpenError::NoMatch);
    assert_eq!(prompt.asked(), 1);
}

#[test]
fn a_command_is_told_the_recipient_and_runs_once_for_each() {
    let key = AgeIdentity::generate();
    let home = Home::new();
    let log = home.write("log", "");
    let script = home
        .write("give", &format!("echo $SOPS_AGE_RECIPIENT >> {}\necho {}\n", log.display(), *key.to_text()));
    let environment = home.environment().with("SOPS_AGE_KEY_CMD", format!("sh {}", script.display()));
    let identities = load(&environment);
    assert_eq!(identities.belongs(key.recipient()), Belongs::Perhaps);
    assert!(identities.reports().iter().any(|report| report.finding == Finding::NotAskedYet));
    opens(&identities, key.recipient());
    opens(&identities, key.recipient());
    let other = AgeIdentity::generate();
    assert_eq!(fails(&identities, other.recipient()), OpenError::NoMatch);
    let asked = fs::read_to_string(log).expect("written");
    assert_eq!(asked, format!("{}\n{}\n", key.recipient(), other.recipient()));
}

#[test]
fn halves_are_known_with_their_places() {
    let (key, ssh) = (AgeIdentity::generate(), ssh_key());
    let home = Home::new();
    let path = home.write(".ssh/id_ed25519", ssh.private());
    let identities = load(&home.environment().with("SOPS_AGE_KEY", key.to_text().as_str()));
    let line = ssh.public().trim_end_matches(" someone").to_owned();
    assert_eq!(
        identities.public_halves(),
        [
            (Half::Ssh { line, age: Some(ssh.recipient().to_owned()), locked: false }, Place::File(path)),
            (Half::Age(key.recipient().to_owned()), Place::Variable("SOPS_AGE_KEY")),
        ]
    );
    assert_eq!(identities.belongs(AgeIdentity::generate().recipient()), Belongs::No);
}

#[test]
fn debug_holds_no_key() {
    let (key, ssh) = (AgeIdentity::generate(), ssh_key());
    let home = Home::new();
    home.write(".ssh/id_ed25519", ssh.private());
    let identities = load(&home.environment().with("SOPS_AGE_KEY", key.to_text().as_str()));
    let shown = format!("{identities:?}");
    assert!(shown.contains(key.recipient()));
    let hidden = ssh.private().lines().nth(2).expect("a line of the key");
    assert!(!shown.contains("AGE-SECRET-KEY") && !shown.contains(hidden));
}

#[test]
fn a_plugin_that_is_not_there_is_named() {
    let home = Home::new();
    let identity = age::plugin::Identity::default_for_plugin("nosuch").expect("a name").to_string();
    let identities = load(&home.environment().with("SOPS_AGE_KEY", identity));
    let error = fails(&identities, AgeIdentity::generate().recipient()).to_string();
    assert!(error.contains("age-plugin-nosuch"), "{error}");
}

#[test]
fn a_damaged_wrapped_key_is_told_from_one_that_is_not_ours() {
    let key = AgeIdentity::generate();
    let home = Home::new();
    let identities = load(&home.environment().with("SOPS_AGE_KEY", key.to_text().as_str()));
    let good = wrap(key.recipient());
    for damaged in ["", "rubbish", &good[..good.len() / 2], &good.replace("-----END", "----END")] {
        let error = identities.open(key.recipient(), damaged).expect_err("damaged");
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    }
    // Space around it and carriage returns do not damage it.
    for fine in [format!("\n{good}\n\n"), good.replace('\n', "\r\n")] {
        assert!(identities.open(key.recipient(), &fine).is_ok());
    }
}

#[test]
fn a_post_quantum_identity_opens_from_every_place_where_a_native_one_does() {
    let key = AgeIdentity::generate_post_quantum();
    let text = format!("# created: today\n{}\n", *key.to_text());
    let locked = locked_file(&text, "right");
    for place in ["variable", "named file", "command", "usual file", "locked file"] {
        let home = Home::new();
        let file = home.write("k", if place == "locked file" { &locked } else { &text });
        let environment = match place {
            "variable" => home.environment().with("SOPS_AGE_KEY", key.to_text().as_str()),
            "command" => home.environment().with("SOPS_AGE_KEY_CMD", format!("cat '{}'", file.display())),
            "usual file" => {
                home.write(".config/sops/age/keys.txt", &text);
                home.environment()
            }
            _ => home.environment().with("SOPS_AGE_KEY_FILE", file),
        };
        opens(&Identities::load(&environment, Knows::new("right")), key.recipient());
    }
}

#[test]
fn a_post_quantum_identity_belongs_to_its_recipient_and_opens_nothing_else() {
    let (key, other) = (AgeIdentity::generate_post_quantum(), AgeIdentity::generate_post_quantum());
    let home = Home::new();
    let identities = load(&home.environment().with("SOPS_AGE_KEY", key.to_text().as_str()));
    assert_eq!(identities.belongs(key.recipient()), Belongs::Yes);
    assert_eq!(identities.belongs(other.recipient()), Belongs::No);
    for recipient in [other.recipient(), AgeIdentity::generate().recipient(), ssh_key().public()] {
        assert_eq!(fails(&identities, recipient), OpenError::NoMatch);
    }
    let shown = format!("{identities:?} {key:?}");
    assert!(shown.contains(key.recipient()) && !shown.contains("SECRET-KEY"));
}

#[test]
fn a_changed_byte_of_a_wrapped_key_is_an_error_wherever_it_is() {
    for key in [AgeIdentity::generate_post_quantum(), AgeIdentity::generate()] {
        let identities = Identities::of([key.clone()]);
        let enc = wrap(key.recipient());
        // The line break at the end is not part of it.
        for at in 0..enc.len() - 1 {
            for bit in [0x01, 0x20] {
                let mut changed = enc.clone().into_bytes();
                changed[at] ^= bit;
                let changed = String::from_utf8(changed).expect("still ASCII");
                let error = identities.open(key.recipient(), &changed).expect_err("changed");
                assert!(matches!(error, OpenError::NoMatch | OpenError::Damaged { .. }), "{at}: {error:?}");
            }
        }
    }
}

//! The error tree of a file that no identity opens, byte for byte as sops prints it.

use std::process::Command;
use std::sync::Arc;

use civm::edge::environment::Environment;
use civm::edge::terminal::Nobody;
use civm::keys::identity::Identities;
use civm::keys::native::AgeIdentity;
use civm::keys::retrieval::{self, KeyGroup, MasterKey};

use crate::support::{Scene, peer, run};

/// A file that sops encrypted, and the variables a run starts with.
struct Locked<'a> {
    scene: &'a Scene,
    recipients: Vec<String>,
    /// Several groups, each with its recipients.
    groups: Vec<Vec<String>>,
}

impl<'a> Locked<'a> {
    fn to(scene: &'a Scene, recipients: &[String]) -> Self {
        Self { scene, recipients: recipients.to_vec(), groups: Vec::new() }
    }

    fn groups(scene: &'a Scene, groups: &[&[String]]) -> Self {
        Self { scene, recipients: Vec::new(), groups: groups.iter().map(|group| group.to_vec()).collect() }
    }

    fn write(&self, sops: &std::path::Path) {
        let mut rule = String::from("creation_rules:\n  - path_regex: .\n");
        if self.groups.is_empty() {
            rule += &format!("    age: '{}'\n", self.recipients.join(","));
        } else {
            rule += "    shamir_threshold: 2\n    key_groups:\n";
            for group in &self.groups {
                rule += "      - age:\n";
                rule.extend(group.iter().map(|recipient| format!("          - '{recipient}'\n")));
            }
        }
        self.scene.write(".sops.yaml", rule);
        self.scene.write("plain.yaml", "a: 1\n");
        let encrypted = run(self.scene.command(sops).args(["encrypt", "plain.yaml"])).ok();
        self.scene.write("file.yaml", &encrypted.stdout);
    }

    /// sops' message and ours.
    #[track_caller]
    fn compare(&self, variables: &[(&str, &str)]) {
        self.compare_changed(variables, str::to_owned);
    }

    /// The same, of a file that was changed after sops wrote it.
    #[track_caller]
    #[expect(clippy::print_stderr, reason = "a test that does nothing says why")]
    fn compare_changed(&self, variables: &[(&str, &str)], change: impl Fn(&str) -> String) {
        let Some(sops) = peer("sops") else { return eprintln!("skipped: no sops at hand") };
        self.write(&sops);
        let changed = change(&self.scene.read("file.yaml"));
        let file: serde_yaml::Value = serde_yaml::from_str(&changed).expect("YAML");
        self.scene.write("file.yaml", changed);
        let home = self.scene.path("home");
        let mut environment = Environment::empty()
            .with("HOME", &home)
            .with("PATH", std::env::var_os("PATH").unwrap_or_default());
        // Without a controlling terminal, so that nothing can be asked.
        let mut command: Command = self.scene.command("setsid");
        command.arg("--wait").arg(&sops).args(["decrypt", "file.yaml"]);
        for (name, value) in variables {
            environment = environment.with(name, value);
            command.env(name, value);
        }
        if environment.get("HOME").is_some_and(|home| home == "unset") {
            environment = environment.without("HOME");
            command.env_remove("HOME");
        }
        let theirs = run(&mut command).code(128).stderr;
        let metadata = &file["sops"];
        let groups = match &metadata["key_groups"] {
            serde_yaml::Value::Sequence(groups) => groups.iter().map(|group| &group["age"]).collect(),
            _ => vec![&metadata["age"]],
        };
        let groups: Vec<KeyGroup<'_>> = groups.into_iter().map(keys).collect();
        let identities = Identities::load(&environment, Arc::new(Nobody));
        let threshold = metadata["shamir_threshold"].as_u64().unwrap_or_default();
        let threshold = usize::try_from(threshold).expect("small");
        let error = retrieval::parts(&groups, threshold, &identities).expect_err("stays closed");
        assert_eq!(format!("{}\n", error.sops_text(false)), theirs, "{variables:?}");
    }
}

fn keys(age: &serde_yaml::Value) -> KeyGroup<'_> {
    let entries = age.as_sequence().expect("recipients");
    entries
        .iter()
        .map(|entry| MasterKey::Age {
            recipient: entry["recipient"].as_str().expect("text"),
            enc: entry["enc"].as_str().expect("text"),
        })
        .collect()
}

fn recipient() -> String {
    AgeIdentity::generate().recipient().to_owned()
}

fn secret() -> String {
    AgeIdentity::generate().to_text().to_string()
}

/// An identity as it should not be typed.
fn damaged(identity: &str) -> Vec<String> {
    let (start, _) = identity.rsplit_once('1').expect("a separator");
    let middle = identity.len() - 20;
    vec![
        format!("{start}1QQ{}", &identity[start.len() + 1..]),
        format!("{start}2{}", &identity[start.len() + 1..]),
        format!("{}é{}", &identity[..middle], &identity[middle..]),
        format!("{}B{}", &identity[..middle], &identity[middle + 1..]),
        format!("{}q{}", &identity[..middle], &identity[middle + 1..]),
        format!("{}1{}", &identity[..middle], &identity[middle + 1..]),
        format!("{}1{}", &identity[..identity.len() - 3], &identity[identity.len() - 2..]),
        identity[..middle].to_owned(),
        format!("{start}1"),
    ]
}

#[test]
fn without_and_with_foreign_identities() {
    let scene = Scene::new();
    let locked = Locked::to(&scene, &[recipient()]);
    locked.compare(&[]);
    locked.compare(&[("SOPS_AGE_KEY", &secret())]);
    locked.compare(&[("SOPS_AGE_KEY", &format!("{} {}", secret(), secret()))]);
    let file = scene.write("keys", format!("# comment\r\n{}\r\n", secret()));
    locked.compare(&[("SOPS_AGE_KEY_FILE", file.to_str().expect("text"))]);
    let command = format!("cat {}", file.display());
    locked.compare(&[("SOPS_AGE_KEY_CMD", &command)]);
}

#[test]
fn with_post_quantum_keys() {
    let scene = Scene::new();
    let (hybrid, other) = (AgeIdentity::generate_post_quantum(), AgeIdentity::generate_post_quantum());
    let locked = Locked::to(&scene, &[hybrid.recipient().to_owned()]);
    locked.compare(&[]);
    locked.compare(&[("SOPS_AGE_KEY", other.to_text().as_str())]);
    locked.compare(&[("SOPS_AGE_KEY", &secret())]);
    locked.compare(&[("SOPS_AGE_KEY", &format!("{} {}", secret(), *other.to_text()))]);
    for damaged in damaged(&hybrid.to_text()) {
        locked.compare(&[("SOPS_AGE_KEY", &damaged)]);
    }
    let file = scene.write("keys", format!("{}\n{}\n", *other.to_text(), secret()));
    locked.compare(&[("SOPS_AGE_KEY_FILE", file.to_str().expect("text"))]);
    let mixed = [recipient(), hybrid.recipient().to_owned(), recipient()];
    Locked::to(&scene, &mixed).compare(&[("SOPS_AGE_KEY", other.to_text().as_str())]);
}

/// The file with other bytes in the age file of its only entry.
fn changed(text: &str, change: impl Fn(&mut [u8])) -> String {
    use std::io::{Read as _, Write as _};
    let begin = text.find("-----BEGIN AGE").expect("armor");
    let last = "-----END AGE ENCRYPTED FILE-----";
    let end = text.find(last).expect("armor") + last.len();
    let lines: String = text[begin..end].lines().map(|line| format!("{}\n", line.trim())).collect();
    let mut bytes = Vec::new();
    age::armor::ArmoredReader::new(lines.as_bytes()).read_to_end(&mut bytes).expect("armor");
    change(&mut bytes);
    let mut armor =
        age::armor::ArmoredWriter::wrap_output(Vec::new(), age::armor::Format::AsciiArmor).expect("armor");
    armor.write_all(&bytes).expect("armor");
    let armored = String::from_utf8(armor.finish().expect("armor")).expect("text");
    let indent: String = text[..begin].chars().rev().take_while(|character| *character == ' ').collect();
    let armored = armored.trim_end().replace('\n', &format!("\n{indent}"));
    format!("{}{armored}{}", &text[..begin], &text[end..])
}

#[test]
fn with_an_entry_that_was_changed() {
    let scene = Scene::new();
    for key in [AgeIdentity::generate(), AgeIdentity::generate_post_quantum()] {
        let locked = Locked::to(&scene, &[key.recipient().to_owned()]);
        let variables = [("SOPS_AGE_KEY", key.to_text().to_string())];
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
        let mac = |bytes: &[u8]| bytes.windows(5).position(|part| part == b"\n--- ").expect("a header") + 5;
        let payload = |bytes: &mut [u8]| bytes[bytes.len() - 1] ^= 1;
        locked.compare_changed(&variables, |text| changed(text, payload));
        locked.compare_changed(&variables, |text| {
            changed(text, |bytes| {
                let mac = mac(bytes);
                bytes[mac] = if bytes[mac] == b'A' { b'B' } else { b'A' };
            })
        });
        // One letter of the stanza's kind.
        let stanza = |bytes: &mut [u8]| bytes["age-encryption.org/v1\n-> ".len()] ^= 1;
        locked.compare_changed(&variables, |text| changed(text, stanza));
    }
}

#[test]
fn with_places_that_cannot_be_used() {
    let scene = Scene::new();
    let locked = Locked::to(&scene, &[recipient()]);
    locked.compare(&[("SOPS_AGE_KEY", "")]);
    locked.compare(&[("SOPS_AGE_KEY", "rubbish")]);
    for damaged in damaged(&secret()) {
        locked.compare(&[("SOPS_AGE_KEY", &damaged)]);
    }
    locked.compare(&[("SOPS_AGE_KEY_FILE", "/no/such/file")]);
    locked.compare(&[("SOPS_AGE_KEY_FILE", "/")]);
    locked.compare(&[("SOPS_AGE_KEY_CMD", "false and arguments")]);
    locked.compare(&[("SOPS_AGE_KEY_CMD", "no-such-program-at-all")]);
    locked.compare(&[("SOPS_AGE_KEY_CMD", "/no/such/program")]);
    locked.compare(&[("SOPS_AGE_SSH_PRIVATE_KEY_FILE", "/no/such/file")]);
    locked.compare(&[("SOPS_AGE_SSH_PRIVATE_KEY_FILE", "/")]);
    locked.compare(&[("SOPS_AGE_SSH_PRIVATE_KEY_CMD", "echo rubbish")]);
    locked.compare(&[("HOME", "unset")]);
    locked.compare(&[("HOME", "unset"), ("SOPS_AGE_KEY", &secret())]);
    locked.compare(&[("XDG_CONFIG_HOME", "/no/such/config")]);
    let spaced = scene.write("spaced", format!(" {}\n", secret()));
    locked.compare(&[("SOPS_AGE_KEY_FILE", spaced.to_str().expect("text"))]);
}

#[test]
fn with_several_recipients_and_groups() {
    let scene = Scene::new();
    Locked::to(&scene, &[recipient(), recipient()]).compare(&[("SOPS_AGE_KEY", &secret())]);
    let ours = AgeIdentity::generate();
    let groups = Locked::groups(
        &scene,
        &[&[recipient(), recipient()], &[ours.recipient().to_owned()], &[recipient()]],
    );
    groups.compare(&[("SOPS_AGE_KEY", ours.to_text().as_str())]);
    groups.compare(&[]);
}

#[test]
fn with_ssh_keys_that_stay_locked() {
    let scene = Scene::new();
    let Some(keygen) = peer("ssh-keygen") else { return eprintln!("skipped: no ssh-keygen at hand") };
    let key = scene.file("key");
    run(Command::new(&keygen).args(["-q", "-t", "ed25519", "-N", "passphrase", "-C", "", "-f"]).arg(&key))
        .ok();
    let public = std::fs::read_to_string(key.with_extension("pub")).expect("the public half");
    let path = key.to_str().expect("text").to_owned();
    let variables = [("SOPS_AGE_SSH_PRIVATE_KEY_FILE", path.as_str())];
    Locked::to(&scene, &[public.trim().to_owned()]).compare(&variables);
    Locked::to(&scene, &[recipient()]).compare(&variables);
    let command = format!("cat {path}");
    Locked::to(&scene, &[recipient()]).compare(&[("SOPS_AGE_SSH_PRIVATE_KEY_CMD", &command)]);
    let variable = "SOPS_AGE_SSH_PRIVATE_KEY_FILE";
    for (name, kind) in [
        ("ecdsa", ["-t", "ecdsa", "-m", "RFC4716", "-N", ""]),
        ("ecdsa-locked", ["-t", "ecdsa", "-m", "RFC4716", "-N", "passphrase"]),
        ("pkcs8-locked", ["-t", "rsa", "-m", "PKCS8", "-N", "passphrase"]),
    ] {
        let key = scene.file(name);
        run(Command::new(&keygen).args(["-q", "-f"]).arg(&key).args(kind)).ok();
        let path = key.to_str().expect("text");
        Locked::to(&scene, &[recipient()]).compare(&[(variable, path)]);
        Locked::to(&scene, &[recipient()]).compare(&[(variable, path), ("SOPS_AGE_KEY", &secret())]);
        let command = format!("cat {path}");
        Locked::to(&scene, &[recipient()]).compare(&[("SOPS_AGE_SSH_PRIVATE_KEY_CMD", &command)]);
    }
    for cipher in ["aes128-cbc", "aes192-ctr", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"] {
        let key = scene.file(cipher);
        let options = ["-q", "-t", "ed25519", "-N", "passphrase", "-Z", cipher, "-f"];
        run(Command::new(&keygen).args(options).arg(&key)).ok();
        let public = std::fs::read_to_string(format!("{}.pub", key.display())).expect("the public half");
        let path = key.to_str().expect("text");
        Locked::to(&scene, &[public.trim().to_owned()]).compare(&[(variable, path)]);
    }
}

#[test]
fn with_an_identity_file_that_stays_locked() {
    use std::io::Write as _;
    let scene = Scene::new();
    let passphrase = age::secrecy::SecretString::from("passphrase".to_owned());
    let mut recipient_of_file = age::scrypt::Recipient::new(passphrase);
    recipient_of_file.set_work_factor(2);
    let armored = age::encrypt_and_armor(&recipient_of_file, secret().as_bytes()).expect("encrypted");
    let mut file = std::fs::File::create(scene.file("locked")).expect("made");
    file.write_all(armored.as_bytes()).expect("written");
    let path = scene.file("locked");
    let path = path.to_str().expect("text");
    let locked = Locked::to(&scene, &[recipient()]);
    locked.compare(&[("SOPS_AGE_KEY_FILE", path)]);
    locked.compare(&[("SOPS_AGE_KEY_FILE", path), ("SOPS_AGE_KEY", &secret())]);
    locked.compare(&[("SOPS_AGE_KEY_CMD", &format!("cat {path}"))]);
    locked.compare(&[("SOPS_AGE_KEY", &armored)]);
}

#[test]
fn with_a_plugin_that_is_missing() {
    let scene = Scene::new();
    let identity = age::plugin::Identity::default_for_plugin("nosuch").expect("a name").to_string();
    let locked = Locked::to(&scene, &[recipient()]);
    locked.compare(&[("SOPS_AGE_KEY", &identity)]);
    for damaged in damaged(&identity) {
        locked.compare(&[("SOPS_AGE_KEY", &damaged)]);
    }
    locked.compare(&[("SOPS_AGE_KEY", "AGE-PLUGIN-NOSUCH")]);
}

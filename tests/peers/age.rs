//! Recipients and identities beside the real age, age-keygen and ssh-keygen.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use civm::edge::environment::Environment;
use civm::edge::terminal::{Nobody, Prompt};
use civm::keys::identity::Identities;
use civm::keys::native::AgeIdentity;
use civm::keys::recipient::Recipient;
use civm::keys::ssh::host_key::HostKey;
use civm::keys::ssh::private::{self, PrivateKey};
use civm::keys::ssh::public::Ed25519Public;
use rand::rngs::OsRng;

use crate::support::{Scene, peer, run, run_with};

const DATA_KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A key pair in files: the private half, and the recipient.
pub struct Pair {
    pub private: PathBuf,
    pub recipient: String,
}

impl Pair {
    /// The variable that names the private half to sops and civm.
    pub fn variable(&self) -> &'static str {
        if self.recipient.starts_with("ssh-") { "SOPS_AGE_SSH_PRIVATE_KEY_FILE" } else { "SOPS_AGE_KEY_FILE" }
    }
}

fn nobody() -> Arc<dyn Prompt> {
    Arc::new(Nobody)
}

fn ssh_pair(scene: &Scene, name: &str, kind: &[&str]) -> Option<Pair> {
    let private = scene.file(name);
    run(Command::new(peer("ssh-keygen")?)
        .args(["-q", "-N", "", "-C", "a comment", "-f"])
        .arg(&private)
        .args(kind))
    .ok();
    let recipient = std::fs::read_to_string(private.with_extension("pub")).expect("the public half");
    Some(Pair { private, recipient: recipient.trim().to_owned() })
}

fn native_pair(scene: &Scene, name: &str, kind: &[&str]) -> Option<Pair> {
    let private = scene.file(name);
    run(Command::new(peer("age-keygen")?).args(kind).arg("-o").arg(&private)).ok();
    let recipient = run(Command::new(peer("age-keygen")?).arg("-y").arg(&private)).ok();
    Some(Pair { private, recipient: recipient.out().trim().to_owned() })
}

/// All kinds of recipients; `None` where a tool is missing.
pub fn pairs(scene: &Scene) -> Option<Vec<Pair>> {
    Some(vec![
        native_pair(scene, "native", &[])?,
        native_pair(scene, "post-quantum", &["-pq"])?,
        ssh_pair(scene, "ed25519", &["-t", "ed25519"])?,
        ssh_pair(scene, "rsa", &["-t", "rsa", "-b", "2048"])?,
    ])
}

#[test]
fn what_we_wrap_age_opens() {
    let scene = Scene::new();
    let (Some(age), Some(pairs)) = (peer("age"), pairs(&scene)) else {
        return eprintln!("skipped: no age, age-keygen or ssh-keygen at hand");
    };
    for pair in pairs {
        let enc = Recipient::parse(&pair.recipient).expect("a recipient").wrap(DATA_KEY, &nobody());
        let opened = run_with(
            Command::new(&age).arg("-d").arg("-i").arg(&pair.private),
            enc.expect("wrapped").as_bytes(),
        );
        assert_eq!(opened.ok().stdout, DATA_KEY, "{}", pair.recipient);
    }
}

#[test]
fn what_age_wraps_we_open() {
    let scene = Scene::new();
    let (Some(age), Some(pairs)) = (peer("age"), pairs(&scene)) else {
        return eprintln!("skipped: no age, age-keygen or ssh-keygen at hand");
    };
    for pair in pairs {
        let enc = run_with(Command::new(&age).args(["-a", "-r", &pair.recipient]), DATA_KEY).ok();
        let environment = Environment::empty().with(pair.variable(), &pair.private);
        let identities = Identities::load(&environment, nobody());
        let opened = identities.open(&pair.recipient, enc.out()).expect("opened");
        assert_eq!(&opened[..], DATA_KEY, "{}", pair.recipient);
    }
}

#[test]
fn an_ssh_key_and_its_age_key_open_what_age_wrapped_for_the_other() {
    let scene = Scene::new();
    let (Some(age), Some(pair)) = (peer("age"), ssh_pair(&scene, "key", &["-t", "ed25519"])) else {
        return eprintln!("skipped: no age or ssh-keygen at hand");
    };
    let text = std::fs::read(&pair.private).expect("the private half");
    let PrivateKey::Plain(key) = private::parse(&text).expect("a key").key else { panic!("locked") };
    let converted = key.to_age().expect("ed25519");
    let recipient = Ed25519Public::from_line(&pair.recipient).expect("ed25519").recipient();
    assert_eq!(recipient, converted.recipient());
    let ssh = Environment::empty().with("SOPS_AGE_SSH_PRIVATE_KEY_FILE", &pair.private);
    let native = Environment::empty().with("SOPS_AGE_KEY", converted.to_text().as_str());
    for (recipient, environment) in [(&recipient, ssh), (&pair.recipient, native)] {
        let enc = run_with(Command::new(&age).args(["-a", "-r", recipient]), DATA_KEY).ok();
        let opened = Identities::load(&environment, nobody()).open(recipient, enc.out()).expect("opened");
        assert_eq!(&opened[..], DATA_KEY, "{recipient}");
    }
}

#[test]
fn our_keys_are_keys_to_the_real_tools() {
    let scene = Scene::new();
    let (Some(keygen), Some(ssh_keygen)) = (peer("age-keygen"), peer("ssh-keygen")) else {
        return eprintln!("skipped: no age-keygen or ssh-keygen at hand");
    };
    for native in [AgeIdentity::generate(), AgeIdentity::generate_post_quantum()] {
        let public = run_with(Command::new(&keygen).arg("-y"), native.to_text().as_bytes()).ok();
        assert_eq!(public.out().trim(), native.recipient());
    }
    let host = HostKey::generate(&mut OsRng, "root@host").expect("made");
    let file = scene.write("ssh_host_ed25519_key", host.private().as_bytes());
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    let public = run(Command::new(ssh_keygen).arg("-y").arg("-f").arg(&file)).ok();
    assert_eq!(public.out().trim(), host.public());
}

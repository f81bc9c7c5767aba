//! The recipients of files, in every form that sops accepts.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use age::armor::{ArmoredWriter, Format};
use thiserror::Error;

use super::native::{self, NativeKeyError, hybrid};
use super::ssh::public::{Ed25519Public, PublicKeyError};
use crate::edge::terminal::Prompt;
use crate::keys::identity::callbacks::Asking;

/// Why a recipient cannot be used, or the data key cannot be wrapped for it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RecipientError {
    /// It is empty.
    #[error("it is empty; is there an extra comma, or a variable that is not set?")]
    Empty,
    /// Not in any known form.
    #[error("not a recipient: expected age1…, ssh-ed25519 … or ssh-rsa …")]
    Unknown(String),
    /// `age1…` with a fault.
    #[error("{source}")]
    Native {
        /// As it was given.
        text: String,
        /// What is wrong.
        source: NativeKeyError,
    },
    /// `ssh-…` with a fault.
    #[error("{reason}")]
    Ssh {
        /// As it was given.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// A plugin that is missing or failed.
    #[error("{reason}")]
    Plugin {
        /// As it was given.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// age refused.
    #[error("cannot encrypt to it: {reason}")]
    Wrap {
        /// As it was given.
        text: String,
        /// What it says.
        reason: String,
    },
}

/// Someone a file is encrypted to. Its text is kept as it was given, comment included.
#[derive(Clone)]
pub struct Recipient {
    text: String,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Native(age::x25519::Recipient),
    Hybrid(hybrid::Recipient),
    Ssh(age::ssh::Recipient),
    Plugin(age::plugin::Recipient),
}

/// What two recipients share if they are one key in two forms, or one form with two comments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SameKey(String);

impl Recipient {
    /// Parses a recipient as sops does; surrounding space is ignored.
    ///
    /// # Errors
    ///
    /// It is of an unknown or unsupported kind, or is not valid.
    pub fn parse(text: &str) -> Result<Self, RecipientError> {
        let text = text.trim();
        let faulty = |source| RecipientError::Native { text: text.to_owned(), source };
        let kind = if text.starts_with(hybrid::RECIPIENT_START) {
            Kind::Hybrid(hybrid::Recipient::parse(text).map_err(faulty)?)
        } else if text.starts_with("age1") && text.matches('1').count() > 1 {
            Kind::Plugin(text.parse().map_err(|reason: &str| RecipientError::Plugin {
                text: text.to_owned(),
                reason: reason.to_owned(),
            })?)
        } else if text.starts_with("age1") {
            native::recipient_bytes(text).map_err(faulty)?;
            Kind::Native(text.parse().map_err(|_| faulty(NativeKeyError::Encoding))?)
        } else if text.starts_with("ssh-") {
            Kind::Ssh(parse_ssh(text)?)
        } else {
            return Err(if text.is_empty() {
                RecipientError::Empty
            } else {
                RecipientError::Unknown(shown(text))
            });
        };
        Ok(Self { text: text.to_owned(), kind })
    }

    /// The recipient as it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Encrypts a data key, or a share of one, to this recipient: age armor as sops writes it, lines of 64
    /// columns and a final newline.
    ///
    /// A plugin may ask through `prompt`.
    ///
    /// # Errors
    ///
    /// A plugin is missing or fails.
    pub fn wrap(&self, data_key: &[u8], prompt: &Arc<dyn Prompt>) -> Result<String, RecipientError> {
        let failed = |reason: String| RecipientError::Wrap { text: self.text.clone(), reason };
        match &self.kind {
            Kind::Native(recipient) => seal(recipient, data_key).map_err(failed),
            Kind::Hybrid(recipient) => seal(recipient, data_key).map_err(failed),
            Kind::Ssh(recipient) => seal(recipient, data_key).map_err(failed),
            Kind::Plugin(recipient) => {
                let plugin = age::plugin::RecipientPluginV1::new(
                    recipient.plugin(),
                    std::slice::from_ref(recipient),
                    &[],
                    Asking::new(Arc::clone(prompt)),
                );
                let missing = |error: age::plugin::ResolveError| RecipientError::Plugin {
                    text: self.text.clone(),
                    reason: error.to_string(),
                };
                seal(&plugin.map_err(missing)?, data_key).map_err(failed)
            }
        }
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Recipient").field(&self.text).finish()
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Which key a recipient's text names: an ed25519 ssh key and the age recipient derived from it are one.
#[must_use]
pub fn same_key(text: &str) -> SameKey {
    let text = text.trim();
    if let Ok(key) = Ed25519Public::from_line(text) {
        return SameKey(key.recipient());
    }
    let words: Vec<&str> = text.split_ascii_whitespace().take(2).collect();
    SameKey(words.join(" "))
}

fn parse_ssh(text: &str) -> Result<age::ssh::Recipient, RecipientError> {
    use age::ssh::ParseRecipientKeyError as Fault;
    let faulty = |reason: String| RecipientError::Ssh { text: text.to_owned(), reason };
    match Ed25519Public::from_line(text) {
        Ok(_) | Err(PublicKeyError::OtherType(_)) => {}
        Err(error) => return Err(faulty(error.to_string())),
    }
    text.parse().map_err(|fault| {
        faulty(match fault {
            Fault::RsaModulusTooSmall => "RSA keys with fewer than 2048 bits are not safe".into(),
            Fault::RsaModulusTooLarge => "RSA keys with more than 4096 bits are not supported".into(),
            Fault::Unsupported(kind) => format!("age does not encrypt to {kind} keys"),
            _ => "the ssh public key is damaged".into(),
        })
    })
}

/// The text for use in a message: shortened if it may be a private key given by mistake.
#[must_use]
pub fn shown(text: &str) -> String {
    if text.starts_with("AGE-") {
        let kind: String = text.chars().take("AGE-SECRET-KEY-".len()).collect();
        return format!("{kind}…");
    }
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

fn seal(recipient: &dyn age::Recipient, data_key: &[u8]) -> Result<String, String> {
    let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient)).map_err(|e| e.to_string())?;
    let write = || {
        let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
        let mut writer = encryptor.wrap_output(armor)?;
        writer.write_all(data_key)?;
        writer.finish()?.finish()
    };
    let armored = write().map_err(|error: std::io::Error| error.to_string())?;
    String::from_utf8(armored).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::terminal::Nobody;
    use crate::keys::native::AgeIdentity;

    const SSH: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFj8dFyP9VskLsiSbgTcq7a+EnXF3jT5HvW+pwUT+ZvE";
    const SSH_AS_AGE: &str = "age1ega644j3ux6kqwm8tyvh4hyzfy9e9rsdtn7f8l2mrjtl7k3075vsgx0fws";

    #[test]
    fn the_text_is_kept_with_its_comment() {
        let text = format!("{SSH} alice, of accounting");
        assert_eq!(Recipient::parse(&format!("  {text}\n")).expect("a recipient").text(), text);
    }

    #[test]
    fn a_key_is_the_same_in_every_form_and_with_every_comment() {
        assert_eq!(same_key(SSH), same_key(SSH_AS_AGE));
        assert_eq!(same_key(&format!("{SSH} alice")), same_key(&format!(" {SSH} bob")));
        assert_eq!(same_key("ssh-rsa AAAA alice"), same_key("ssh-rsa AAAA bob"));
        assert_ne!(same_key(SSH), same_key("ssh-rsa AAAA"));
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let refused = |text: &str| Recipient::parse(text).expect_err(text);
        let hybrid = AgeIdentity::generate_post_quantum();
        for damaged in ["age1pq1", "age1pq1qqqq", &hybrid.recipient().replace('z', "x")] {
            assert!(matches!(refused(damaged), RecipientError::Native { .. }));
        }
        assert!(matches!(refused(&SSH_AS_AGE.replace('v', "x")), RecipientError::Native { .. }));
        assert!(matches!(refused("ecdsa-sha2-nistp256 AAAA"), RecipientError::Unknown(_)));
        assert!(matches!(refused(""), RecipientError::Empty));
        let short = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC8S4tEKtX26gigvptOos1pe/uamZHtbRCCo6T7GMD0Mb5SuMq9tLug\
                     AS1qH9wdruiG884CD1Deyl0kdIlN2LYzqPTpTaSgaDwPCg+QR6GTksSwdr/PP3pJyBFI3JNfOyjgQhHasrjZIlupZ3rw\
                     +iqDKFxDH3GpbPBox42DfOBc8w==";
        let error = refused(short).to_string();
        assert!(error.contains("fewer than 2048 bits"), "{error}");
        assert!(matches!(refused("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"), RecipientError::Ssh { .. }));
    }

    #[test]
    fn a_private_key_in_the_wrong_place_is_not_repeated() {
        let text = AgeIdentity::generate().to_text();
        let error = Recipient::parse(&text).expect_err("private").to_string();
        assert!(!error.contains(&text[20..]), "{error}");
        assert_eq!(shown(&text), "AGE-SECRET-KEY-…");
    }

    #[test]
    fn armor_has_the_form_that_sops_writes() {
        let recipient = Recipient::parse(SSH_AS_AGE).expect("a recipient");
        let prompt: Arc<dyn Prompt> = Arc::new(Nobody);
        let armor = recipient.wrap(&[7; 32], &prompt).expect("wrapped");
        let lines: Vec<_> = armor.split('\n').collect();
        assert_eq!(lines.first(), Some(&"-----BEGIN AGE ENCRYPTED FILE-----"));
        assert_eq!(lines[lines.len() - 2..], ["-----END AGE ENCRYPTED FILE-----", ""]);
        let body = &lines[1..lines.len() - 2];
        assert!(body[..body.len() - 1].iter().all(|line| line.len() == 64), "{armor}");
        assert!(!armor.contains('\r'));
    }

    #[test]
    fn a_missing_plugin_is_named() {
        let text = "age1nosuch1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";
        let error = match Recipient::parse(text) {
            Ok(recipient) => {
                recipient.wrap(&[7; 32], &(Arc::new(Nobody) as Arc<dyn Prompt>)).expect_err("missing")
            }
            Err(error) => error,
        };
        assert!(matches!(error, RecipientError::Plugin { .. }), "{error:?}");
    }
}

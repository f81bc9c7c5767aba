//! Generating a host key in the format that sshd reads.

use std::fmt;

use rand::{CryptoRng, RngCore};
use ssh_key::{Algorithm, LineEnding, PrivateKey};
use zeroize::Zeroizing;

use super::private::{self, PrivateKeyError, SshKey};

/// An ed25519 host key. `Debug` shows its public half.
pub struct HostKey {
    private: Zeroizing<String>,
    public: String,
    recipient: String,
}

impl HostKey {
    /// Generates a key from this randomness; both the private and the public key contain the comment.
    ///
    /// # Errors
    ///
    /// The comment cannot be written into a key: it holds a line end.
    pub fn generate(random: &mut (impl CryptoRng + RngCore), comment: &str) -> Result<Self, PrivateKeyError> {
        if comment.contains(char::is_control) {
            return Err(PrivateKeyError::Unsupported("a comment cannot hold control characters".into()));
        }
        let unwritable = |_| PrivateKeyError::Damaged("it cannot be written");
        let mut key = PrivateKey::random(random, Algorithm::Ed25519).map_err(unwritable)?;
        key.set_comment(comment);
        let private = key.to_openssh(LineEnding::LF).map_err(unwritable)?;
        let public = key.public_key().to_openssh().map_err(unwritable)?.trim_end().to_owned();
        let recipient = read(&private)?.to_age()?.recipient().to_owned();
        Ok(Self { private, public, recipient })
    }

    /// The content of `ssh_host_ed25519_key`.
    #[must_use]
    pub fn private(&self) -> &Zeroizing<String> {
        &self.private
    }

    /// The line of `ssh_host_ed25519_key.pub`, without a line end.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The age recipient that belongs to it.
    #[must_use]
    pub fn recipient(&self) -> &str {
        &self.recipient
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("HostKey").field(&self.public).finish()
    }
}

fn read(text: &str) -> Result<SshKey, PrivateKeyError> {
    match private::parse(text.as_bytes())?.key {
        private::PrivateKey::Plain(key) => Ok(key),
        private::PrivateKey::Locked(_) => Err(PrivateKeyError::Damaged("it is locked")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::OsRng;

    #[test]
    fn both_halves_belong_together_and_carry_the_comment() {
        let key = HostKey::generate(&mut OsRng, "root@builder").expect("made");
        assert!(key.public().starts_with("ssh-ed25519 AAAA") && key.public().ends_with(" root@builder"));
        let public = super::super::public::Ed25519Public::from_line(key.public()).expect("its own line");
        assert_eq!(public.recipient(), key.recipient());
        assert_eq!(read(key.private()).expect("its own text").ed25519_public(), Some(public));
        assert!(key.private().ends_with("-----END OPENSSH PRIVATE KEY-----\n"));
    }

    #[test]
    fn two_keys_differ_and_debug_shows_no_private_half() {
        let (one, two) = (HostKey::generate(&mut OsRng, ""), HostKey::generate(&mut OsRng, ""));
        let (one, two) = (one.expect("made"), two.expect("made"));
        assert_ne!(one.recipient(), two.recipient());
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_comment_of_two_lines_is_refused() {
        assert!(HostKey::generate(&mut OsRng, "a\nssh-ed25519 AAAA").is_err());
    }
}

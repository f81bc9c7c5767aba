//! Private keys: OpenSSH and PKCS#8, plain and passphrase-protected, and plain PKCS#1 RSA.
//!
//! No message repeats any of the input, and every buffer is wiped.

use std::fmt;

use age::ssh::{Identity as SshIdentity, Recipient as SshRecipient};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::SigningKey;
use pkcs8::{EncryptedPrivateKeyInfo, PrivateKeyInfo};
use ssh_key::private::{Ed25519Keypair, KeypairData, PrivateKey as OpenSsh};
use ssh_key::{Cipher, LineEnding};
use thiserror::Error;
use zeroize::Zeroizing;

use super::pem::{self, Block};
use super::public::{Ed25519Public, PublicKeyError};
use crate::keys::native::AgeIdentity;

/// The numbers of the key types in PKCS#8 (RFC 8410, RFC 8017).
const OID_ED25519: pkcs8::ObjectIdentifier = pkcs8::ObjectIdentifier::new_unwrap("1.3.101.112");
const OID_RSA: pkcs8::ObjectIdentifier = pkcs8::ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// Columns of a PEM block.
const PEM_COLUMNS: usize = 64;

/// Why a private key cannot be used; never contains any part of it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PrivateKeyError {
    /// It is empty.
    #[error("the input is empty")]
    Empty,
    /// It is a public key.
    #[error("this is a public key, not a private one")]
    PublicKey,
    /// There is no BEGIN line of a private key.
    #[error("not a private key: there is no line `-----BEGIN … PRIVATE KEY-----`")]
    NotAKey,
    /// It is truncated or changed, or its public and private keys do not match.
    #[error("the private key is damaged: {0}")]
    Damaged(&'static str),
    /// A type or form that cannot be used here.
    #[error("{0}")]
    Unsupported(String),
    /// The passphrase is wrong.
    #[error("incorrect passphrase")]
    WrongPassphrase,
}

/// A private key as it was read.
#[derive(Debug)]
pub enum PrivateKey {
    /// Ready to use.
    Plain(SshKey),
    /// Protected by a passphrase.
    Locked(LockedKey),
}

/// The private keys in a text.
#[derive(Debug)]
pub struct PrivateKeyText {
    /// Its first private key.
    pub key: PrivateKey,
    /// True if another key follows, which is ignored.
    pub more: bool,
}

/// A private key without a passphrase. `Debug` shows its public half.
pub struct SshKey(Material);

enum Material {
    OpenSsh(Box<OpenSsh>),
    /// The PEM text of an RSA key: the one form of it that age reads besides OpenSSH's.
    RsaPem(Zeroizing<String>),
}

/// A passphrase-protected private key. `Debug` shows its public key, if the file contains it.
pub struct LockedKey(LockedMaterial);

enum LockedMaterial {
    OpenSsh(Box<OpenSsh>),
    Pkcs8(Zeroizing<Vec<u8>>),
}

/// Reads the first private key of a text.
///
/// # Errors
///
/// There is none, it is damaged, or its form is not supported.
pub fn parse(text: &[u8]) -> Result<PrivateKeyText, PrivateKeyError> {
    let block = pem::first_block(text)?;
    Ok(PrivateKeyText { key: read_block(&block)?, more: block.more })
}

fn read_block(block: &Block) -> Result<PrivateKey, PrivateKeyError> {
    if block.encrypted {
        return Err(PrivateKeyError::Unsupported(
            "this passphrase-protected PEM form is not supported; `ssh-keygen -p -f FILE` rewrites the key in \
             OpenSSH format"
                .into(),
        ));
    }
    match block.label.as_str() {
        "OPENSSH PRIVATE KEY" => {
            let key = OpenSsh::from_bytes(&block.body).map_err(|error| openssh_error(&error))?;
            if key.cipher() == Cipher::TDesCbc {
                return Err(unsupported_cipher(key.cipher().as_str()));
            }
            if key.is_encrypted() {
                return Ok(PrivateKey::Locked(LockedKey(LockedMaterial::OpenSsh(Box::new(key)))));
            }
            SshKey::of(key).map(PrivateKey::Plain)
        }
        "PRIVATE KEY" => from_pkcs8(&block.body).map(PrivateKey::Plain),
        "ENCRYPTED PRIVATE KEY" => {
            Ok(PrivateKey::Locked(LockedKey(LockedMaterial::Pkcs8(block.body.clone()))))
        }
        "RSA PRIVATE KEY" => from_pkcs1(&block.body).map(PrivateKey::Plain),
        "EC PRIVATE KEY" => Err(unsupported_type("ecdsa")),
        "DSA PRIVATE KEY" => Err(unsupported_type("ssh-dss")),
        label if label.ends_with("PUBLIC KEY") => Err(PrivateKeyError::PublicKey),
        _ => Err(PrivateKeyError::NotAKey),
    }
}

impl SshKey {
    /// Checks that the public and private parts of an ed25519 key match, which the format does not guarantee.
    fn of(key: OpenSsh) -> Result<Self, PrivateKeyError> {
        if let KeypairData::Ed25519(pair) = key.key_data() {
            let key = SigningKey::try_from(pair)
                .map_err(|_| PrivateKeyError::Damaged("its public key does not match its private key"))?;
            Ed25519Public::of(key.verifying_key())
                .map_err(|_| PrivateKeyError::Damaged("its public key is not valid"))?;
        }
        Ok(Self(Material::OpenSsh(Box::new(key))))
    }

    /// The type as ssh names it.
    #[must_use]
    pub fn algorithm(&self) -> String {
        match &self.0 {
            Material::OpenSsh(key) => key.algorithm().as_str().to_owned(),
            Material::RsaPem(_) => "ssh-rsa".into(),
        }
    }

    /// The public half as ssh writes it, without a comment.
    #[must_use]
    pub fn public_line(&self) -> Option<String> {
        match &self.0 {
            Material::OpenSsh(key) => public_line(key),
            Material::RsaPem(_) => self
                .to_ssh_identity()
                .and_then(|key| SshRecipient::try_from(key).ok().map(|recipient| recipient.to_string())),
        }
    }

    /// The public half of an ed25519 key.
    #[must_use]
    pub fn ed25519_public(&self) -> Option<Ed25519Public> {
        self.signing_key().and_then(|key| Ed25519Public::of(key.verifying_key()).ok())
    }

    /// The age identity that belongs to an ed25519 key.
    ///
    /// # Errors
    ///
    /// The key is of another type.
    pub fn to_age(&self) -> Result<AgeIdentity, PrivateKeyError> {
        let key = self.signing_key().ok_or_else(|| unsupported_type(&self.algorithm()))?;
        let secret = Zeroizing::new(key.to_scalar_bytes());
        AgeIdentity::from_secret(&secret)
            .map_err(|_| PrivateKeyError::Damaged("it cannot be converted to an age key"))
    }

    /// The same key as age's own ssh identity; `None` for a type that age does not use.
    pub(crate) fn to_ssh_identity(&self) -> Option<SshIdentity> {
        let text = match &self.0 {
            Material::OpenSsh(key) => key.to_openssh(LineEnding::LF).ok()?,
            Material::RsaPem(text) => text.clone(),
        };
        let identity = SshIdentity::from_buffer(text.as_bytes(), None).ok()?;
        matches!(identity, SshIdentity::Unencrypted(_)).then_some(identity)
    }

    fn signing_key(&self) -> Option<SigningKey> {
        let Material::OpenSsh(key) = &self.0 else { return None };
        key.key_data().ed25519().and_then(|pair| SigningKey::try_from(pair).ok())
    }
}

impl LockedKey {
    /// The public key as ssh writes it; `None` for a PKCS#8 key, which encrypts it as well.
    #[must_use]
    pub fn public_line(&self) -> Option<String> {
        match &self.0 {
            LockedMaterial::OpenSsh(key) => public_line(key),
            LockedMaterial::Pkcs8(_) => None,
        }
    }

    /// Unlocks it. An empty passphrase is always wrong.
    ///
    /// # Errors
    ///
    /// The passphrase is wrong, or the key cannot be used.
    pub fn unlock(&self, passphrase: &str) -> Result<SshKey, PrivateKeyError> {
        if passphrase.is_empty() {
            return Err(PrivateKeyError::WrongPassphrase);
        }
        match &self.0 {
            LockedMaterial::OpenSsh(key) => match key.decrypt(passphrase) {
                Ok(key) => SshKey::of(key),
                Err(ssh_key::Error::PublicKey) => {
                    Err(PrivateKeyError::Damaged("its public key does not match its private key"))
                }
                Err(_) => Err(PrivateKeyError::WrongPassphrase),
            },
            LockedMaterial::Pkcs8(der) => {
                let info = EncryptedPrivateKeyInfo::try_from(&der[..])
                    .map_err(|_| PrivateKeyError::Damaged("it is not a PKCS#8 key"))?;
                let plain = info.decrypt(passphrase).map_err(|error| match error {
                    pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::UnsupportedAlgorithm {
                        ..
                    }) => {
                        PrivateKeyError::Unsupported("the cipher of this PKCS#8 key is not supported".into())
                    }
                    _ => PrivateKeyError::WrongPassphrase,
                })?;
                from_pkcs8(plain.as_bytes())
            }
        }
    }
}

impl fmt::Debug for SshKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("SshKey").field(&self.public_line()).finish()
    }
}

impl fmt::Debug for LockedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("LockedKey").field(&self.public_line()).finish()
    }
}

fn public_line(key: &OpenSsh) -> Option<String> {
    let mut public = key.public_key().clone();
    public.set_comment("");
    public.to_openssh().ok().map(|line| line.trim_end().to_owned())
}

fn from_pkcs8(der: &[u8]) -> Result<SshKey, PrivateKeyError> {
    let damaged = |_| PrivateKeyError::Damaged("it is not a PKCS#8 key");
    let info = PrivateKeyInfo::try_from(der).map_err(damaged)?;
    if info.algorithm.oid == OID_RSA {
        return from_pkcs1(info.private_key);
    }
    if info.algorithm.oid != OID_ED25519 {
        return Err(unsupported_type("other"));
    }
    let key = SigningKey::try_from(info)
        .map_err(|_| PrivateKeyError::Damaged("its public key does not match its private key"))?;
    let pair = Ed25519Keypair::from(&key);
    let key = OpenSsh::new(KeypairData::Ed25519(pair), "").map_err(|error| openssh_error(&error))?;
    SshKey::of(key)
}

fn from_pkcs1(der: &[u8]) -> Result<SshKey, PrivateKeyError> {
    let base64 = Zeroizing::new(BASE64_STANDARD.encode(der));
    let mut text = Zeroizing::new(String::with_capacity(base64.len() + base64.len() / PEM_COLUMNS + 80));
    text.push_str("-----BEGIN RSA PRIVATE KEY-----\n");
    for (index, character) in base64.chars().enumerate() {
        if index > 0 && index % PEM_COLUMNS == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END RSA PRIVATE KEY-----\n");
    let key = SshKey(Material::RsaPem(text));
    key.to_ssh_identity().map(|_| key).ok_or(PrivateKeyError::Damaged("it is not an RSA key"))
}

fn unsupported_type(algorithm: &str) -> PrivateKeyError {
    let PublicKeyError::OtherType(name) = PublicKeyError::OtherType(algorithm.to_owned()) else {
        return PrivateKeyError::NotAKey;
    };
    PrivateKeyError::Unsupported(PublicKeyError::OtherType(name).to_string())
}

/// Reported before the user types a passphrase that would not help.
fn unsupported_cipher(name: &str) -> PrivateKeyError {
    PrivateKeyError::Unsupported(format!(
        "the cipher {name} of this key is not supported; re-encrypt it with `ssh-keygen -p -Z aes256-ctr -f FILE`"
    ))
}

fn openssh_error(error: &ssh_key::Error) -> PrivateKeyError {
    match error {
        ssh_key::Error::PublicKey => {
            PrivateKeyError::Damaged("its public key does not match its private key")
        }
        ssh_key::Error::AlgorithmUnknown | ssh_key::Error::AlgorithmUnsupported { .. } => {
            PrivateKeyError::Unsupported("a key of an unknown type; only ed25519 keys are supported".into())
        }
        ssh_key::Error::Crypto => PrivateKeyError::Damaged("its parts do not match"),
        ssh_key::Error::Encoding(_) => {
            PrivateKeyError::Damaged("it ends early, or a part has a wrong length")
        }
        _ => PrivateKeyError::Damaged("it is not an OpenSSH key"),
    }
}

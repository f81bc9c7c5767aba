//! Public keys as found in authorized_keys, known_hosts, `ssh-add -L` and ssh-keyscan's output.
//!
//! A key is found by its base64, which includes its type: anything before it (options, hosts,
//! markers) or after it (a comment of any length) is ignored. No message repeats any of the input.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::VerifyingKey;
use thiserror::Error;

use crate::keys::native;

/// The type that can be converted.
pub const ED25519: &str = "ssh-ed25519";
/// Bytes of an ed25519 public key.
const KEY_BYTES: usize = 32;
/// No algorithm name of ssh is longer (RFC 4250, section 4.6.1).
const NAME_LIMIT: usize = 64;

/// An ed25519 public key that age can encrypt to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ed25519Public(VerifyingKey);

/// Why a key or line is not converted; never holds a part of it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PublicKeyError {
    /// Nothing on the line is the base64 of a key.
    #[error("not an ssh public key")]
    NotAKey,
    /// The base64 ends early, or continues after the key.
    #[error("the ssh public key is damaged: {0}")]
    Damaged(&'static str),
    /// The bytes are not a point that a real key could have.
    #[error("the ssh public key is not valid: {0}")]
    Point(&'static str),
    /// The input is the other half.
    #[error("this is a private key, not a public one")]
    PrivateKey,
    /// Another text form of public keys.
    #[error("this is a public key in {0} format; convert it with `ssh-keygen -i -m {0} -f FILE`")]
    OtherForm(&'static str),
    /// Some other type of key.
    #[error("got {0} key type, but only ed25519 keys are supported")]
    OtherType(String),
}

/// A line that holds a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicLine {
    /// An ed25519 key.
    Key(Ed25519Public),
    /// A key of another type, which has no age form.
    Skipped {
        /// The line's number, from 1.
        line: usize,
        /// Its type.
        algorithm: String,
    },
}

/// A line that holds no usable key.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {error}")]
pub struct LineError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong.
    pub error: PublicKeyError,
}

/// The keys of a text, line by line. Blank lines and comments are skipped; a byte order mark, space
/// around a line and carriage returns are not minded.
pub fn lines(input: &[u8]) -> impl Iterator<Item = Result<PublicLine, LineError>> + '_ {
    let input = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    let numbered = input.split(|byte| *byte == b'\n').zip(1..);
    numbered.map(|(line, number)| (line.trim_ascii(), number)).filter(|(line, _)| !is_blank(line)).map(
        |(line, number)| match read_line(line) {
            Ok(key) => Ok(PublicLine::Key(key)),
            Err(PublicKeyError::OtherType(algorithm)) => Ok(PublicLine::Skipped { line: number, algorithm }),
            Err(error) => Err(LineError { line: number, error }),
        },
    )
}

fn is_blank(line: &[u8]) -> bool {
    line.is_empty() || line.starts_with(b"#")
}

fn read_line(line: &[u8]) -> Result<Ed25519Public, PublicKeyError> {
    if let Some(error) = other_form(line) {
        return Err(error);
    }
    let mut damaged = PublicKeyError::NotAKey;
    for field in line.split(|byte| *byte == b' ' || *byte == b'\t') {
        // The base64 of every key begins with the zeros of a short name's length.
        if !field.starts_with(b"AAAA") {
            continue;
        }
        let Ok(wire) = BASE64_STANDARD.decode(field) else {
            damaged = PublicKeyError::Damaged("its base64 is not valid");
            continue;
        };
        match Ed25519Public::from_wire(&wire) {
            Err(PublicKeyError::NotAKey) => {}
            found => return found,
        }
    }
    Err(damaged)
}

fn other_form(line: &[u8]) -> Option<PublicKeyError> {
    if line.starts_with(b"---- BEGIN SSH2 PUBLIC KEY") {
        return Some(PublicKeyError::OtherForm("RFC4716"));
    }
    let label = line.strip_prefix(b"-----BEGIN ")?;
    let label = label.strip_suffix(b"-----").unwrap_or(label);
    Some(match label {
        b"PUBLIC KEY" => PublicKeyError::OtherForm("PKCS8"),
        b"RSA PUBLIC KEY" => PublicKeyError::OtherForm("PEM"),
        _ if label.ends_with(b"PRIVATE KEY") => PublicKeyError::PrivateKey,
        _ => PublicKeyError::NotAKey,
    })
}

impl Ed25519Public {
    /// From the 32 bytes of a point. Refused are points off the curve, of low order (no file could be
    /// encrypted to them) and not in their one canonical form.
    ///
    /// # Errors
    ///
    /// The bytes are not such a point.
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Result<Self, PublicKeyError> {
        if !is_canonical(bytes) {
            return Err(PublicKeyError::Point("it is not in canonical form"));
        }
        let key = VerifyingKey::from_bytes(bytes)
            .map_err(|_| PublicKeyError::Point("it is not a point on the curve"))?;
        if key.is_weak() {
            return Err(PublicKeyError::Point("it is a point of low order"));
        }
        Ok(Self(key))
    }

    /// From the bytes that the base64 of a public key holds.
    ///
    /// # Errors
    ///
    /// They are not a key, or one of another type.
    pub fn from_wire(wire: &[u8]) -> Result<Self, PublicKeyError> {
        let (name, rest) = take_string(wire).ok_or(PublicKeyError::NotAKey)?;
        let name = algorithm(name).ok_or(PublicKeyError::NotAKey)?;
        if name != ED25519 {
            return Err(PublicKeyError::OtherType(name.to_owned()));
        }
        let (point, rest) = take_string(rest).ok_or(PublicKeyError::Damaged("it ends early"))?;
        if !rest.is_empty() {
            return Err(PublicKeyError::Damaged("it has extra data at its end"));
        }
        let point = point.try_into().map_err(|_| PublicKeyError::Damaged("it does not have 32 bytes"))?;
        Self::from_bytes(point)
    }

    /// From one line of any of the forms that [`lines`] reads.
    ///
    /// # Errors
    ///
    /// The line holds no usable ed25519 key.
    pub fn from_line(line: &str) -> Result<Self, PublicKeyError> {
        read_line(line.trim().as_bytes())
    }

    /// The bytes that the base64 of the key holds.
    #[must_use]
    pub fn wire(&self) -> Vec<u8> {
        let parts: [&[u8]; 2] = [ED25519.as_bytes(), self.0.as_bytes()];
        let mut wire = Vec::with_capacity(4 + ED25519.len() + 4 + KEY_BYTES);
        for part in parts {
            // Both lengths are below 64.
            wire.extend_from_slice(&[0, 0, 0, part.len().to_le_bytes()[0]]);
            wire.extend_from_slice(part);
        }
        wire
    }

    /// The key as ssh writes it, without a comment.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{ED25519} {}", BASE64_STANDARD.encode(self.wire()))
    }

    /// The age recipient that belongs to it, `age1…`.
    #[must_use]
    pub fn recipient(&self) -> String {
        native::recipient_text(&self.0.to_montgomery().to_bytes())
    }

    pub(super) fn of(key: VerifyingKey) -> Result<Self, PublicKeyError> {
        Self::from_bytes(key.as_bytes())
    }
}

/// An ssh string: four bytes of length, then the content.
fn take_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// The name of a key type as ssh spells them; anything else is not a key at all.
fn algorithm(name: &[u8]) -> Option<&str> {
    let spelt = |byte: &u8| byte.is_ascii_alphanumeric() || b"@.-_".contains(byte);
    let plausible = (4..=NAME_LIMIT).contains(&name.len()) && name.iter().all(spelt);
    plausible.then(|| std::str::from_utf8(name).ok()).flatten()
}

/// True if the y coordinate (without the sign bit of x) is below the field's prime, 2^255 - 19.
fn is_canonical(point: &[u8; KEY_BYTES]) -> bool {
    let high = point[KEY_BYTES - 1] & 0x7f;
    let middle_full = point[1..KEY_BYTES - 1].iter().all(|byte| *byte == 0xff);
    !(high == 0x7f && middle_full && point[0] >= 0xed)
}

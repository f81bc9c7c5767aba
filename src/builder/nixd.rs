//! The first words of nix's worker protocol: whether a nix-daemon answers, which, and whether it trusts us. They need
//! no nix on this side.

use std::io::{self, Read, Write};

/// What the client begins with (`nixc`).
const CLIENT_MAGIC: u64 = 0x6e69_7863;
/// What the daemon answers (`dxio`).
const DAEMON_MAGIC: u64 = 0x6478_696f;
/// The end of the handshake (`alts`).
const DONE: u64 = 0x616c_7473;
/// The version that we speak: 1.35.
const VERSION: u64 = 0x123;
/// From this minor version on the daemon says its version.
const SAYS_VERSION: u64 = 33;
/// From this one on it says whether it trusts the client.
const SAYS_TRUST: u64 = 35;
/// The most bytes of a version.
const VERSION_MAX: u64 = 256;

/// A nix-daemon that has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// The protocol that it speaks.
    pub protocol: (u64, u64),
    /// Nix's version, where it says it.
    pub version: Option<String>,
    /// Whether it trusts the user, where it says so.
    pub trusted: Option<bool>,
}

/// Greets a daemon at the other end of a pipe.
///
/// # Errors
/// What answers is not a nix-daemon, or the pipe ends.
pub fn handshake(mut from: impl Read, mut to: impl Write) -> io::Result<Daemon> {
    send(&mut to, &[CLIENT_MAGIC])?;
    let magic = number(&mut from)?;
    if magic != DAEMON_MAGIC {
        return Err(strange(format!("`{}` answers, which is not a nix-daemon", text(&magic.to_le_bytes()))));
    }
    let theirs = number(&mut from)?;
    let protocol = (theirs >> 8, theirs & 0xff);
    if protocol.0 != VERSION >> 8 {
        return Err(strange(format!("the nix-daemon speaks protocol {}.{}", protocol.0, protocol.1)));
    }
    // Neither a processor to run on, nor space that is set aside.
    send(&mut to, &[VERSION, 0, 0])?;
    let minor = protocol.1.min(VERSION & 0xff);
    let version = if minor >= SAYS_VERSION { Some(string(&mut from)?) } else { None };
    let trusted = if minor >= SAYS_TRUST { trust(number(&mut from)?) } else { None };
    match number(&mut from)? {
        DONE => Ok(Daemon { protocol, version, trusted }),
        _ => Err(strange("the nix-daemon refuses: it reports an error".to_owned())),
    }
}

fn trust(word: u64) -> Option<bool> {
    match word {
        1 => Some(true),
        2 => Some(false),
        _ => None,
    }
}

fn send(to: &mut impl Write, numbers: &[u64]) -> io::Result<()> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    to.write_all(&bytes)?;
    to.flush()
}

fn number(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// A length, so many bytes, and zeros up to the next multiple of eight.
fn string(from: &mut impl Read) -> io::Result<String> {
    let length = number(from)?;
    if length > VERSION_MAX {
        return Err(strange(format!("a version of {length} bytes")));
    }
    let padded = usize::try_from(length.next_multiple_of(8)).map_err(io::Error::other)?;
    let mut bytes = vec![0; padded];
    from.read_exact(&mut bytes)?;
    bytes.truncate(usize::try_from(length).map_err(io::Error::other)?);
    Ok(text(&bytes))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn strange(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::{Daemon, handshake};
    use proptest::prelude::*;

    /// What nix-daemon 2.8.0 of Debian 12 says (protocol 1.34), and 2.24 (1.37, trusted).
    const NIX_2_8: &[u8] = b"oixd\0\0\0\0\x22\x01\0\0\0\0\0\0\x05\0\0\0\0\0\0\x002.8.0\0\0\0stla\0\0\0\0";
    const NIX_2_24: &[u8] =
        b"oixd\0\0\0\0\x25\x01\0\0\0\0\0\0\x06\0\0\0\0\0\0\x002.24.9\0\0\x01\0\0\0\0\0\0\0stla\0\0\0\0";

    #[test]
    fn a_recorded_daemon_is_greeted() {
        let mut said = Vec::new();
        let daemon = handshake(NIX_2_8, &mut said).expect("it answers");
        assert_eq!(daemon, Daemon { protocol: (1, 34), version: Some("2.8.0".into()), trusted: None });
        assert_eq!(said, b"cxin\0\0\0\0\x23\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        let daemon = handshake(NIX_2_24, std::io::sink()).expect("it answers");
        assert_eq!(daemon, Daemon { protocol: (1, 37), version: Some("2.24.9".into()), trusted: Some(true) });
    }

    #[test]
    fn what_is_not_a_daemon_is_named() {
        let said = |bytes: &[u8]| handshake(bytes, std::io::sink()).expect_err("refused").to_string();
        assert_eq!(said(b"Welcome to the machine"), "`Welcome ` answers, which is not a nix-daemon");
        assert_eq!(said(b"oixd\0\0\0\0\x22\x02\0\0\0\0\0\0"), "the nix-daemon speaks protocol 2.34");
        let mut long = NIX_2_8.to_vec();
        long[23] = 0x7f;
        assert!(said(&long).starts_with("a version of "), "{}", said(&long));
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_an_error_or_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..60) {
            let _ = handshake(bytes.as_slice(), std::io::sink());
            let mut mixed = NIX_2_24[..cut.min(NIX_2_24.len())].to_vec();
            mixed.extend(&bytes);
            let _ = handshake(mixed.as_slice(), std::io::sink());
            if cut < NIX_2_24.len() {
                prop_assert!(handshake(&NIX_2_24[..cut], std::io::sink()).is_err());
            }
        }
    }
}

//! Bytes as hexadecimal digits, for names that are made from digests.

use std::fmt::Write as _;

/// The lower-case hexadecimal digits of bytes, two each.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_byte_has_two_digits() {
        assert_eq!(super::encode(&[0x0a, 0xbc, 0, 0xff]), "0abc00ff");
        assert_eq!(super::encode(&[]), "");
    }
}

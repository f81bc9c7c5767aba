//! The block between a BEGIN and an END line.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::private::PrivateKeyError;
use super::public;

/// One block of a text.
pub(super) struct Block {
    /// The label after BEGIN.
    pub(super) label: String,
    /// True if it has header lines that say it is encrypted, as PEM did before PKCS#8.
    pub(super) encrypted: bool,
    /// Its bytes.
    pub(super) body: Zeroizing<Vec<u8>>,
    /// True if another BEGIN line follows the END line.
    pub(super) more: bool,
}

/// Finds the first block. Text before and after it, carriage returns and a byte order mark are not minded.
pub(super) fn first_block(text: &[u8]) -> Result<Block, PrivateKeyError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    if text.trim_ascii().is_empty() {
        return Err(PrivateKeyError::Empty);
    }
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let label = lines.by_ref().find_map(begin_label).ok_or_else(|| without_begin(text))?;
    let mut base64 = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut encrypted = false;
    loop {
        let line = lines.next().ok_or(PrivateKeyError::Damaged("its END line is missing"))?;
        if let Some(end) = line.strip_prefix(b"-----END ") {
            if end.strip_suffix(b"-----") != Some(label) {
                return Err(PrivateKeyError::Damaged("its END line does not match its BEGIN line"));
            }
            break;
        }
        if line.contains(&b':') {
            encrypted |= line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED");
        } else {
            base64.extend_from_slice(line);
        }
    }
    let mut body = Zeroizing::new(vec![0; base64.len() / 4 * 3 + 3]);
    let length = BASE64_STANDARD
        .decode_slice(&base64[..], &mut body)
        .map_err(|_| PrivateKeyError::Damaged("its base64 is not valid"))?;
    body.truncate(length);
    let more = lines.any(|line| begin_label(line).is_some());
    Ok(Block { label: String::from_utf8_lossy(label).into_owned(), encrypted, body, more })
}

fn begin_label(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"-----BEGIN ")?.strip_suffix(b"-----")
}

/// What a text without a BEGIN line probably is.
fn without_begin(text: &[u8]) -> PrivateKeyError {
    let indented = text.split(|byte| *byte == b'\n').any(|line| begin_label(line.trim_ascii()).is_some());
    if indented {
        return PrivateKeyError::Damaged("its lines are indented");
    }
    match public::lines(text).next() {
        Some(Ok(_)) => PrivateKeyError::PublicKey,
        _ => PrivateKeyError::NotAKey,
    }
}

//! From the bytes of a file to the UTF-8 text that the scanner walks over.

use std::borrow::Cow;

use super::chars;
use super::limits;
use crate::store::Error;

/// Takes off a byte order mark, decodes UTF-16, and refuses what may not stand in YAML. The result
/// is UTF-8 without zero bytes.
///
/// # Errors
/// Too long a file, bytes that are no text, control characters; with their line.
pub(super) fn read(input: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    if input.len() > limits::INPUT_BYTES {
        return Err(Error::Limit { line: 1, limit: limits::INPUT_BYTES, what: "bytes" });
    }
    let text: Cow<'_, [u8]> = match input {
        [0xFF, 0xFE, rest @ ..] => Cow::Owned(utf16(rest, u16::from_le_bytes)?),
        [0xFE, 0xFF, rest @ ..] => Cow::Owned(utf16(rest, u16::from_be_bytes)?),
        [0xEF, 0xBB, 0xBF, rest @ ..] => Cow::Borrowed(rest),
        _ => Cow::Borrowed(input),
    };
    if let Err(error) = std::str::from_utf8(&text) {
        return Err(syntax(&text, error.valid_up_to(), "bytes that are not UTF-8"));
    }
    if let Some(at) = first_control(&text) {
        return Err(syntax(&text, at, "control characters are not allowed"));
    }
    Ok(text)
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Vec<u8>, Error> {
    let units: Vec<u16> =
        bytes.chunks(2).map(|pair| pair.try_into().map(unit)).collect::<Result<_, _>>().map_err(|_| {
            Error::Syntax { line: 1, message: "UTF-16 with an odd number of bytes".to_owned() }
        })?;
    String::from_utf16(&units)
        .map(String::into_bytes)
        .map_err(|_| Error::Syntax { line: 1, message: "not UTF-16, which its first bytes say".to_owned() })
}

/// The first character outside tab, LF, CR, NEL, printable ASCII and U+00A0 upward.
fn first_control(text: &[u8]) -> Option<usize> {
    (0..text.len()).find(|&at| match text[at] {
        b'\t' | b'\n' | b'\r' | 0x20..=0x7E => false,
        0xC2 => chars::byte(text, at + 1) < 0xA0 && chars::byte(text, at + 1) != 0x85,
        0xEF => chars::byte(text, at + 1) == 0xBF && chars::byte(text, at + 2) >= 0xBE,
        0x80.. => false,
        _ => true,
    })
}

fn syntax(text: &[u8], at: usize, message: &str) -> Error {
    let line = 1 + text[..at].iter().filter(|&&byte| byte == b'\n').count();
    Error::Syntax { line, message: message.to_owned() }
}

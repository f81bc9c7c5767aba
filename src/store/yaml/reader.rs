//! From the bytes of a file to the UTF-8 text that the scanner walks over.

use std::ops::Deref;

use zeroize::Zeroizing;

use super::chars;
use super::limits;
use crate::sops::buffer::Buffer;
use crate::store::Error;

/// Bytes that are looked at together.
const CHUNK: usize = 64;

/// The text of a file: its own bytes, or what they were decoded to.
pub(super) enum Source<'a> {
    Own(&'a [u8]),
    Decoded(Buffer),
}

impl Deref for Source<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Decoded(buffer) => buffer,
        }
    }
}

/// Takes off a byte order mark, decodes UTF-16, and refuses characters that are not allowed in YAML. The result
/// is UTF-8 without zero bytes.
///
/// # Errors
/// Too long a file, bytes that are not text, control characters; with their line.
pub(super) fn read(input: &[u8]) -> Result<Source<'_>, Error> {
    if input.len() > limits::INPUT_BYTES {
        return Err(Error::Limit { line: 1, limit: limits::INPUT_BYTES, what: "bytes" });
    }
    let text = match input {
        [0xFF, 0xFE, rest @ ..] => Source::Decoded(utf16(rest, u16::from_le_bytes)?),
        [0xFE, 0xFF, rest @ ..] => Source::Decoded(utf16(rest, u16::from_be_bytes)?),
        [0xEF, 0xBB, 0xBF, rest @ ..] => Source::Own(rest),
        _ => Source::Own(input),
    };
    if let Err(error) = std::str::from_utf8(&text) {
        return Err(syntax(&text, error.valid_up_to(), "bytes that are not UTF-8"));
    }
    if let Some(at) = first_control(&text) {
        return Err(syntax(&text, at, "control characters are not allowed"));
    }
    Ok(text)
}

/// The text of a file as people edit it, in UTF-8 with the byte order mark that it has, and whether it was UTF-16.
///
/// # Errors
/// Bytes that are not text; with their line.
pub fn text(input: &[u8]) -> Result<(String, bool), Error> {
    let wide = matches!(input, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..]);
    let bytes = if wide { read(input)?.to_vec() } else { input.to_vec() };
    let text = String::from_utf8(bytes);
    let text =
        text.map_err(|error| syntax(input, error.utf8_error().valid_up_to(), "bytes that are not UTF-8"))?;
    Ok((text, wide))
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Buffer, Error> {
    let error = || Error::Syntax {
        line: 1,
        message: "not valid UTF-16, although the byte order mark says so".to_owned(),
    };
    let pairs = bytes.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(error());
    }
    let units: Zeroizing<Vec<u16>> = Zeroizing::new(pairs.map(|pair| unit([pair[0], pair[1]])).collect());
    // No UTF-16 unit takes more than three bytes of UTF-8.
    let mut text = Buffer::with_capacity(units.len() * 3);
    for character in char::decode_utf16(units.iter().copied()) {
        text.push_char(character.map_err(|_| error())?);
    }
    Ok(text)
}

/// The first character outside tab, LF, CR, NEL, printable ASCII and U+00A0 upward.
fn first_control(text: &[u8]) -> Option<usize> {
    let is_odd = |at: usize| match text[at] {
        b'\t' | b'\n' | b'\r' | 0x20..=0x7E => false,
        0xC2 => chars::byte(text, at + 1) < 0xA0 && chars::byte(text, at + 1) != 0x85,
        0xEF => chars::byte(text, at + 1) == 0xBF && chars::byte(text, at + 2) >= 0xBE,
        0x80.. => false,
        _ => true,
    };
    // Most of a file is printable ASCII, which is seen in chunks.
    let is_plain = |byte: &u8| (0x20..=0x7E).contains(byte) || *byte == b'\n';
    let mut start = 0;
    for chunk in text.chunks(CHUNK) {
        let end = start + chunk.len();
        // Without a short cut, so that many bytes are compared at once.
        if !chunk.iter().fold(true, |plain, byte| plain & is_plain(byte))
            && let Some(at) = (start..end).find(|at| is_odd(*at))
        {
            return Some(at);
        }
        start = end;
    }
    None
}

fn syntax(text: &[u8], at: usize, message: &str) -> Error {
    let line = 1 + text[..at].iter().filter(|&&byte| byte == b'\n').count();
    Error::Syntax { line, message: message.to_owned() }
}

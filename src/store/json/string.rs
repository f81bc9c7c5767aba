//! Strings, read and written as Go does.

use std::char::{REPLACEMENT_CHARACTER, decode_utf16};

use crate::sops::buffer::Buffer;
use crate::sops::text::Text;

/// A string's length up to its closing quote; `None` where it has none.
pub(super) fn length(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// The text that a string stands for. Lone surrogates and bytes that are no UTF-8 become U+FFFD each.
///
/// # Errors
/// A control character or an escape that JSON does not know: where, and what is wrong.
pub(super) fn decode(raw: &[u8]) -> Result<Text, (usize, &'static str)> {
    if let Some(at) = raw.iter().position(|byte| *byte < b' ') {
        return Err((at, "a string contains an unescaped control character or line break"));
    }
    if memchr::memchr(b'\\', raw).is_none() && std::str::from_utf8(raw).is_ok() {
        return Ok(Text::from(raw.to_vec()));
    }
    let mut text = Buffer::with_capacity(raw.len());
    let mut at = 0;
    while at < raw.len() {
        let end = memchr::memchr(b'\\', &raw[at..]).map_or(raw.len(), |length| at + length);
        push_utf8(&mut text, &raw[at..end]);
        at = end;
        if at < raw.len() {
            at += escape(&mut text, &raw[at..])
                .ok_or((at, "a string contains an escape that is not valid in JSON"))?;
        }
    }
    Ok(Text::from(text.into_vec()))
}

fn push_utf8(text: &mut Buffer, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        text.extend(chunk.valid().as_bytes());
        for _ in chunk.invalid() {
            text.push_char(REPLACEMENT_CHARACTER);
        }
    }
}

/// Decodes the escape that a text starts with, and gives its length.
fn escape(text: &mut Buffer, raw: &[u8]) -> Option<usize> {
    let byte = match raw.get(1)? {
        byte @ (b'"' | b'\\' | b'/') => *byte,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => {
            let first = unit(raw)?;
            let pair = [Some(first), raw.get(6..).and_then(unit)];
            let character = decode_utf16(pair.into_iter().flatten()).next()?;
            text.push_char(character.as_ref().copied().unwrap_or(REPLACEMENT_CHARACTER));
            return Some(if character.is_ok_and(|character| character.len_utf16() == 2) { 12 } else { 6 });
        }
        _ => return None,
    };
    text.push(byte);
    Some(2)
}

/// The code unit of an escape `\uXXXX`.
fn unit(raw: &[u8]) -> Option<u16> {
    let digits = raw.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

/// The bytes that are never written as they are, or need a look at what follows (U+2028 and U+2029).
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        special[byte] = true;
        byte += 1;
    }
    let mut others: &[u8] = b"\"\\<>&\xE2";
    while let [byte, rest @ ..] = others {
        special[*byte as usize] = true;
        others = rest;
    }
    special
};

/// Writes a string with its quotes.
pub(super) fn encode(out: &mut Buffer, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        encode_valid(out, chunk.valid().as_bytes());
        for _ in chunk.invalid() {
            out.extend(b"\\ufffd");
        }
    }
    out.push(b'"');
}

fn encode_valid(out: &mut Buffer, mut text: &[u8]) {
    while let Some(at) = text.iter().position(|byte| SPECIAL[usize::from(*byte)]) {
        out.extend(&text[..at]);
        text = &text[at..];
        let length = match text {
            [0xE2, 0x80, last @ (0xA8 | 0xA9), ..] => {
                out.extend(if *last == 0xA8 { b"\\u2028" } else { b"\\u2029" });
                3
            }
            [byte, ..] => {
                encode_byte(out, *byte);
                1
            }
            [] => 0,
        };
        text = &text[length..];
    }
    out.extend(text);
}

fn encode_byte(out: &mut Buffer, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        0xE2 => return out.push(byte),
        b'"' | b'\\' => byte,
        8 => b'b',
        12 => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            let [high, low] = [byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]);
            return out.extend(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    };
    out.extend(&[b'\\', short]);
}

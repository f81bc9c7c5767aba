//! Classes of characters, by their UTF-8 bytes.
//!
//! A break is CR, LF, NEL (U+0085), LS or PS (U+2028, U+2029): the five of YAML 1.1.

/// The byte at a position; past the end a zero, which no accepted input holds.
pub(super) fn byte(text: &[u8], at: usize) -> u8 {
    text.get(at).copied().unwrap_or(0)
}

pub(super) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

pub(super) fn is_break(text: &[u8], at: usize) -> bool {
    match byte(text, at) {
        b'\r' | b'\n' => true,
        0xC2 => byte(text, at + 1) == 0x85,
        0xE2 => byte(text, at + 1) == 0x80 && matches!(byte(text, at + 2), 0xA8 | 0xA9),
        _ => false,
    }
}

/// A break, or the end of the text.
pub(super) fn is_break_or_end(text: &[u8], at: usize) -> bool {
    byte(text, at) == 0 || is_break(text, at)
}

/// A space, a tab, a break, or the end of the text.
pub(super) fn is_white_or_end(text: &[u8], at: usize) -> bool {
    is_blank(byte(text, at)) || is_break_or_end(text, at)
}

/// ASCII that has no special meaning in YAML anywhere inside a text. A table, since nearly every byte of a file is
/// asked for.
const INNER: [bool; 256] = {
    let mut inner = [false; 256];
    let signs = b"+/=_.-@";
    let mut at = 0;
    while at < signs.len() {
        inner[signs[at] as usize] = true;
        at += 1;
    }
    let mut byte = 0_u8;
    while byte < 128 {
        inner[byte as usize] |= byte.is_ascii_alphanumeric();
        byte += 1;
    }
    inner
};

/// Whether a byte has no special meaning anywhere inside a text.
pub(super) fn is_inner(byte: u8) -> bool {
    INNER[usize::from(byte)]
}

/// How many bytes at the start of a text mean nothing but themselves.
pub(super) fn inner_run(text: &[u8]) -> usize {
    let whole = text.chunks_exact(8).take_while(|chunk| chunk.iter().all(|byte| is_inner(*byte))).count() * 8;
    whole + text[whole..].iter().take_while(|byte| is_inner(**byte)).count()
}

/// Whether a character is allowed in anchors, tag handles and directive names.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// How many bytes the character has that starts with this one.
pub(super) fn width(first: u8) -> usize {
    match first {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    }
}

/// Whether a character may be written as itself: printable ASCII, LF, and U+00A0 to U+FFFD but for
/// the byte order mark.
pub(super) fn is_printable(text: &[u8], at: usize) -> bool {
    match byte(text, at) {
        b'\n' | 0x20..=0x7E | 0xEE => true,
        0xC2 => byte(text, at + 1) >= 0xA0,
        0xC3..=0xEC => true,
        0xED => byte(text, at + 1) < 0xA0,
        0xEF => match byte(text, at + 1) {
            0xBB => byte(text, at + 2) != 0xBF,
            0xBF => !matches!(byte(text, at + 2), 0xBE | 0xBF),
            _ => true,
        },
        _ => false,
    }
}

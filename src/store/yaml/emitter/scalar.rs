//! Scalars: which text, which style, and the writing of each style.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

use super::style::{Allowed, is_base_60, is_old_bool};
use super::{Emitter, Place};
use crate::sops::tree::{Key, Value};
use crate::store::Error;
use crate::store::yaml::chars;
use crate::store::yaml::number;
use crate::store::yaml::resolve;

/// The longest key that is written without `?`, in bytes with its tag (go-yaml).
const SIMPLE_KEY_BYTES: usize = 128;

/// Characters in a line of base64 (go-yaml).
const BASE64_LINE: usize = 70;

/// What U+FEFF starts with; a text that begins with it is escaped in full, as by go-yaml.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

/// A scalar ready to be written.
pub(super) struct Scalar<'a> {
    text: Cow<'a, [u8]>,
    tag: &'static [u8],
    style: Style,
    allowed: Allowed,
}

/// The scalar of a leaf.
pub(super) fn of_value(value: &Value) -> Result<Scalar<'_>, Error> {
    Ok(match value {
        Value::Null => ready("null".to_owned()),
        Value::Bool(value) => ready(value.to_string()),
        Value::Int(value) => ready(value.to_string()),
        Value::Uint(value) => ready(value.to_string()),
        Value::Float(value) => ready(number::format_float(*value)),
        Value::Time(value) => ready(value.to_string()),
        Value::Str(text) | Value::Bytes(text) => string(text.as_bytes(), true),
        Value::Comment(_) => return Err(unwritable("a comment in place of a value")),
        Value::Map(_) | Value::List(_) => {
            return Err(unwritable("a collection in place of a single value"));
        }
    })
}

/// The scalar of a key. A `<<` over a value that cannot be merged is quoted: unquoted, the file
/// could not be read back.
pub(super) fn of_key(key: &Key, mergeable: bool) -> Result<Scalar<'_>, Error> {
    match key {
        Key::Str(text) => Ok(string(text.as_bytes(), mergeable)),
        Key::Other(value) => of_value(value),
    }
}

fn unwritable(message: &str) -> Error {
    Error::Unwritable(message.to_owned())
}

/// Text that is not a string and is written plain.
fn ready<'a>(text: String) -> Scalar<'a> {
    let allowed = Allowed::new(text.as_bytes());
    Scalar { text: Cow::Owned(text.into_bytes()), tag: b"", style: Style::Plain, allowed }
}

fn string(text: &[u8], merge: bool) -> Scalar<'_> {
    let (text, tag) = if std::str::from_utf8(text).is_err() {
        (Cow::Owned(base64_lines(text)), b"!!binary".as_slice())
    } else if text == b"<<" && merge {
        (Cow::Borrowed(text), b"!!merge".as_slice())
    } else {
        (Cow::Borrowed(text), b"".as_slice())
    };
    let allowed = Allowed::new(&text);
    let style = if text.contains(&b'\n') {
        Style::Literal
    } else if !tag.is_empty() {
        Style::Plain
    } else if *text == *b"<<" || !resolve::is_string(&text) || is_base_60(&text) || is_old_bool(&text) {
        Style::Double
    } else {
        Style::Plain
    };
    Scalar { text, tag, style: possible(style, allowed), allowed }
}

/// The nearest style that the text can have.
fn possible(style: Style, allowed: Allowed) -> Style {
    match style {
        Style::Plain if allowed.plain => Style::Plain,
        Style::Plain | Style::Single if allowed.single => Style::Single,
        Style::Literal if allowed.block => Style::Literal,
        _ => Style::Double,
    }
}

/// Lines only where there is more than one; then each ends with a break.
fn base64_lines(bytes: &[u8]) -> Vec<u8> {
    let packed = Zeroizing::new(STANDARD.encode(bytes).into_bytes());
    if packed.len() < BASE64_LINE {
        return packed.to_vec();
    }
    let mut lines = Vec::with_capacity(packed.len() + packed.len() / BASE64_LINE + 1);
    for line in packed.chunks(BASE64_LINE) {
        lines.extend_from_slice(line);
        lines.push(b'\n');
    }
    lines
}

impl Scalar<'_> {
    /// Whether it can be a key without `?`.
    pub(super) fn is_simple_key(&self) -> bool {
        !self.allowed.multiline && self.tag.len() + self.text.len() <= SIMPLE_KEY_BYTES
    }
}

impl Emitter {
    pub(super) fn scalar(&mut self, scalar: Scalar<'_>, place: Place) {
        if !scalar.tag.is_empty() {
            self.write_indicator(scalar.tag, true, false, false);
        }
        let outer = self.increase_indent(true, place);
        let mut style = scalar.style;
        if style == Style::Literal && self.pending.line.contains(&b'\n') {
            // Behind a `|` only the first line would be a comment and the others part of the text.
            style = Style::Double;
        }
        match style {
            Style::Plain => self.write_plain(&scalar.text),
            Style::Single => self.write_single(&scalar.text),
            Style::Double => self.write_double(&scalar.text),
            Style::Literal => self.write_literal(&scalar.text, outer.unwrap_or(0)),
        }
        self.indent = outer;
        if let Cow::Owned(mut text) = scalar.text {
            text.zeroize();
        }
    }

    fn write_plain(&mut self, text: &[u8]) {
        if !text.is_empty() && !self.whitespace {
            self.put(b' ');
        }
        let mut at = 0;
        while at < text.len() {
            at = self.copy(text, at);
        }
        if !text.is_empty() {
            self.whitespace = false;
        }
        self.indention = false;
    }

    fn write_single(&mut self, text: &[u8]) {
        self.write_indicator(b"'", true, false, false);
        let mut at = 0;
        let mut breaks = false;
        while at < text.len() {
            if text[at] == b' ' {
                at = self.copy(text, at);
            } else if chars::is_break(text, at) {
                at = self.copy_break(text, at);
                breaks = true;
            } else {
                if breaks {
                    self.write_indent();
                }
                if text[at] == b'\'' {
                    self.put(b'\'');
                }
                at = self.copy(text, at);
                self.indention = false;
                breaks = false;
            }
        }
        self.write_indicator(b"'", false, false, false);
    }

    fn write_double(&mut self, text: &[u8]) {
        self.write_indicator(b"\"", true, false, false);
        let all = text.starts_with(BYTE_ORDER_MARK);
        let mut at = 0;
        while at < text.len() {
            let escaped = all
                || !chars::is_printable(text, at)
                || chars::is_break(text, at)
                || matches!(text[at], b'"' | b'\\');
            if escaped {
                at = self.write_escaped(text, at);
            } else {
                at = self.copy(text, at);
            }
        }
        self.write_indicator(b"\"", false, false, false);
    }

    fn write_escaped(&mut self, text: &[u8], at: usize) -> usize {
        let end = (at + chars::width(text[at])).min(text.len());
        let character = std::str::from_utf8(&text[at..end]).ok().and_then(|text| text.chars().next());
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        let named = match character {
            '\0' => b'0',
            '\x07' => b'a',
            '\x08' => b'b',
            '\t' => b't',
            '\n' => b'n',
            '\x0B' => b'v',
            '\x0C' => b'f',
            '\r' => b'r',
            '\x1B' => b'e',
            '"' => b'"',
            '\\' => b'\\',
            '\u{85}' => b'N',
            '\u{A0}' => b'_',
            '\u{2028}' => b'L',
            '\u{2029}' => b'P',
            _ => 0,
        };
        self.put(b'\\');
        if named != 0 {
            self.put(named);
            return end;
        }
        let code = u32::from(character);
        let (letter, digits) = match code {
            0..=0xFF => (b'x', 2),
            0x100..=0xFFFF => (b'u', 4),
            _ => (b'U', 8),
        };
        self.put(letter);
        for digit in (0..digits).rev() {
            self.put(b"0123456789ABCDEF"[(code >> (4 * digit) & 0xF) as usize]);
        }
        end
    }

    fn write_literal(&mut self, text: &[u8], outer_indent: usize) {
        self.write_indicator(b"|", true, false, false);
        if let Some(hint) = self.indent_hint(text, outer_indent) {
            self.write_indicator(&[hint], false, false, false);
        }
        let chomping = chomping_hint(text);
        if let Some(hint) = chomping {
            self.write_indicator(&[hint], false, false, false);
        }
        self.write_line_comment(true);
        self.whitespace = true;
        let mut breaks = true;
        let mut at = 0;
        while at < text.len() {
            if chars::is_break(text, at) {
                at = self.copy_break(text, at);
                breaks = true;
            } else {
                if breaks {
                    self.write_indent();
                }
                at = self.copy(text, at);
                self.indention = false;
                breaks = false;
            }
        }
        if chomping == Some(b'+') {
            self.open_end = Some(self.out.len());
        }
    }

    /// The digit that a text needs whose first line does not show its indentation.
    ///
    /// go-yaml always writes the best indent there, which is wrong inside lists, and nothing before
    /// a tab, which does not read back: sops loses such values. This digit is the true difference;
    /// for breaks alone, which any digit reads back, it is go-yaml's.
    fn indent_hint(&self, text: &[u8], outer_indent: usize) -> Option<u8> {
        let starts_blank = chars::is_blank(text[0]) || chars::is_break(text, 0);
        if !starts_blank {
            return None;
        }
        let mut at = 0;
        while at < text.len() && chars::is_break(text, at) {
            at += chars::width(text[at]);
        }
        let indent =
            if at == text.len() { self.best_indent } else { self.indent.unwrap_or(0) - outer_indent };
        u8::try_from(indent).ok().map(|indent| b'0' + indent)
    }
}

/// `-` without a break at the end, `+` for more than one or nothing else.
fn chomping_hint(text: &[u8]) -> Option<u8> {
    let before_last = |end: usize| {
        let mut at = end.checked_sub(1)?;
        while at > 0 && text[at] & 0xC0 == 0x80 {
            at -= 1;
        }
        Some(at)
    };
    let last = before_last(text.len())?;
    if !chars::is_break(text, last) {
        return Some(b'-');
    }
    match before_last(last) {
        None => Some(b'+'),
        Some(at) => chars::is_break(text, at).then_some(b'+'),
    }
}

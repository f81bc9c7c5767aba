//! What a scalar is: go-yaml's own mix of YAML 1.1 and 1.2.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::node::Tag;
use super::number;
use super::timestamp;
use crate::sops::time::Time;
use crate::sops::tree::Value;

/// A scalar that is not, or not known to be, a string.
enum Plain {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Time(Time),
    Str,
}

/// The value of a scalar with this text and tag; none where the text is not what the tag says.
pub(super) fn value(text: &[u8], tag: Tag) -> Option<Value> {
    let string = || Value::Str(text.to_vec().into());
    let plain = match tag {
        Tag::Str | Tag::Merge | Tag::Unknown => return Some(string()),
        Tag::Binary => return binary(text),
        _ => plain(text, matches!(tag, Tag::None | Tag::Timestamp)),
    };
    match (tag, plain) {
        (Tag::None, Plain::Str) => Some(string()),
        (Tag::None | Tag::Null, Plain::Null) => Some(Value::Null),
        (Tag::None | Tag::Bool, Plain::Bool(value)) => Some(Value::Bool(value)),
        (Tag::None | Tag::Int, Plain::Int(value)) => Some(Value::Int(value)),
        (Tag::None | Tag::Int, Plain::Uint(value)) => Some(Value::Uint(value)),
        (Tag::None | Tag::Float, Plain::Float(value)) => Some(Value::Float(value)),
        (Tag::Float, Plain::Int(value)) => Some(Value::Float(number::int_to_float(value))),
        (Tag::None | Tag::Timestamp, Plain::Time(value)) => Some(Value::Time(value)),
        _ => None,
    }
}

/// Whether the value of a scalar is its text as it stands.
pub(super) fn is_text(text: &[u8], tag: Tag) -> bool {
    match tag {
        Tag::Str | Tag::Merge | Tag::Unknown => true,
        Tag::None => is_string(text),
        _ => false,
    }
}

/// Whether a plain scalar with this text is read as a string.
pub(super) fn is_string(text: &[u8]) -> bool {
    matches!(plain(text, true), Plain::Str)
}

fn plain(text: &[u8], times: bool) -> Plain {
    let Some(&first) = text.first() else {
        return Plain::Null;
    };
    // Text that starts otherwise is always a string.
    if !matches!(first, b'+' | b'-' | b'.' | b'~' | b'0'..=b'9') && !b"yYnNtTfFoO".contains(&first) {
        return Plain::Str;
    }
    match text {
        b"true" | b"True" | b"TRUE" => return Plain::Bool(true),
        b"false" | b"False" | b"FALSE" => return Plain::Bool(false),
        b"~" | b"null" | b"Null" | b"NULL" => return Plain::Null,
        b".nan" | b".NaN" | b".NAN" => return Plain::Float(f64::NAN),
        b".inf" | b".Inf" | b".INF" | b"+.inf" | b"+.Inf" | b"+.INF" => return Plain::Float(f64::INFINITY),
        b"-.inf" | b"-.Inf" | b"-.INF" => return Plain::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let Ok(text) = std::str::from_utf8(text) else {
        return Plain::Str;
    };
    match first {
        b'.' => number::dotted_float(text).map_or(Plain::Str, Plain::Float),
        b'+' | b'-' | b'0'..=b'9' => {
            if let Some(time) = times.then(|| timestamp::parse(text)).flatten() {
                return Plain::Time(time);
            }
            numeric(text)
        }
        _ => Plain::Str,
    }
}

fn numeric(text: &str) -> Plain {
    // No number is longer but for its zeros; a long text of digits is not worth a copy for each try.
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_')) {
        return Plain::Str;
    }
    let digits = Zeroizing::new(text.replace('_', ""));
    if let Some(int) = number::int(&digits) {
        return Plain::Int(int);
    }
    if let Some(uint) = number::uint(&digits) {
        return Plain::Uint(uint);
    }
    if let Some(float) = number::float(&digits) {
        return Plain::Float(float);
    }
    // go-yaml allows a sign after these prefixes.
    for (prefix, radix) in [("0b", 2), ("0o", 8)] {
        if let Some(rest) = digits.strip_prefix(prefix) {
            return number::signed(rest, radix)
                .map(Plain::Int)
                .or_else(|| number::unsigned(rest, radix).map(Plain::Uint))
                .unwrap_or(Plain::Str);
        }
    }
    Plain::Str
}

/// Standard base64 with padding; breaks do not count.
fn binary(text: &[u8]) -> Option<Value> {
    let packed: Zeroizing<Vec<u8>> =
        Zeroizing::new(text.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect());
    STANDARD.decode(&*packed).ok().map(|bytes| Value::Str(bytes.into()))
}

//! A leaf's bytes: what is encrypted and what the MAC covers, and the way back from them.

use std::ops::Deref;

use zeroize::Zeroizing;

use super::error::ValueError;
use super::float;
use super::text::Text;
use super::time::Time;
use super::token::Kind;
use super::tree::{Comment, Value};

/// The bytes of a leaf: borrowed if possible, else in memory that is wiped.
pub enum Bytes<'a> {
    /// A string's own bytes.
    Borrowed(&'a [u8]),
    /// A number, boolean or time spelled out.
    Owned(Zeroizing<Vec<u8>>),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// The bytes of a leaf; `None` for null, mappings, lists and integers that sops has no type for.
#[must_use]
pub fn to_bytes(value: &Value) -> Option<Bytes<'_>> {
    let spelled = |text: String| Some(Bytes::Owned(Zeroizing::new(text.into_bytes())));
    match value {
        Value::Str(text) | Value::Bytes(text) => Some(Bytes::Borrowed(text.as_bytes())),
        Value::Comment(comment) => Some(Bytes::Borrowed(comment.text.as_bytes())),
        Value::Bool(true) => Some(Bytes::Borrowed(b"True")),
        Value::Bool(false) => Some(Bytes::Borrowed(b"False")),
        Value::Int(number) => spelled(number.to_string()),
        Value::Float(number) => spelled(float::fixed(*number)),
        Value::Time(time) => spelled(time.to_string()),
        Value::Null | Value::Uint(_) | Value::Map(_) | Value::List(_) => None,
    }
}

/// Whether a leaf that was read back is the one that was written. A `-0` reads back as the integer 0; it is in
/// clear only where the MAC does not cover it.
#[must_use]
pub fn reads_back(meant: &Value, found: &Value) -> bool {
    match (meant, found) {
        (Value::Float(meant), Value::Int(0)) => *meant == 0.0,
        _ => match (to_bytes(meant), to_bytes(found)) {
            (Some(meant), Some(found)) => *meant == *found,
            _ => false,
        },
    }
}

/// The type that a leaf is encrypted as. Legacy bytes become a string, as in sops.
#[must_use]
pub fn kind(value: &Value) -> Option<Kind> {
    match value {
        Value::Str(_) | Value::Bytes(_) => Some(Kind::Str),
        Value::Comment(_) => Some(Kind::Comment),
        Value::Bool(_) => Some(Kind::Bool),
        Value::Int(_) => Some(Kind::Int),
        Value::Float(_) => Some(Kind::Float),
        Value::Time(_) => Some(Kind::Time),
        Value::Null | Value::Uint(_) | Value::Map(_) | Value::List(_) => None,
    }
}

/// What a value is, for messages.
#[must_use]
pub fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Int(_) | Value::Uint(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Str(_) => "a string",
        Value::Time(_) => "a time",
        Value::Bytes(_) => "bytes",
        Value::Map(_) => "a mapping",
        Value::List(_) => "a list",
        Value::Comment(_) => "a comment",
    }
}

/// The value that a decrypted token stands for.
///
/// # Errors
/// Bytes that are not of that type.
pub fn from_bytes(kind: Kind, bytes: Zeroizing<Vec<u8>>) -> Result<Value, ValueError> {
    // The buffer moves into the text, which wipes it.
    let text = |mut bytes: Zeroizing<Vec<u8>>| Text::from(std::mem::take(&mut *bytes));
    match kind {
        Kind::Str => return Ok(Value::Str(text(bytes))),
        Kind::Bytes => return Ok(Value::Bytes(text(bytes))),
        Kind::Comment => return Ok(Value::Comment(Comment { text: text(bytes), inline: false })),
        Kind::Int | Kind::Float | Kind::Bool | Kind::Time => {}
    }
    let wrong = ValueError::NotOfType(kind.name());
    let spelled = std::str::from_utf8(&bytes).map_err(|_| wrong)?;
    let value = match kind {
        Kind::Int => spelled.parse().ok().map(Value::Int),
        Kind::Float => parse_float(spelled).map(Value::Float),
        Kind::Bool => parse_bool(spelled).map(Value::Bool),
        _ => Time::parse_rfc3339(spelled).map(Value::Time),
    };
    value.ok_or(wrong)
}

/// The spellings of Go's `ParseBool`.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Decimal floats and the names of infinity and NaN; digits beyond the range of a float are refused.
fn parse_float(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    (number.is_finite() || !digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: &Value) -> String {
        String::from_utf8(to_bytes(value).expect("a leaf").to_vec()).expect("text")
    }

    fn read(kind: Kind, text: &str) -> Result<Value, ValueError> {
        from_bytes(kind, Zeroizing::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn leaves_are_spelled_as_sops_spells_them() {
        assert_eq!(bytes(&Value::Bool(true)), "True");
        assert_eq!(bytes(&Value::Int(i64::MIN)), "-9223372036854775808");
        let time = Time::parse_rfc3339("2020-01-01T00:00:00.500+02:00").expect("a time");
        assert_eq!(bytes(&Value::Time(time)), "2020-01-01T00:00:00.5+02:00");
        assert!(to_bytes(&Value::Null).is_none());
        assert!(to_bytes(&Value::Uint(u64::MAX)).is_none());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let time = Time::parse_rfc3339("2020-01-01T00:00:00.5Z").expect("a time");
        for value in [
            Value::str("a\0b"),
            Value::Int(-5),
            Value::Float(1e-7),
            Value::Float(f64::NEG_INFINITY),
            Value::Bool(false),
            Value::Time(time),
            Value::Comment(Comment::line(" c")),
        ] {
            let kind = kind(&value).expect("a leaf");
            assert_eq!(read(kind, &bytes(&value)), Ok(value));
        }
        assert_eq!(read(Kind::Bytes, "raw"), Ok(Value::Bytes("raw".into())));
    }

    #[test]
    fn go_s_spellings_of_booleans_and_integers_are_read() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(read(Kind::Bool, text), Ok(Value::Bool(true)));
        }
        assert_eq!(read(Kind::Int, "+012"), Ok(Value::Int(12)));
    }

    #[test]
    fn bytes_of_another_type_are_refused() {
        for (kind, text) in [
            (Kind::Bool, "yes"),
            (Kind::Int, "1.0"),
            (Kind::Int, "9223372036854775808"),
            (Kind::Float, "1e400"),
            (Kind::Float, "x"),
            (Kind::Time, "2020-01-01"),
        ] {
            assert_eq!(read(kind, text), Err(ValueError::NotOfType(kind.name())), "{text}");
        }
    }
}

//! Numbers as Go's `strconv` reads and writes them.

/// An integer with Go's prefixes: `0x`, `0o`, `0b`, and a leading zero for octal.
pub(super) fn int(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = uint(digits)?;
    if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// As [`int`], without a sign.
pub(super) fn uint(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    match bytes {
        [b'0', b'x' | b'X', _, ..] => unsigned(&text[2..], 16),
        [b'0', b'b' | b'B', _, ..] => unsigned(&text[2..], 2),
        [b'0', b'o' | b'O', _, ..] => unsigned(&text[2..], 8),
        [b'0', _, ..] => unsigned(&text[1..], 8),
        _ => unsigned(text, 10),
    }
}

/// Digits of a base, with a sign.
pub(super) fn signed(text: &str, radix: u32) -> Option<i64> {
    i64::from_str_radix(text, radix).ok()
}

/// Digits of a base, without a sign.
pub(super) fn unsigned(text: &str, radix: u32) -> Option<u64> {
    if !text.as_bytes().first()?.is_ascii_alphanumeric() {
        return None;
    }
    u64::from_str_radix(text, radix).ok()
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?` within the range of a double.
pub(super) fn float(text: &str) -> Option<f64> {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let any_digit = if whole.is_empty() { !fraction.is_empty() } else { true };
    if !any_digit
        || !all_digits(whole)
        || !all_digits(fraction)
        || exponent.is_some_and(|text| !is_exponent(text))
    {
        return None;
    }
    finite(text)
}

/// A float that starts with a dot, in Go's syntax: underscores may be between digits.
pub(super) fn dotted_float(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let around = |at: usize| {
        let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
        digit(at.checked_sub(1).and_then(|before| bytes.get(before))) && digit(bytes.get(at + 1))
    };
    if bytes.iter().enumerate().any(|(at, &byte)| byte == b'_' && !around(at)) {
        return None;
    }
    float(&text.replace('_', ""))
}

/// The nearest float, as Go converts.
#[expect(clippy::cast_precision_loss, reason = "the nearest float is what is asked for")]
pub(super) fn int_to_float(value: i64) -> f64 {
    value as f64
}

/// The shortest digits that read back as the same float; with an exponent when it is below -4 or
/// from 6 on (Go's `FormatFloat` with `'g', -1`), in YAML's spelling of what is not a number.
pub(super) fn format_float(value: f64) -> String {
    if value.is_nan() {
        return ".nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    crate::sops::float::general(value, -4..6, 2)
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_exponent(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && all_digits(digits)
}

/// Go refuses what rounds to infinity.
fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_the_prefixes_of_go() {
        for (text, expected) in [
            ("12", Some(12)),
            ("012", Some(10)),
            ("0o14", Some(12)),
            ("0O14", Some(12)),
            ("0b101", Some(5)),
            ("0x1F", Some(31)),
            ("-0x10", Some(-16)),
            ("+1", Some(1)),
            ("-0", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("08", None),
            ("0x", None),
            ("--1", None),
            ("+-1", None),
            ("1.", None),
            ("", None),
        ] {
            assert_eq!(int(text), expected, "{text}");
        }
        assert_eq!(uint("18446744073709551615"), Some(u64::MAX));
        assert_eq!(uint("+5"), None);
    }

    #[test]
    fn floats_need_a_digit_and_a_finite_value() {
        for (text, expected) in [
            ("1.", Some(1.0)),
            (".5", Some(0.5)),
            ("1e3", Some(1000.0)),
            ("-1E-2", Some(-0.01)),
            ("08", Some(8.0)),
            ("18446744073709551616", Some(18_446_744_073_709_551_616.0)),
            ("1e400", None),
            ("e3", None),
            (".", None),
            ("-.", None),
            ("1e", None),
            ("1.5.2", None),
            ("0x1p4", None),
            ("1e-400", Some(0.0)),
        ] {
            assert_eq!(float(text), expected, "{text}");
        }
        assert_eq!(dotted_float(".7_7"), Some(0.77));
        assert_eq!(dotted_float("._7"), None);
        assert_eq!(dotted_float(".7_"), None);
        assert_eq!(dotted_float(".7e1_0"), Some(7_000_000_000.0));
    }

    #[test]
    fn floats_are_written_shortest_with_an_exponent_from_six_on() {
        for (value, expected) in [
            (1.0, "1"),
            (1.5, "1.5"),
            (-0.0, "-0"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (0.0001, "0.0001"),
            (0.000_012_34, "1.234e-05"),
            (1e100, "1e+100"),
            (5e-324, "5e-324"),
            (123_456.789, "123456.789"),
            (f64::INFINITY, ".inf"),
            (f64::NEG_INFINITY, "-.inf"),
            (f64::NAN, ".nan"),
        ] {
            assert_eq!(format_float(value), expected);
        }
    }
}

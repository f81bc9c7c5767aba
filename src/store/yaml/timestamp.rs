//! Times, in the four forms that go-yaml knows.

use crate::sops::time::Time;

/// Year of four digits, month and day of one or two; then nothing, or a time of day after `T` or
/// `t` with a zone, or after spaces without one. Digits beyond the nanosecond are cut off.
pub(super) fn parse(text: &str) -> Option<Time> {
    let bytes = text.as_bytes();
    // The quick way out for most that starts with a digit.
    if bytes.len() < 8 || bytes[4] != b'-' || !bytes[..4].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut rest = Rest(&bytes[4..]);
    let year = text[..4].parse().ok()?;
    rest.literal(b'-')?;
    let month = rest.number()?;
    rest.literal(b'-')?;
    let day = rest.number()?;
    let mut time = Time { year, month, day, hour: 0, minute: 0, second: 0, nanosecond: 0, offset_minutes: 0 };
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    if rest.0.is_empty() {
        return Some(time);
    }
    let zoned = match rest.0.first()? {
        b'T' | b't' => {
            rest.0 = &rest.0[1..];
            true
        }
        b' ' => {
            while let [b' ', behind @ ..] = rest.0 {
                rest.0 = behind;
            }
            false
        }
        _ => return None,
    };
    time.hour = rest.number().filter(|&hour| hour < 24)?;
    rest.literal(b':')?;
    time.minute = rest.number().filter(|&minute| minute < 60)?;
    rest.literal(b':')?;
    time.second = rest.number().filter(|&second| second < 60)?;
    time.nanosecond = rest.fraction();
    if zoned {
        time.offset_minutes = rest.zone()?;
    }
    rest.0.is_empty().then_some(time)
}

fn days_in(year: u16, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn literal(&mut self, byte: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    /// One or two digits.
    fn number(&mut self) -> Option<u8> {
        let first = self.digit()?;
        Some(match self.digit() {
            Some(second) => first * 10 + second,
            None => first,
        })
    }

    fn digit(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first().filter(|(byte, _)| byte.is_ascii_digit())?;
        self.0 = rest;
        Some(byte - b'0')
    }

    /// A dot or comma and digits, or nothing: nanoseconds.
    fn fraction(&mut self) -> u32 {
        let [b'.' | b',', b'0'..=b'9', ..] = self.0 else {
            return 0;
        };
        self.0 = &self.0[1..];
        let mut nanoseconds = 0;
        let mut scale = 100_000_000;
        while let Some(digit) = self.digit() {
            nanoseconds += u32::from(digit) * scale;
            scale /= 10;
        }
        nanoseconds
    }

    /// `Z`, or hours and minutes of two digits each. Go lets 24 hours and 60 minutes pass.
    fn zone(&mut self) -> Option<i16> {
        if self.literal(b'Z').is_some() {
            return Some(0);
        }
        let &[sign, h1, h2, b':', m1, m2, ref rest @ ..] = self.0 else {
            return None;
        };
        let two = |tens: u8, ones: u8| {
            (tens.is_ascii_digit() && ones.is_ascii_digit())
                .then(|| i16::from(tens - b'0') * 10 + i16::from(ones - b'0'))
        };
        let hours = two(h1, h2).filter(|&hours| hours <= 24)?;
        let minutes = two(m1, m2).filter(|&minutes| minutes <= 60)?;
        self.0 = rest;
        match sign {
            b'+' => Some(hours * 60 + minutes),
            b'-' => Some(-(hours * 60 + minutes)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_forms_are_times() {
        for (text, expected) in [
            ("2020-1-1", "2020-01-01T00:00:00Z"),
            ("2020-02-29", "2020-02-29T00:00:00Z"),
            ("2001-12-14t21:59:43.10-05:00", "2001-12-14T21:59:43.1-05:00"),
            ("2001-12-14T1:2:3Z", "2001-12-14T01:02:03Z"),
            ("2001-12-14 21:59:43.10", "2001-12-14T21:59:43.1Z"),
            ("2001-12-14   21:59:43", "2001-12-14T21:59:43Z"),
            ("2001-12-14T21:59:43,5Z", "2001-12-14T21:59:43.5Z"),
            ("2001-12-14T21:59:43.1234567899Z", "2001-12-14T21:59:43.123456789Z"),
            ("0000-01-01", "0000-01-01T00:00:00Z"),
            ("2001-12-14T21:59:43+00:00", "2001-12-14T21:59:43Z"),
        ] {
            assert_eq!(parse(text).map(|time| time.to_string()).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_time_is_none() {
        for text in [
            "2001-12-14 21:59",
            "2001-12-14 21:59:43Z",
            "2001-12-14T21:59:43",
            "2001-12-14T24:00:00Z",
            "2001-12-14T21:59:60Z",
            "2021-02-29",
            "2020-13-01",
            "2020-00-01",
            "2020-1-00",
            "2020-1-1x",
            "20201-1-1",
            "2001-12-14T21:59:43z",
            "2001-12-14T21:59:43+0500",
            "2001-12-14T21:59:43.Z",
            "2001-12-",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

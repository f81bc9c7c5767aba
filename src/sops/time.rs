//! Times with their offset, in the forms that Go's `time` package reads and writes.

use std::fmt;

/// A civil time with its offset from UTC, kept as written: two values that mean the same instant at
/// different offsets are different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Time {
    /// 0 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31, valid for the month.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 to 999,999,999.
    pub nanosecond: u32,
    /// Minutes east of UTC.
    pub offset_minutes: i16,
}

impl Time {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self {
        year: 1970,
        month: 1,
        day: 1,
        hour: 0,
        minute: 0,
        second: 0,
        nanosecond: 0,
        offset_minutes: 0,
    };

    /// The UTC time of a number of seconds since 1970; `None` before the year 0 and after 9999.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Option<Self> {
        let civil = jiff::Timestamp::from_second(seconds).ok()?.to_zoned(jiff::tz::TimeZone::UTC);
        Some(Self {
            year: u16::try_from(civil.year()).ok()?,
            month: u8::try_from(civil.month()).ok()?,
            day: u8::try_from(civil.day()).ok()?,
            hour: u8::try_from(civil.hour()).ok()?,
            minute: u8::try_from(civil.minute()).ok()?,
            second: u8::try_from(civil.second()).ok()?,
            nanosecond: 0,
            offset_minutes: 0,
        })
    }

    /// Reads RFC 3339 as Go's `time.Parse(time.RFC3339, …)` does: a fraction of any length may follow
    /// the seconds (digits after the ninth are cut off), after a point or a comma, and the hour may
    /// have one digit. `None` for anything else, a day that the month does not have included.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let mut rest = text.as_bytes();
        let year = digits(&mut rest, 4, 4)?;
        literal(&mut rest, b'-')?;
        let month = digits(&mut rest, 2, 2)?;
        literal(&mut rest, b'-')?;
        let day = digits(&mut rest, 2, 2)?;
        literal(&mut rest, b'T')?;
        let hour = digits(&mut rest, 1, 2)?;
        literal(&mut rest, b':')?;
        let minute = digits(&mut rest, 2, 2)?;
        literal(&mut rest, b':')?;
        let second = digits(&mut rest, 2, 2)?;
        let nanosecond = fraction(&mut rest)?;
        let offset_minutes = offset(&mut rest)?;
        let year = u16::try_from(year).ok()?;
        let month = u8::try_from(month).ok()?;
        let valid = rest.is_empty()
            && (1..=12).contains(&month)
            && (1..=u32::from(days_in_month(year, month))).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        valid.then_some(Self {
            year,
            month,
            day: u8::try_from(day).ok()?,
            hour: u8::try_from(hour).ok()?,
            minute: u8::try_from(minute).ok()?,
            second: u8::try_from(second).ok()?,
            nanosecond,
            offset_minutes,
        })
    }

    /// The same without a fraction of a second: the form that authenticates a MAC.
    #[must_use]
    pub fn whole_second(self) -> Self {
        Self { nanosecond: 0, ..self }
    }
}

/// How many days a month has; 0 for a month that does not exist.
#[must_use]
pub fn days_in_month(year: u16, month: u8) -> u8 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    }
}

fn literal(rest: &mut &[u8], byte: u8) -> Option<()> {
    *rest = rest.strip_prefix(&[byte])?;
    Some(())
}

fn digits(rest: &mut &[u8], least: usize, most: usize) -> Option<u32> {
    let count = rest.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
    if count < least {
        return None;
    }
    let (head, tail) = rest.split_at(count);
    *rest = tail;
    std::str::from_utf8(head).ok()?.parse().ok()
}

/// Nanoseconds of `.123` or `,123`; 0 where there is no fraction.
fn fraction(rest: &mut &[u8]) -> Option<u32> {
    let Some(tail) = rest.strip_prefix(b".").or_else(|| rest.strip_prefix(b",")) else {
        return Some(0);
    };
    let count = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let (head, tail) = tail.split_at(count);
    *rest = tail;
    let nine = (0..9).map(|index| head.get(index).map_or(0, |digit| u32::from(digit - b'0')));
    Some(nine.fold(0, |sum, digit| sum * 10 + digit))
}

/// `Z`, `+hh:mm` or `-hh:mm`, in the range that Go accepts.
fn offset(rest: &mut &[u8]) -> Option<i16> {
    if literal(rest, b'Z').is_some() {
        return Some(0);
    }
    let (&sign, tail) = rest.split_first()?;
    *rest = tail;
    let hours = i16::try_from(digits(rest, 2, 2)?).ok()?;
    literal(rest, b':')?;
    let minutes = i16::try_from(digits(rest, 2, 2)?).ok()?;
    if hours > 24 || minutes > 60 {
        return None;
    }
    match sign {
        b'+' => Some(hours * 60 + minutes),
        b'-' => Some(-(hours * 60 + minutes)),
        _ => None,
    }
}

/// RFC 3339 with nanoseconds, trailing zeros trimmed (Go's `RFC3339Nano`).
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second, nanosecond, offset_minutes } = *self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if nanosecond != 0 {
            let digits = format!("{nanosecond:09}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        if offset_minutes == 0 {
            return f.write_str("Z");
        }
        let sign = if offset_minutes < 0 { '-' } else { '+' };
        let minutes = offset_minutes.unsigned_abs();
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> Option<String> {
        Time::parse_rfc3339(text).map(|time| time.to_string())
    }

    #[test]
    fn what_sops_writes_is_read_and_written_back() {
        for text in ["2026-11-23T08:42:00Z", "2026-01-01T00:00:00+02:00", "1999-12-31T23:59:59.5-05:30"] {
            assert_eq!(round(text).as_deref(), Some(text));
        }
    }

    #[test]
    fn go_s_lenient_forms_are_read() {
        assert_eq!(round("2026-01-02T3:04:05Z").as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(round("2026-01-02T03:04:05,250Z").as_deref(), Some("2026-01-02T03:04:05.25Z"));
        assert_eq!(
            round("2026-01-02T03:04:05.1234567899Z").as_deref(),
            Some("2026-01-02T03:04:05.123456789Z")
        );
        assert_eq!(round("2026-01-02T03:04:05+00:00").as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(round("2024-02-29T00:00:00Z").as_deref(), Some("2024-02-29T00:00:00Z"));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-01-02",
            "2026-01-02 03:04:05Z",
            "2026-01-02t03:04:05z",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-01-02T24:00:00Z",
            "2026-01-02T23:59:60Z",
            "2026-01-02T23:59:59.Z",
            "2026-01-02T23:59:59+25:00",
            "2026-01-02T23:59:59Zx",
        ] {
            assert_eq!(round(text), None, "{text}");
        }
    }

    #[test]
    fn unix_seconds_become_utc() {
        assert_eq!(
            Time::from_unix(1_795_423_307).map(|time| time.to_string()).as_deref(),
            Some("2026-11-23T08:41:47Z")
        );
        assert_eq!(Time::from_unix(i64::MAX), None);
    }
}

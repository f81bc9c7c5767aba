//! Floats in Go's decimal form.
//!
//! Both Go and Rust print the fewest digits that read back as the same float. Where two such decimals
//! are equally near, as 0.25 is to 0.2 and 0.3, Go takes the even digit and Rust does not, which would
//! change a MAC.

use std::ops::Range;

/// A finite float as decimal digits: `0.d₁d₂d₃… × 10^point`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// Whether there is a minus in front.
    pub negative: bool,
    /// The digits, without zeros at either end; a lone `0` for zero.
    pub digits: String,
    /// The position of the decimal point: after this many digits.
    pub point: i32,
}

/// The fewest digits that read back, chosen as Go's `FormatFloat` does; `None` for infinity and NaN.
#[must_use]
pub fn shortest(number: f64) -> Option<Decimal> {
    if !number.is_finite() {
        return None;
    }
    let positive = number.abs();
    let short = format!("{positive:e}");
    let places = short.split('e').next().map_or(0, |digits| digits.len().saturating_sub(2));
    // Rust rounds to a given number of digits exactly, and ties to the even digit.
    let rounded = format!("{positive:.places$e}");
    let text = if rounded.parse() == Ok(positive) { rounded } else { short };
    let (digits, exponent) = text.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
    Some(Decimal { negative: number.is_sign_negative(), digits, point: exponent + 1 })
}

/// The form of Go's `FormatFloat(number, 'f', -1, 64)`: no exponent, and `NaN`, `+Inf`, `-Inf`.
#[must_use]
pub fn fixed(number: f64) -> String {
    let Some(Decimal { negative, digits, point }) = shortest(number) else {
        let name = if number.is_nan() { "NaN" } else { ["+Inf", "-Inf"][usize::from(number < 0.0)] };
        return name.to_owned();
    };
    let sign = if negative { "-" } else { "" };
    let length = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    if point <= 0 && digits != "0" {
        format!("{sign}0.{}{digits}", zeros(-point))
    } else if point >= length {
        format!("{sign}{digits}{}", zeros(point - length))
    } else {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        format!("{sign}{whole}.{fraction}")
    }
}

/// The decimal form where the exponent is in `plain`, else the scientific one with an exponent of at least
/// `places` digits. Go's `'g'` is -4 to 21 (YAML takes 6) and 2, its JSON -6 to 21 and 1.
#[must_use]
pub fn general(number: f64, plain: Range<i32>, places: usize) -> String {
    let Some(Decimal { negative, digits, point }) = shortest(number) else { return fixed(number) };
    let exponent = if digits == "0" { 0 } else { point - 1 };
    if plain.contains(&exponent) {
        return fixed(number);
    }
    let (first, rest) = digits.split_at(1);
    let dot = if rest.is_empty() { "" } else { "." };
    let minus = if negative { "-" } else { "" };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{minus}{first}{dot}{rest}e{sign}{:0places$}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn general_has_an_exponent_beyond_its_bounds() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (0.0001, "0.0001"),
            (0.000_012_34, "1.234e-05"),
            (1e100, "1e+100"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(general(number, -4..6, 2), text);
        }
        let tie: f64 = "-1769433432047231.25".parse().expect("a float");
        assert_eq!(general(tie, -4..6, 2), "-1.7694334320472312e+15");
    }

    #[test]
    fn floats_never_have_an_exponent() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1e20, "100000000000000000000"),
            (1.5, "1.5"),
            (-1.0, "-1"),
            (120.0, "120"),
            (1e-7, "0.0000001"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(fixed(number), text);
        }
        assert_eq!(fixed(f64::MAX).len(), 309);
        assert!(fixed(5e-324).ends_with("0005"));
    }

    #[test]
    fn of_two_equally_near_decimals_the_even_one_is_taken() {
        // What Go prints for them.
        for (number, text) in [
            ("1671783317508445.25", "1671783317508445.2"),
            ("1714427518223616.25", "1714427518223616.2"),
            ("-1519806271262791.25", "-1519806271262791.2"),
            ("1671783317508445.75", "1671783317508445.8"),
        ] {
            let number: f64 = number.parse().expect("a float");
            assert_eq!(fixed(number), text);
            assert_eq!(text.parse(), Ok(number));
        }
    }

    #[test]
    fn digits_and_point_are_apart() {
        let decimal = shortest(-1234.5).expect("finite");
        assert_eq!(decimal, Decimal { negative: true, digits: "12345".to_owned(), point: 4 });
        assert_eq!(shortest(0.001).map(|decimal| decimal.point), Some(-2));
        assert_eq!(shortest(f64::NAN), None);
    }
}

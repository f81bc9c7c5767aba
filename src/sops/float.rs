//! Floats as Go's `strconv` spells them.
//!
//! Both Go and Rust print the fewest digits that read back as the same float. Where two such numbers are
//! equally near Go takes the even one, and Rust's own formatting the greater one; ryu takes Go's.

/// The shortest digits of a finite float.
struct Shortest {
    negative: bool,
    /// Without leading or trailing zeros; `0` for zero.
    digits: String,
    /// Of ten, for the first digit.
    exponent: i32,
}

fn shortest(number: f64) -> Shortest {
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(number);
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    if digits.is_empty() {
        return Shortest { negative, digits: "0".to_owned(), exponent: 0 };
    }
    let point = i32::try_from(whole.len()).unwrap_or(i32::MAX);
    let leading = i32::try_from(all.len() - digits.len()).unwrap_or(0);
    let digits = digits.trim_end_matches('0').to_owned();
    Shortest { negative, digits, exponent: exponent + point - 1 - leading }
}

/// A finite float without an exponent, however long that gets (Go's format `f`).
#[must_use]
pub fn fixed(number: f64) -> String {
    let Shortest { negative, digits, exponent } = shortest(number);
    let mut text = String::from(if negative { "-" } else { "" });
    let Ok(before) = usize::try_from(exponent + 1) else {
        text.push_str("0.");
        text.extend(std::iter::repeat_n('0', usize::try_from(-exponent - 1).unwrap_or(0)));
        text.push_str(&digits);
        return text;
    };
    if before == 0 {
        text.push_str("0.");
        text.push_str(&digits);
    } else if digits.len() <= before {
        text.push_str(&digits);
        text.extend(std::iter::repeat_n('0', before - digits.len()));
    } else {
        let (whole, fraction) = digits.split_at(before);
        text.push_str(&format!("{whole}.{fraction}"));
    }
    text
}

/// A finite float, with an exponent of at least two digits when that is below -4 or at least `from` (Go's
/// format `g`, whose own bound is 21, and which YAML lowers to 6).
#[must_use]
pub fn general(number: f64, from: i32) -> String {
    let Shortest { negative, digits, exponent } = shortest(number);
    if (-4..from).contains(&exponent) {
        return fixed(number);
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let minus = if negative { "-" } else { "" };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{minus}{first}{point}{rest}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_even_digit_as_in_go() {
        assert_eq!(fixed(-1_769_433_432_047_231.25), "-1769433432047231.2");
        assert_eq!(general(-1_769_433_432_047_231.25, 6), "-1.7694334320472312e+15");
    }

    #[test]
    fn fixed_never_has_an_exponent() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (1.5, "1.5"),
            (100.0, "100"),
            (1e20, "100000000000000000000"),
            (0.1, "0.1"),
            (0.012, "0.012"),
            (1e-7, "0.0000001"),
            (123.456, "123.456"),
            (-2.5e-3, "-0.0025"),
        ] {
            assert_eq!(fixed(number), text);
        }
        assert_eq!(fixed(5e-324).len(), 326);
    }

    #[test]
    fn general_has_one_beyond_its_bounds() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (0.0001, "0.0001"),
            (0.000_012_34, "1.234e-05"),
            (1e100, "1e+100"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(general(number, 6), text);
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        for bits in (0..u64::MAX).step_by(0x0007_3a5c_19f3_7b11) {
            let number = f64::from_bits(bits);
            if number.is_finite() {
                assert_eq!(fixed(number).parse::<f64>().unwrap().to_bits(), bits);
                assert_eq!(general(number, 6).parse::<f64>().unwrap().to_bits(), bits);
            }
        }
    }
}

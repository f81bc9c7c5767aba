//! Words as Go's library puts them.

use std::io;

/// Why the system refused: lower case, without a number.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// A text in quotes, as `%q` shows it: whatever does not print is escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hide_what_would_steer_a_terminal() {
        assert_eq!(quoted("a \"b\" \\ ü"), r#""a \"b\" \\ ü""#);
        assert_eq!(quoted("a\n\t\r\u{1b}[1m\u{9b}"), r#""a\n\t\r\x1b[1m\u009b""#);
    }

    #[test]
    fn the_system_s_reasons_are_in_lower_case_and_without_a_number() {
        assert_eq!(reason(&io::Error::from_raw_os_error(2)), "no such file or directory");
    }
}

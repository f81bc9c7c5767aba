//! Which styles a text can be written in.

use crate::store::yaml::chars;

/// What the characters of a text allow.
#[derive(Clone, Copy)]
pub(super) struct Allowed {
    pub(super) plain: bool,
    pub(super) single: bool,
    pub(super) block: bool,
    /// Whether there is a break in it.
    pub(super) multiline: bool,
}

impl Allowed {
    /// Looks at a text that is UTF-8.
    pub(super) fn new(text: &[u8]) -> Self {
        if text.is_empty() {
            return Self { plain: true, single: true, block: false, multiline: false };
        }
        let mut indicator = text.starts_with(b"---") || text.starts_with(b"...");
        let (mut breaks, mut special, mut tab) = (false, false, false);
        let (mut break_space, mut space_break) = (false, false);
        let (mut after_space, mut after_break, mut after_white) = (false, false, true);
        let (mut edge_white, mut trailing_space) = (false, false);
        let mut at = 0;
        while at < text.len() {
            let byte = text[at];
            if at > 0 && chars::is_inner(byte) {
                (after_space, after_break, after_white) = (false, false, false);
                at += chars::inner_run(&text[at..]);
                continue;
            }
            let next = at + chars::width(byte);
            let before_white = next >= text.len() || chars::is_blank(text[next]);
            indicator |= match byte {
                b':' => before_white,
                b'?' | b'-' => at == 0 && before_white,
                b'#' => after_white,
                _ => at == 0 && b",[]{}&*!|>'\"%@`".contains(&byte),
            };
            if byte == b'\t' {
                tab = true;
            } else if !chars::is_printable(text, at) {
                special = true;
            }
            let at_edge = at == 0 || next >= text.len();
            let is_break = chars::is_break(text, at);
            if byte == b' ' {
                edge_white |= at_edge;
                trailing_space |= next >= text.len();
                break_space |= after_break;
            } else if is_break {
                breaks = true;
                edge_white |= at_edge;
                space_break |= after_space;
            }
            after_space = byte == b' ';
            after_break = is_break;
            after_white = is_break || chars::is_blank(byte);
            at = next;
        }
        let quotable = !(break_space || space_break || tab || special);
        Self {
            plain: quotable && !edge_white && !breaks && !indicator,
            single: quotable,
            block: !(trailing_space || space_break || special),
            multiline: breaks,
        }
    }
}

/// Text that YAML 1.1 reads as a boolean.
pub(super) fn is_old_bool(text: &[u8]) -> bool {
    matches!(
        text,
        b"y" | b"Y"
            | b"yes"
            | b"Yes"
            | b"YES"
            | b"on"
            | b"On"
            | b"ON"
            | b"n"
            | b"N"
            | b"no"
            | b"No"
            | b"NO"
            | b"off"
            | b"Off"
            | b"OFF"
    )
}

/// Text that YAML 1.1 reads as a number of base 60: `[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?`.
pub(super) fn is_base_60(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    if !text.first().is_some_and(u8::is_ascii_digit) || !text.contains(&b':') {
        return false;
    }
    let is_digit_or_underscore = |byte: &u8| byte.is_ascii_digit() || *byte == b'_';
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[][..]),
    };
    let mut parts = whole.split(|&byte| byte == b':');
    let first = parts.next().unwrap_or_default();
    first.iter().all(is_digit_or_underscore)
        && fraction.iter().all(is_digit_or_underscore)
        && parts.all(|part| match part {
            [digit] => digit.is_ascii_digit(),
            [tens, digit] => (b'0'..=b'5').contains(tens) && digit.is_ascii_digit(),
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_base_60_are_recognised() {
        for text in ["1:20", "-1:20", "+12_3:5:59.5_", "190:20:30.15", "1:2."] {
            assert!(is_base_60(text.as_bytes()), "{text}");
        }
        for text in ["", "1", ":20", "1:", "1:60", "1:200", "1:2:", "a1:2", "_1:2", "1:2.x", "1.5:2", "1:2_"]
        {
            assert!(!is_base_60(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn plain_text_has_neither_indicators_nor_white_space_at_its_ends() {
        for text in ["a", "a b", "a:b", "a#b", "-a", "?a", ":a", "é", "\u{FFFD}", "a-"] {
            assert!(Allowed::new(text.as_bytes()).plain, "{text}");
        }
        for text in [
            " a",
            "a ",
            "a: b",
            "a:",
            "a #b",
            "- a",
            "-",
            "? a",
            ": a",
            "---",
            "...x",
            "#",
            "&a",
            "a\tb",
            "\u{1F600}",
        ] {
            assert!(!Allowed::new(text.as_bytes()).plain, "{text}");
        }
    }
}

//! White space as Go sees it: Unicode's, in bytes that need not be UTF-8.

/// Without the white space at the start.
pub(super) fn trim_start(text: &[u8]) -> &[u8] {
    let valid = text.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    &text[valid.len() - valid.trim_start().len()..]
}

/// Without the white space at the end. Looks at no more of the text than that.
pub(super) fn trim_end(mut text: &[u8]) -> &[u8] {
    while let Some(last) = last_char(text)
        && last.is_whitespace()
    {
        text = &text[..text.len() - last.len_utf8()];
    }
    text
}

/// The last character, where the text ends with one.
fn last_char(text: &[u8]) -> Option<char> {
    let longest = text.len().min(4);
    (1..=longest).find_map(|length| std::str::from_utf8(&text[text.len() - length..]).ok()?.chars().next())
}

/// Without the white space around it.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    trim_end(trim_start(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_unicode_s_and_bytes_that_are_no_text_stay() {
        for (text, trimmed) in [
            ("".as_bytes(), "".as_bytes()),
            (b" \t\r\n\x0b\x0c", b""),
            ("\u{a0}\u{3000}a b\u{2003}\u{85}".as_bytes(), b"a b"),
            (b" \xa0\x85 ", b"\xa0\x85"),
            (b"\xe3\x80 ", b"\xe3\x80"),
            ("\u{feff}\u{200b}".as_bytes(), "\u{feff}\u{200b}".as_bytes()),
        ] {
            assert_eq!(trim(text), trimmed);
        }
    }
}

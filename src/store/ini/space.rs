//! White space as Go sees it: Unicode's, in bytes that need not be UTF-8.

/// Without the white space at the start.
pub(super) fn trim_start(text: &[u8]) -> &[u8] {
    let valid = text.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    &text[valid.len() - valid.trim_start().len()..]
}

/// Without the white space at the end.
pub(super) fn trim_end(text: &[u8]) -> &[u8] {
    match text.utf8_chunks().last() {
        Some(chunk) if chunk.invalid().is_empty() => {
            &text[..text.len() - (chunk.valid().len() - chunk.valid().trim_end().len())]
        }
        _ => text,
    }
}

/// Without the white space around it.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    trim_end(trim_start(text))
}

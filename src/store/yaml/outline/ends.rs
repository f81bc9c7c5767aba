//! How long a scalar is that starts a text.

/// Two quotes are one inside.
pub(super) fn single_quoted(text: &str) -> usize {
    let mut at = 1;
    while let Some(found) = text[at..].find('\'') {
        at += found + 1;
        if !text[at..].starts_with('\'') {
            return at;
        }
        at += 1;
    }
    text.len()
}

pub(super) fn double_quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A plain scalar ends at a comment, or at the space in front of what comes next.
pub(super) fn plain(text: &str) -> usize {
    let comment = |(at, _): &(usize, &str)| text[..*at].ends_with(char::is_whitespace);
    let end = text.match_indices('#').find(comment).map_or(text.len(), |(at, _)| at);
    text[..end].trim_end().len()
}

/// A folded or literal scalar: the lines that are as far in as its first one.
pub(super) fn block(text: &str) -> usize {
    let column = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let (mut end, mut at, mut least) = (text.lines().next().map_or(0, |line| line.trim_end().len()), 0, None);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let content = line.trim_end();
        if number > 0 && !content.is_empty() {
            if column(line) < *least.get_or_insert(column(line)) {
                break;
            }
            end = at + content.len();
        }
        at += line.len();
    }
    end
}

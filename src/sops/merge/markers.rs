//! Conflicts in a plaintext, between markers as git sets them.

use zeroize::Zeroizing;

use super::{Sides, pieces};

/// The characters that markers are made of: before ours, base and theirs, and behind theirs.
const SIGNS: [u8; 4] = *b"<|=>";
/// What stands behind them.
const NAMES: [&str; 4] = [" ours", " base", "", " theirs"];

/// A text with conflicts between markers.
pub struct Marked {
    /// The text.
    pub text: Zeroizing<Vec<u8>>,
    size: usize,
}

/// Puts markers around what differs. The markers have the given number of signs, or more where a line of the text
/// could be taken for one.
#[must_use]
pub fn marked(texts: &Sides<Zeroizing<Vec<u8>>>, size: usize) -> Marked {
    let all = [&texts.ours, &texts.base, &texts.theirs];
    let lines = all.map(|text| text.split_inclusive(|byte| *byte == b'\n').collect::<Vec<_>>());
    let longest = lines.iter().flatten().map(|line| run(line)).max().unwrap_or(0);
    let size = size.max(longest + 1);
    let [ours, base, theirs] = &lines;
    let pieces = pieces(base, ours, theirs);
    let markers = SIGNS.len() * (size + NAMES[3].len() + 2);
    // As large as it may become, for a text that grows leaves pieces of itself behind in memory.
    let most = all.iter().map(|text| text.len() + 1).sum::<usize>() + pieces.len() * markers;
    let mut text = Zeroizing::new(Vec::with_capacity(most));
    for piece in pieces {
        let [ours, base, theirs] =
            [ours[piece.ours].concat(), base[piece.base].concat(), theirs[piece.theirs].concat()]
                .map(Zeroizing::new);
        if ours == theirs {
            text.extend_from_slice(&ours);
            continue;
        }
        for (at, part) in [Some(ours), Some(base), Some(theirs), None].into_iter().enumerate() {
            text.extend(std::iter::repeat_n(SIGNS[at], size));
            text.extend_from_slice(NAMES[at].as_bytes());
            text.push(b'\n');
            let part = part.as_deref().map(Vec::as_slice).unwrap_or_default();
            text.extend_from_slice(part);
            if !part.is_empty() && !part.ends_with(b"\n") {
                text.push(b'\n');
            }
        }
    }
    Marked { text, size }
}

impl Marked {
    /// Whether one of the markers is in a text still.
    #[must_use]
    pub fn remain_in(&self, text: &[u8]) -> bool {
        text.split(|byte| *byte == b'\n').any(|line| run(line) == self.size)
    }
}

/// How many signs of one kind a line starts with.
fn run(line: &[u8]) -> usize {
    match line.first() {
        Some(first) if SIGNS.contains(first) => line.iter().take_while(|byte| *byte == first).count(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(ours: &str, base: &str, theirs: &str) -> Sides<Zeroizing<Vec<u8>>> {
        let [ours, base, theirs] = [ours, base, theirs].map(|text| Zeroizing::new(text.as_bytes().to_vec()));
        Sides { ours, base, theirs }
    }

    #[test]
    fn only_what_differs_is_between_markers() {
        let marked = marked(&texts("a: 1\nb: 2\nc: 3\n", "a: 1\nb: 0\nc: 3\n", "a: 1\nc: 3\n"), 7);
        assert_eq!(
            std::str::from_utf8(&marked.text).unwrap(),
            "a: 1\n<<<<<<< ours\nb: 2\n||||||| base\nb: 0\n=======\n>>>>>>> theirs\nc: 3\n"
        );
        assert!(marked.remain_in(&marked.text));
        assert!(!marked.remain_in(b"a: 1\nb: 2\nc: <<<<<<< ours\n"));
        assert!(marked.remain_in(b"a: 1\n=======\n"));
    }

    #[test]
    fn markers_are_longer_than_what_looks_like_them() {
        let marked = marked(&texts("=======\nx", "=======\ny\n", "=======\nz\n"), 7);
        let text = std::str::from_utf8(&marked.text).unwrap();
        assert_eq!(text, "=======\n<<<<<<<< ours\nx\n|||||||| base\ny\n========\nz\n>>>>>>>> theirs\n");
        assert!(!marked.remain_in(b"=======\nx\n"));
    }
}

//! Conflict markers as git writes them (`merge.conflictStyle=diff3`): writing them, and reading them back.

use zeroize::Zeroizing;

use super::{Sides, pieces};

/// The characters of the markers before ours, base and theirs, and after theirs.
const SIGNS: [u8; 4] = *b"<|=>";
/// The labels after them.
const NAMES: [&str; 4] = [" ours", " base", "", " theirs"];
/// git's shortest marker.
const SHORTEST: usize = 7;

/// A text with conflicts between markers.
pub struct Marked {
    /// The text.
    pub text: Zeroizing<Vec<u8>>,
    size: usize,
}

/// A text with markers around the lines on which the sides disagree. Markers have the given length, or more if a line
/// of the text looks like a marker.
#[must_use]
pub fn marked<T: AsRef<[u8]>>(texts: &Sides<T>, size: usize) -> Marked {
    between_markers(texts, size, "", |[ours, _, theirs]| ours == theirs)
}

/// A text with markers around all lines that differ, and a note in the first line of each conflict. [`conflicted`]
/// reads the three texts back exactly.
#[must_use]
pub fn recorded<T: AsRef<[u8]>>(texts: &Sides<T>, size: usize, note: &str) -> Marked {
    between_markers(texts, size, note, |[ours, base, theirs]| ours == theirs && ours == base)
}

fn between_markers<T: AsRef<[u8]>>(
    texts: &Sides<T>,
    size: usize,
    note: &str,
    agreed: impl Fn([&[u8]; 3]) -> bool,
) -> Marked {
    let all = [&texts.ours, &texts.base, &texts.theirs].map(AsRef::as_ref);
    let lines = all.map(|text| text.split_inclusive(|byte| *byte == b'\n').collect::<Vec<_>>());
    let longest = lines.iter().flatten().map(|line| run(line)).max().unwrap_or(0);
    let size = size.max(longest + 1);
    let [ours, base, theirs] = &lines;
    let pieces = pieces(base, ours, theirs);
    let markers = SIGNS.len() * (size + NAMES[3].len() + 2) + note.len();
    // Allocated at its maximum size, because a text that grows leaves copies behind in memory.
    let most = all.iter().map(|text| text.len() + 1).sum::<usize>() + pieces.len() * markers;
    let mut text = Zeroizing::new(Vec::with_capacity(most));
    for piece in pieces {
        let [ours, base, theirs] =
            [ours[piece.ours].concat(), base[piece.base].concat(), theirs[piece.theirs].concat()]
                .map(Zeroizing::new);
        if agreed([&ours, &base, &theirs]) {
            text.extend_from_slice(&ours);
            continue;
        }
        for (at, part) in [Some(ours), Some(base), Some(theirs), None].into_iter().enumerate() {
            text.extend(std::iter::repeat_n(SIGNS[at], size));
            text.extend_from_slice(NAMES[at].as_bytes());
            text.extend_from_slice(if at == 0 { note.as_bytes() } else { b"" });
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

/// The three versions in a text with conflict markers; `None` if there are none, or not whole ones. git's own markers
/// are read as well; if they leave out the base, the base has nothing in each conflict.
#[must_use]
pub fn conflicted(text: &[u8]) -> Option<Sides<Zeroizing<Vec<u8>>>> {
    let lines = || text.split_inclusive(|byte| *byte == b'\n');
    let is = |line: &[u8], at: usize, size: usize| {
        let behind = line.get(size).copied().unwrap_or(b'\n');
        line.first() == Some(&SIGNS[at])
            && run(line) == size
            && (behind == b' ' || behind.is_ascii_whitespace())
    };
    let size = lines().find(|line| run(line) >= SHORTEST && is(line, 0, run(line))).map(run)?;
    // As large as they may become: what grows leaves pieces of itself behind in memory.
    let side = || Zeroizing::new(Vec::with_capacity(text.len()));
    let mut sides = Sides { ours: side(), base: side(), theirs: side() };
    // Which side a line belongs to; all of them outside of conflicts.
    let mut side = None;
    for line in lines() {
        side = match side {
            None if is(line, 0, size) => Some(0),
            Some(0) if is(line, 1, size) => Some(1),
            Some(0 | 1) if is(line, 2, size) => Some(2),
            Some(2) if is(line, 3, size) => None,
            side => {
                for (at, text) in
                    [&mut sides.ours, &mut sides.base, &mut sides.theirs].into_iter().enumerate()
                {
                    if side.is_none_or(|side| side == at) {
                        text.extend_from_slice(line);
                    }
                }
                side
            }
        };
    }
    side.is_none().then_some(sides)
}

impl Marked {
    /// Whether a text still has one of the markers.
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

    #[test]
    fn each_side_is_read_back_as_it_was() {
        for (ours, base, theirs) in [
            ("a: 1\nb: 2\nc: 3\n", "a: 1\nb: 0\nc: 3\n", "a: 1\nc: 3\n"),
            ("=======\nx\n", "=======\ny\n", "=======\nz\n"),
            ("a\nb\nc\nd\n", "", "a\nB\nc\nD\n"),
            ("only\n", "", ""),
            ("a\nb\n", "b\n", "b\nc\n"),
            ("same\nb\n", "other\nb\n", "same\nc\n"),
        ] {
            let texts = texts(ours, base, theirs);
            let marked = recorded(&texts, 7, " (a note)");
            assert!(conflicted(&marked.text).unwrap() == texts, "{ours}");
        }
        assert!(conflicted(b"a\n<<<<<<< ours\nb\n").is_none());
        assert!(conflicted(b"a\n=======\nb\n").is_none());
        let of_git = conflicted(b"a\n<<<<<<< HEAD\nb\n=======\nc\n>>>>>>> x\nd\n").unwrap();
        assert!(of_git == texts("a\nb\nd\n", "a\nd\n", "a\nc\nd\n"));
    }
}

//! Cutting three sequences into pieces: elements that are the same in all three, and what lies between them.

use std::hash::Hash;
use std::ops::Range;

use similar::{Algorithm, DiffOp, capture_diff_slices};

/// A piece of three sequences; any of the ranges may be empty, but not all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// In ours.
    pub ours: Range<usize>,
    /// In the base.
    pub base: Range<usize>,
    /// In theirs.
    pub theirs: Range<usize>,
}

/// Cuts three sequences into pieces that follow each other. Elements that are the same in all three are a piece
/// each; what is between them is one.
#[must_use]
pub fn pieces<T: Eq + Hash>(base: &[T], ours: &[T], theirs: &[T]) -> Vec<Piece> {
    let (in_ours, in_theirs) = (matches(base, ours), matches(base, theirs));
    let mut pieces = Vec::new();
    let (mut o, mut b, mut t) = (0, 0, 0);
    for (at, both) in in_ours.iter().zip(&in_theirs).enumerate() {
        let (Some(ours), Some(theirs)) = both else { continue };
        let between = Piece { ours: o..*ours, base: b..at, theirs: t..*theirs };
        pieces.extend(Some(between).filter(|piece| !piece.is_empty()));
        (o, b, t) = (ours + 1, at + 1, theirs + 1);
        pieces.push(Piece { ours: *ours..o, base: at..b, theirs: *theirs..t });
    }
    let rest = Piece { ours: o..ours.len(), base: b..base.len(), theirs: t..theirs.len() };
    pieces.extend(Some(rest).filter(|piece| !piece.is_empty()));
    pieces
}

impl Piece {
    fn is_empty(&self) -> bool {
        self.ours.is_empty() && self.base.is_empty() && self.theirs.is_empty()
    }
}

/// For each element of one sequence its place in the other, where it is there still.
fn matches<T: Eq + Hash>(from: &[T], to: &[T]) -> Vec<Option<usize>> {
    let mut matches = vec![None; from.len()];
    for op in capture_diff_slices(Algorithm::Myers, from, to) {
        if let DiffOp::Equal { old_index, new_index, len } = op {
            for step in 0..len {
                matches[old_index + step] = Some(new_index + step);
            }
        }
    }
    matches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(base: &str, ours: &str, theirs: &str) -> Vec<String> {
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        pieces(&letters(base), &letters(ours), &letters(theirs))
            .into_iter()
            .map(|piece| format!("{}|{}|{}", &ours[piece.ours], &base[piece.base], &theirs[piece.theirs]))
            .collect()
    }

    #[test]
    fn what_is_between_the_same_is_one_piece() {
        assert_eq!(cut("abc", "abc", "abc"), ["a|a|a", "b|b|b", "c|c|c"]);
        assert_eq!(cut("abc", "xbc", "aby"), ["x|a|a", "b|b|b", "c|c|y"]);
        assert_eq!(cut("ab", "aXb", "abY"), ["a|a|a", "X||", "b|b|b", "||Y"]);
        assert_eq!(cut("abc", "", "ac"), ["|abc|ac"]);
        assert_eq!(cut("", "x", "y"), ["x||y"]);
        assert!(cut("", "", "").is_empty());
    }
}

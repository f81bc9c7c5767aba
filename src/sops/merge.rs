//! Three-way merge of plaintext documents: mappings by key, lists by content, comments with the key below them.
//!
//! What only one side changed is taken from that side. It is a conflict if both changed it in different ways, or if one
//! changed what the other removed. The result is three trees, which differ only in the conflicts.

mod markers;
pub(super) mod order;
mod pieces;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;

use super::fingerprint::{self, Fingerprint, same};
use super::key_path::{KeyPath, Step};
use super::tree::{Branch, Item, Tree, Value};
use order::{Block, split};

pub use markers::{Marked, conflicted, marked, recorded};
pub use pieces::{Piece, pieces};

/// One thing as each side has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sides<T> {
    /// What we have.
    pub ours: T,
    /// What both started from.
    pub base: T,
    /// What they have.
    pub theirs: T,
}

/// A merge's result.
#[derive(Debug)]
pub struct Merged {
    /// The documents with every conflict as one side has it; without conflicts all three are the same.
    pub trees: Sides<Tree>,
    /// Where the sides do not agree, in the order of the document, each once.
    pub conflicts: Vec<Conflict>,
}

/// A conflict's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The document, counted from 1; `None` if the file has only one.
    pub document: Option<usize>,
    /// The value in it, or what holds the values or comments that differ.
    pub path: KeyPath,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.document {
            Some(document) => write!(f, "document {document}, {}", self.path),
            None => self.path.fmt(f),
        }
    }
}

impl<T> Sides<T> {
    /// The same on all sides.
    fn all(value: &T) -> Self
    where
        T: Clone,
    {
        Self { ours: value.clone(), base: value.clone(), theirs: value.clone() }
    }

    fn map<U>(self, change: impl Fn(T) -> U) -> Sides<U> {
        Sides { ours: change(self.ours), base: change(self.base), theirs: change(self.theirs) }
    }
}

impl<T> Sides<Vec<T>> {
    fn extend(&mut self, more: Self) {
        self.ours.extend(more.ours);
        self.base.extend(more.base);
        self.theirs.extend(more.theirs);
    }
}

/// Merges two sides. Without a base, what only one side has was added by it.
#[must_use]
pub fn merge(base: Option<&Tree>, ours: &Tree, theirs: &Tree) -> Merged {
    let values = |tree: &Tree| tree.documents.iter().cloned().map(Value::Map).collect::<Vec<_>>();
    let (ours, theirs) = (values(ours), values(theirs));
    let nothing = || vec![Value::Map(Branch::new()); ours.len().min(theirs.len())];
    let base = base.map_or_else(nothing, values);
    let mut merge = Merge::default();
    let documents = merge.sequence(&base, &ours, &theirs, Elements::Numbered);
    let trees = documents.map(|documents| Tree {
        documents: documents
            .into_iter()
            .filter_map(|document| if let Value::Map(branch) = document { Some(branch) } else { None })
            .collect(),
    });
    let several = [&base, &ours, &theirs].iter().any(|documents| documents.len() > 1);
    let mut conflicts = Vec::new();
    for steps in merge.conflicts {
        let (document, path) = match steps.split_first() {
            Some((Step::Index(document), path)) if several => (Some(document + 1), path),
            Some((_, path)) => (None, path),
            None => (None, &[][..]),
        };
        let conflict = Conflict { document, path: KeyPath::from(path.to_vec()) };
        if !conflicts.contains(&conflict) {
            conflicts.push(conflict);
        }
    }
    Merged { trees, conflicts }
}

/// Whether the elements of a list may be merged one by one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Elements {
    /// If there are as many as before, and none of them moved.
    OneByOne,
    /// The same, but a side may have appended more: documents are identified by their number.
    Numbered,
    /// Never: they are lines of one text.
    Whole,
}

/// A walk through three documents at once.
#[derive(Default)]
struct Merge {
    path: Vec<Step>,
    conflicts: Vec<Vec<Step>>,
}

type Missing<'a> = Option<&'a Value>;

impl Merge {
    fn value(&mut self, base: Missing<'_>, ours: Missing<'_>, theirs: Missing<'_>) -> Sides<Option<Value>> {
        if let Some(agreed) = agreed(base, ours, theirs) {
            return Sides::all(&agreed.cloned());
        }
        match (ours, theirs) {
            (Some(Value::Map(ours)), Some(Value::Map(theirs))) => {
                let none = Branch::new();
                let base = if let Some(Value::Map(base)) = base { base } else { &none };
                self.branch(base, ours, theirs).map(|branch| Some(Value::Map(branch)))
            }
            (Some(Value::List(ours)), Some(Value::List(theirs))) => {
                let base = if let Some(Value::List(base)) = base { base.as_slice() } else { &[] };
                self.sequence(base, ours, theirs, Elements::OneByOne).map(|items| Some(Value::List(items)))
            }
            _ => {
                self.conflicts.push(self.path.clone());
                Sides { ours: ours.cloned(), base: base.cloned(), theirs: theirs.cloned() }
            }
        }
    }

    fn branch(&mut self, base: &[Item], ours: &[Item], theirs: &[Item]) -> Sides<Branch> {
        let ((base, base_tail), (ours, ours_tail), (theirs, theirs_tail)) =
            (split(base), split(ours), split(theirs));
        let mut merged = Sides::<Branch>::default();
        for [base, ours, theirs] in order::in_order(&base, &ours, &theirs) {
            let Some(block) = ours.or(theirs) else { continue };
            self.path.push(Step::from(block.key));
            merged.extend(self.block(base, ours, theirs));
            self.path.pop();
        }
        merged.extend(self.comments(base_tail, ours_tail, theirs_tail));
        merged
    }

    /// A key with its value and the comments above it.
    fn block(
        &mut self,
        base: Option<&Block<'_>>,
        ours: Option<&Block<'_>>,
        theirs: Option<&Block<'_>>,
    ) -> Sides<Branch> {
        let (Some(here), Some(there)) = (ours, theirs) else {
            // One side has removed it, or the other one has made it.
            let (left, base) = (ours.or(theirs).map(Block::items), base.map(Block::items));
            return match (left, base) {
                (None, _) => Sides::default(),
                (Some(added), None) => Sides::all(&added),
                (Some(left), Some(base))
                    if fingerprint::of_branch(&left) == fingerprint::of_branch(&base) =>
                {
                    Sides::default()
                }
                (Some(left), Some(base)) => {
                    self.conflicts.push(self.path.clone());
                    let (ours, theirs) = if ours.is_some() { (left, vec![]) } else { (vec![], left) };
                    Sides { ours, base, theirs }
                }
            };
        };
        let lead = base.map_or(&[][..], |block| block.lead);
        let lead = self.comments(lead, here.lead, there.lead);
        let value = self.value(base.map(|block| block.value), Some(here.value), Some(there.value));
        let whole = |lead: Branch, value: Option<Value>| -> Branch {
            lead.into_iter().chain(value.map(|value| Item::Entry(here.key.clone(), value))).collect()
        };
        Sides {
            ours: whole(lead.ours, value.ours),
            base: whole(lead.base, value.base),
            theirs: whole(lead.theirs, value.theirs),
        }
    }

    fn comments(&mut self, base: &[Item], ours: &[Item], theirs: &[Item]) -> Sides<Branch> {
        let values = |items: &[Item]| {
            items
                .iter()
                .filter_map(|item| match item {
                    Item::Comment(comment) => Some(Value::Comment(comment.clone())),
                    Item::Entry(..) => None,
                })
                .collect::<Vec<_>>()
        };
        self.sequence(&values(base), &values(ours), &values(theirs), Elements::Whole).map(|values| {
            values
                .into_iter()
                .filter_map(|value| {
                    if let Value::Comment(comment) = value { Some(Item::Comment(comment)) } else { None }
                })
                .collect()
        })
    }

    fn sequence(
        &mut self,
        base: &[Value],
        ours: &[Value],
        theirs: &[Value],
        elements: Elements,
    ) -> Sides<Vec<Value>> {
        let prints = |items: &[Value]| items.iter().map(fingerprint::of).collect::<Vec<_>>();
        let prints = Sides { ours: prints(ours), base: prints(base), theirs: prints(theirs) };
        let mut merged = Sides::<Vec<Value>>::default();
        for Piece { ours: o, base: b, theirs: t } in pieces(&prints.base, &prints.ours, &prints.theirs) {
            let (ours, base, theirs) = (&ours[o.clone()], &base[b.clone()], &theirs[t.clone()]);
            let [o_is, b_is, t_is] = [&prints.ours[o.clone()], &prints.base[b], &prints.theirs[t]];
            if o_is == t_is || t_is == b_is {
                merged.extend(Sides::all(&ours.to_vec()));
            } else if o_is == b_is {
                merged.extend(Sides::all(&theirs.to_vec()));
            } else if elements.pair(b_is, o_is, t_is) {
                for (index, ((ours, base), theirs)) in ours.iter().zip(base).zip(theirs).enumerate() {
                    self.path.push(Step::Index(o.start + index));
                    let one = self.value(Some(base), Some(ours), Some(theirs));
                    self.path.pop();
                    merged.extend(one.map(|value| value.into_iter().collect()));
                }
                let more = ours.iter().chain(theirs.get(ours.len()..).unwrap_or_default()).skip(base.len());
                merged.extend(Sides::all(&more.cloned().collect()));
            } else {
                self.conflicts.push(self.path.clone());
                merged.extend(Sides { ours: ours.to_vec(), base: base.to_vec(), theirs: theirs.to_vec() });
            }
        }
        merged
    }
}

/// The merged value, if both sides have the same or only one of them changed it.
fn agreed<'a>(base: Missing<'a>, ours: Missing<'a>, theirs: Missing<'a>) -> Option<Missing<'a>> {
    if same(ours, theirs) || same(theirs, base) {
        Some(ours)
    } else if same(ours, base) {
        Some(theirs)
    } else {
        None
    }
}

impl Elements {
    /// Whether every element of a piece can be merged with those in its place.
    fn pair(self, base: &[Fingerprint], ours: &[Fingerprint], theirs: &[Fingerprint]) -> bool {
        let count = base.len();
        let (more, fewer) = (ours.len().max(theirs.len()), ours.len().min(theirs.len()));
        let counts = match self {
            Self::Whole => false,
            Self::OneByOne => more == count && fewer == count,
            Self::Numbered => fewer == count,
        };
        // An existing element in a different place may have moved, or may be a new one.
        let known: HashSet<_> = base.iter().collect();
        let stays = |(before, after): (&Fingerprint, &Fingerprint)| before == after || !known.contains(after);
        counts && [ours, theirs].iter().all(|side| base.iter().zip(*side).all(stays))
    }
}

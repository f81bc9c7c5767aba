//! The keys of merged mappings: which ones correspond, and their order.

use std::collections::{HashMap, HashSet};

use super::super::fingerprint::{self, Fingerprint};
use super::super::tree::{Item, Key, Value};

/// A key, and which of its occurrences: keys may repeat.
pub(in super::super) type Id = (Fingerprint, usize);

/// A key with its value and the comments above it.
#[derive(Clone, Copy)]
pub(in super::super) struct Block<'a> {
    pub(in super::super) id: Id,
    pub(super) lead: &'a [Item],
    pub(in super::super) key: &'a Key,
    pub(in super::super) value: &'a Value,
    whole: &'a [Item],
}

impl Block<'_> {
    /// All of it.
    pub(super) fn items(&self) -> Vec<Item> {
        self.whole.to_vec()
    }
}

/// The keys of a mapping, and the comments after the last one.
pub(in super::super) fn split(items: &[Item]) -> (Vec<Block<'_>>, &[Item]) {
    let mut counts = HashMap::new();
    let mut blocks = Vec::new();
    let mut start = 0;
    for (at, item) in items.iter().enumerate() {
        if let Item::Entry(key, value) = item {
            let print = fingerprint::of_key(key);
            let count = counts.entry(print).or_insert(0);
            blocks.push(Block {
                id: (print, *count),
                lead: &items[start..at],
                key,
                value,
                whole: &items[start..=at],
            });
            *count += 1;
            start = at + 1;
        }
    }
    (blocks, &items[start..])
}

/// Every key that ours or theirs has, as base, ours and theirs have it.
///
/// The order is that of ours, unless only theirs reordered the common keys. A key that the other side added comes after
/// the key that it follows there.
pub(super) fn in_order<'a, 'b>(
    base: &'b [Block<'a>],
    ours: &'b [Block<'a>],
    theirs: &'b [Block<'a>],
) -> Vec<[Option<&'b Block<'a>>; 3]> {
    let by_id = |blocks: &'b [Block<'a>]| -> HashMap<Id, &'b Block<'a>> {
        blocks.iter().map(|block| (block.id, block)).collect()
    };
    let sides = [by_id(base), by_id(ours), by_id(theirs)];
    let common = |blocks: &[Block<'_>]| -> Vec<Id> {
        let ids = blocks.iter().map(|block| block.id);
        ids.filter(|id| sides.iter().all(|side| side.contains_key(id))).collect()
    };
    let was = common(base);
    let (first, second) =
        if common(ours) == was && common(theirs) != was { (theirs, ours) } else { (ours, theirs) };
    let mut ids: Vec<Id> = first.iter().map(|block| block.id).collect();
    let mut known: HashSet<Id> = ids.iter().copied().collect();
    let of_second: HashSet<Id> = second.iter().map(|block| block.id).collect();
    let mut before = None;
    for block in second {
        if known.insert(block.id) {
            let mut at =
                before.and_then(|before| ids.iter().position(|id| *id == before)).map_or(0, |at| at + 1);
            // What the first side has added at the same place comes first.
            while ids.get(at).is_some_and(|id| !of_second.contains(id)) {
                at += 1;
            }
            ids.insert(at, block.id);
        }
        before = Some(block.id);
    }
    ids.iter().map(|id| [0, 1, 2].map(|side: usize| sides[side].get(id).copied())).collect()
}

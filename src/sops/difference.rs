//! The differences between two documents, by key path: like `diff` for plain files.

use std::collections::HashMap;

use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::fingerprint;
use super::key_path::{KeyPath, Step};
use super::merge::order::{Block, split};
use super::tree::{Branch, Tree, Value};

/// One place that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference<'a> {
    /// The document, counted from 1.
    pub document: usize,
    /// The value, or what holds the comments that differ. Positions in lists are those of the newer side, of
    /// removed items those of the older.
    pub path: KeyPath,
    /// How it changed.
    pub change: Change<'a>,
}

/// How a value changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<'a> {
    /// It is new.
    Added(&'a Value),
    /// It was removed.
    Removed(&'a Value),
    /// It has a different value.
    Changed(&'a Value, &'a Value),
    /// The values are the same, but their order or the comments between them are not.
    Rearranged,
}

/// Everything that differs, in the order of the newer document.
#[must_use]
pub fn differences<'a>(old: &'a Tree, new: &'a Tree) -> Vec<Difference<'a>> {
    let none = const { &Branch::new() };
    let mut found = Vec::new();
    for index in 0..old.documents.len().max(new.documents.len()) {
        let mut walk = Walk { document: index + 1, path: Vec::new(), found: Vec::new() };
        let document = |tree: &'a Tree| tree.documents.get(index).unwrap_or(none);
        walk.branch(document(old), document(new));
        found.extend(walk.found);
    }
    found
}

struct Walk<'a> {
    document: usize,
    path: Vec<Step>,
    found: Vec<Difference<'a>>,
}

impl<'a> Walk<'a> {
    fn tell(&mut self, change: Change<'a>) {
        self.found.push(Difference { document: self.document, path: self.path.clone().into(), change });
    }

    fn at(&mut self, step: Step, look: impl FnOnce(&mut Self)) {
        self.path.push(step);
        look(self);
        self.path.pop();
    }

    fn value(&mut self, old: &'a Value, new: &'a Value) {
        if fingerprint::of(old) == fingerprint::of(new) {
            return;
        }
        match (old, new) {
            (Value::Map(old), Value::Map(new)) => self.branch(old, new),
            (Value::List(old), Value::List(new)) => self.list(old, new),
            _ => self.tell(Change::Changed(old, new)),
        }
    }

    fn branch(&mut self, old: &'a Branch, new: &'a Branch) {
        let before = self.found.len();
        let ((was, _), (is, _)) = (split(old), split(new));
        let by_id = |blocks: &[Block<'a>]| blocks.iter().map(|block| (block.id, *block)).collect();
        let (in_old, in_new): (HashMap<_, _>, HashMap<_, _>) = (by_id(&was), by_id(&is));
        for block in was.iter().filter(|block| !in_new.contains_key(&block.id)) {
            self.at(block.key.into(), |walk| walk.tell(Change::Removed(block.value)));
        }
        for block in &is {
            self.at(block.key.into(), |walk| match in_old.get(&block.id) {
                None => walk.tell(Change::Added(block.value)),
                Some(old) => walk.value(old.value, block.value),
            });
        }
        if self.found.len() == before && fingerprint::of_branch(old) != fingerprint::of_branch(new) {
            self.tell(Change::Rearranged);
        }
    }

    fn list(&mut self, old: &'a [Value], new: &'a [Value]) {
        let prints = |items: &[Value]| items.iter().map(fingerprint::of).collect::<Vec<_>>();
        let before = self.found.len();
        for op in capture_diff_slices(Algorithm::Myers, &prints(old), &prints(new)) {
            let (was, is) = (op.old_range(), op.new_range());
            if matches!(op, DiffOp::Equal { .. }) {
                continue;
            }
            // What was replaced by as many is compared one by one.
            let paired = if was.len() == is.len() { is.len() } else { 0 };
            for offset in 0..paired {
                let (old, new) = (&old[was.start + offset], &new[is.start + offset]);
                match (old, new) {
                    (Value::Comment(_), Value::Comment(_)) => {}
                    _ => self.at(Step::Index(is.start + offset), |walk| walk.value(old, new)),
                }
            }
            for (range, items, change) in [
                (was.skip(paired), old, Change::Removed as fn(&'a Value) -> Change<'a>),
                (is.skip(paired), new, Change::Added),
            ] {
                for index in range {
                    if !matches!(items[index], Value::Comment(_)) {
                        self.at(Step::Index(index), |walk| walk.tell(change(&items[index])));
                    }
                }
            }
        }
        if self.found.len() == before {
            self.tell(Change::Rearranged);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::tree;
    use super::super::tree::{Comment, Item};
    use super::*;

    fn told(old: &Tree, new: &Tree) -> Vec<String> {
        differences(old, new)
            .iter()
            .map(|one| {
                let sign = match one.change {
                    Change::Added(_) => '+',
                    Change::Removed(_) => '-',
                    Change::Changed(..) => '~',
                    Change::Rearranged => '=',
                };
                format!("{}{sign}{}", one.document, one.path)
            })
            .collect()
    }

    fn of(old: &str, new: &str) -> Vec<String> {
        told(&tree(old), &tree(new))
    }

    #[test]
    fn keys_that_came_went_and_changed_are_told() {
        assert_eq!(of(r#"{"a":1}"#, r#"{"a":1}"#), Vec::<String>::new());
        assert_eq!(
            of(r#"{"a":1,"b":{"c":1,"d":1},"e":1}"#, r#"{"b":{"c":2,"d":1,"f":{}},"e":"1"}"#),
            [r#"1-["a"]"#, r#"1~["b"]["c"]"#, r#"1+["b"]["f"]"#, r#"1~["e"]"#]
        );
        assert_eq!(of(r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#), ["1=the top level"]);
    }

    #[test]
    fn lists_are_compared_by_content() {
        assert_eq!(of(r#"{"l":[1,2,3]}"#, r#"{"l":[0,1,2,3]}"#), [r#"1+["l"][0]"#]);
        assert_eq!(of(r#"{"l":[1,2,3]}"#, r#"{"l":[1,3]}"#), [r#"1-["l"][1]"#]);
        assert_eq!(of(r#"{"l":[1,{"a":1}]}"#, r#"{"l":[1,{"a":2}]}"#), [r#"1~["l"][1]["a"]"#]);
    }

    #[test]
    fn documents_and_comments_count() {
        let (one, other) = (tree(r#"{"a":1}"#), tree(r#"{"b":1}"#));
        let two = Tree { documents: one.documents.iter().chain(&other.documents).cloned().collect() };
        assert_eq!(told(&one, &two), [r#"2+["b"]"#]);
        let mut commented = one.clone();
        commented.documents[0].push(Item::Comment(Comment::line("c")));
        assert_eq!(told(&one, &commented), ["1=the top level"]);
        let list = |items: Vec<Value>| Tree { documents: vec![vec![Item::entry("l", Value::List(items))]] };
        let line = |text: &str| Value::Comment(Comment::line(text));
        assert_eq!(told(&list(vec![line("a")]), &list(vec![line("b")])), [r#"1=["l"]"#]);
    }
}

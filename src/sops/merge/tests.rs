//! Merges of small documents case by case, and of random ones by their properties.

use proptest::prelude::*;

use super::super::testing::{json, tree};
use super::super::tree::{Comment, Key};
use super::*;

/// What a merge of three documents in JSON gives, and the paths in conflict.
fn merged(base: &str, ours: &str, theirs: &str) -> (String, Vec<String>) {
    let merged = merge(Some(&tree(base)), &tree(ours), &tree(theirs));
    let conflicts = merged.conflicts.iter().map(Conflict::to_string).collect();
    (json(&merged.trees.ours.documents[0]).to_string(), conflicts)
}

#[track_caller]
fn clean(base: &str, ours: &str, theirs: &str, want: &str) {
    assert_eq!(merged(base, ours, theirs), (want.to_owned(), vec![]));
}

#[track_caller]
fn conflicts(base: &str, ours: &str, theirs: &str, paths: &[&str]) {
    assert_eq!(merged(base, ours, theirs).1, paths);
    assert_eq!(merged(base, theirs, ours).1, paths);
}

#[test]
fn different_keys_merge_however_deep() {
    clean(r#"{"a":1,"b":2}"#, r#"{"a":3,"b":2}"#, r#"{"a":1,"b":4}"#, r#"{"a":3,"b":4}"#);
    clean(
        r#"{"m":{"x":{"p":1,"q":2}}}"#,
        r#"{"m":{"x":{"p":1}}}"#,
        r#"{"m":{"x":{"p":1,"q":2,"r":3},"y":1}}"#,
        r#"{"m":{"x":{"p":1,"r":3},"y":1}}"#,
    );
    clean(r#"{}"#, r#"{"m":{"a":1}}"#, r#"{"m":{"b":2}}"#, r#"{"m":{"a":1,"b":2}}"#);
    clean(r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":2}"#, r#"{"a":2}"#);
    clean(r#"{"a":1,"b":1}"#, r#"{"b":1}"#, r#"{"b":1}"#, r#"{"b":1}"#);
    clean(r#"{"a":1,"b":1}"#, r#"{"b":1}"#, r#"{"a":1,"b":2}"#, r#"{"b":2}"#);
}

#[test]
fn the_same_key_changed_twice_is_a_conflict() {
    conflicts(r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#, &[r#"["a"]"#]);
    conflicts(r#"{"m":{"a":1}}"#, r#"{"m":{"a":"1"}}"#, r#"{"m":{"a":1.0}}"#, &[r#"["m"]["a"]"#]);
    conflicts(r#"{"a":1,"b":1}"#, r#"{"b":1}"#, r#"{"a":2,"b":1}"#, &[r#"["a"]"#]);
    conflicts(r#"{}"#, r#"{"n":1}"#, r#"{"n":2}"#, &[r#"["n"]"#]);
    conflicts(r#"{"a":1}"#, r#"{"a":{"x":1}}"#, r#"{"a":[1]}"#, &[r#"["a"]"#]);
    conflicts(r#"{"m":{"a":1}}"#, r#"{}"#, r#"{"m":{"a":1,"b":2}}"#, &[r#"["m"]"#]);
}

#[test]
fn every_side_of_a_conflict_can_be_read() {
    let merged = merge(
        Some(&tree(r#"{"a":1,"b":1,"c":1}"#)),
        &tree(r#"{"a":2,"b":2,"c":1}"#),
        &tree(r#"{"a":3,"c":4}"#),
    );
    let all = merged.trees.map(|tree| json(&tree.documents[0]).to_string());
    assert_eq!(all.ours, r#"{"a":2,"b":2,"c":4}"#);
    assert_eq!(all.base, r#"{"a":1,"b":1,"c":4}"#);
    assert_eq!(all.theirs, r#"{"a":3,"c":4}"#);
}

#[test]
fn lists_merge_by_content() {
    let list = |items: &str| format!(r#"{{"l":[{items}]}}"#);
    let clean = |base, ours, theirs, want| clean(&list(base), &list(ours), &list(theirs), &list(want));
    clean("1,2,3", "0,1,2,3", "1,2,3,4", "0,1,2,3,4");
    clean("1,2,3", "1,3", "1,2,3,4", "1,3,4");
    clean("1,2", "8,2", "1,9", "8,9");
    clean("1,1,1", "1,1", "1,1,1", "1,1");
    clean(
        r#"{"n":1,"v":1},{"n":2,"v":1}"#,
        r#"{"n":1,"v":9},{"n":2,"v":1}"#,
        r#"{"n":1,"v":1,"w":2},{"n":2,"v":1}"#,
        r#"{"n":1,"v":9,"w":2},{"n":2,"v":1}"#,
    );
    let conflicts = |base, ours, theirs, path| conflicts(&list(base), &list(ours), &list(theirs), &[path]);
    conflicts("1,2", "1,2,3", "1,2,4", r#"["l"]"#);
    conflicts("1,2", "1,8", "1,9", r#"["l"][1]"#);
    // Nobody can say whether an element moved or changed.
    conflicts("1,2", "2,1", "1,9", r#"["l"]"#);
}

#[test]
fn additions_stand_by_what_they_stood_by() {
    clean(
        r#"{"a":1,"c":1,"z":1}"#,
        r#"{"a":1,"c":1,"ours":1,"z":1}"#,
        r#"{"first":1,"a":1,"b":1,"c":1,"theirs":1,"z":1,"last":1}"#,
        r#"{"first":1,"a":1,"b":1,"c":1,"ours":1,"theirs":1,"z":1,"last":1}"#,
    );
    // The order is theirs where only they have changed it.
    clean(r#"{"a":1,"b":1}"#, r#"{"a":1,"b":2}"#, r#"{"b":1,"a":1}"#, r#"{"b":2,"a":1}"#);
}

fn comment(text: &str) -> Item {
    Item::Comment(Comment::line(text))
}

fn one(branch: Branch) -> Tree {
    Tree { documents: vec![branch] }
}

#[test]
fn comments_go_with_what_they_stand_above() {
    let base = one(vec![comment("a"), Item::entry("a", Value::Int(1)), comment("end")]);
    let ours = one(vec![
        comment("a"),
        Item::entry("a", Value::Int(2)),
        comment("n"),
        Item::entry("n", Value::Null),
        comment("end"),
    ]);
    let theirs =
        one(vec![comment("about a"), comment("more"), Item::entry("a", Value::Int(1)), comment("the end")]);
    let merged = merge(Some(&base), &ours, &theirs);
    assert_eq!(merged.conflicts, []);
    let want = one(vec![
        comment("about a"),
        comment("more"),
        Item::entry("a", Value::Int(2)),
        comment("n"),
        Item::entry("n", Value::Null),
        comment("the end"),
    ]);
    assert_eq!(merged.trees.theirs, want);
    let ours = one(vec![comment("b"), Item::entry("a", Value::Int(1)), comment("end")]);
    assert_eq!(merge(Some(&base), &ours, &theirs).conflicts.len(), 1);
}

#[test]
fn documents_merge_each_with_its_own() {
    let documents =
        |texts: &[&str]| Tree { documents: texts.iter().flat_map(|text| tree(text).documents).collect() };
    let base = documents(&[r#"{"a":1,"x":1}"#, r#"{"b":1}"#]);
    let ours = documents(&[r#"{"a":2,"x":1}"#, r#"{"b":1}"#]);
    let theirs = documents(&[r#"{"a":1,"x":2}"#, r#"{"b":3}"#, r#"{"c":1}"#]);
    let merged = merge(Some(&base), &ours, &theirs);
    assert_eq!(merged.conflicts, []);
    assert_eq!(merged.trees.ours, documents(&[r#"{"a":2,"x":2}"#, r#"{"b":3}"#, r#"{"c":1}"#]));
    let ours = documents(&[r#"{"a":1,"x":1}"#, r#"{"b":2}"#]);
    let theirs = documents(&[r#"{"a":1,"x":1}"#, r#"{"b":3}"#]);
    let conflicts = merge(Some(&base), &ours, &theirs).conflicts;
    assert_eq!(conflicts.iter().map(Conflict::to_string).collect::<Vec<_>>(), [r#"document 2, ["b"]"#]);
}

#[test]
fn without_a_base_everything_was_added() {
    let merged = merge(None, &tree(r#"{"a":1,"b":1}"#), &tree(r#"{"a":1,"b":2,"c":3}"#));
    assert_eq!(merged.conflicts.len(), 1);
    assert_eq!(json(&merged.trees.ours.documents[0]).to_string(), r#"{"a":1,"b":1,"c":3}"#);
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        (0..4i64).prop_map(Value::Int),
        "[a-c]{0,2}".prop_map(|text| Value::str(text.as_str())),
        Just(Value::Null),
        Just(Value::Float(f64::NAN)),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let item = prop_oneof![4 => inner.clone(), 1 => Just(Value::Comment(Comment::line(" c")))];
        prop_oneof![
            proptest::collection::vec(item, 0..5).prop_map(Value::List),
            branches(inner).prop_map(Value::Map),
        ]
    })
}

/// Few keys, so that they meet; some of them twice.
fn branches(values: impl Strategy<Value = Value>) -> impl Strategy<Value = Branch> {
    let entry = ("[a-f]", values).prop_map(|(key, value)| Item::entry(key.as_str(), value));
    let line = "[x-z]".prop_map(|text| comment(&text));
    proptest::collection::vec(prop_oneof![3 => entry, 1 => line], 0..6)
}

fn trees() -> impl Strategy<Value = Tree> {
    proptest::collection::vec(branches(values()), 1..3).prop_map(|documents| Tree { documents })
}

fn is(one: &Tree, other: &Tree) -> bool {
    one.documents.iter().map(fingerprint::of_branch).eq(other.documents.iter().map(fingerprint::of_branch))
}

/// Every value by its path; where keys repeat, the last one's.
fn leaves(branch: &Branch) -> std::collections::BTreeMap<String, String> {
    branch
        .iter()
        .filter_map(|item| match item {
            Item::Entry(Key::Str(key), value) => {
                Some((format!("{}", Step::Key(key.clone())), format!("{:?}", fingerprint::of(value))))
            }
            _ => None,
        })
        .collect()
}

proptest! {
    #[test]
    fn an_unchanged_side_gives_the_other(base in trees(), other in trees()) {
        for (ours, theirs) in [(&base, &other), (&other, &base), (&other, &other)] {
            let merged = merge(Some(&base), ours, theirs);
            prop_assert!(merged.conflicts.is_empty());
            prop_assert!(is(&merged.trees.ours, &other));
        }
    }

    #[test]
    fn readings_differ_only_where_there_is_a_conflict(base in trees(), ours in trees(), theirs in trees()) {
        for base in [Some(&base), None] {
            let merged = merge(base, &ours, &theirs);
            let all = [&merged.trees.base, &merged.trees.theirs].iter().all(|tree| is(tree, &merged.trees.ours));
            prop_assert!(!merged.conflicts.is_empty() || all);
        }
    }

    #[test]
    fn changes_of_different_keys_commute(
        base in proptest::collection::btree_map("[a-h]", values(), 0..8),
        changes in proptest::collection::btree_map("[a-h]", (any::<bool>(), proptest::option::of(values())), 0..8),
    ) {
        let document = |side: Option<bool>| {
            let mut entries = base.clone();
            for (key, (is_ours, value)) in &changes {
                if side.is_none() || side == Some(*is_ours) {
                    match value {
                        Some(value) => drop(entries.insert(key.clone(), value.clone())),
                        None => drop(entries.remove(key)),
                    }
                }
            }
            one(entries.into_iter().map(|(key, value)| Item::entry(key.as_str(), value)).collect())
        };
        let base_tree = one(base.iter().map(|(key, value)| Item::entry(key.as_str(), value.clone())).collect());
        let (ours, theirs, both) = (document(Some(true)), document(Some(false)), document(None));
        for (ours, theirs) in [(&ours, &theirs), (&theirs, &ours)] {
            let merged = merge(Some(&base_tree), ours, theirs);
            prop_assert!(merged.conflicts.is_empty(), "{:?}", merged.conflicts);
            prop_assert_eq!(leaves(&merged.trees.ours.documents[0]), leaves(&both.documents[0]));
        }
    }
}
